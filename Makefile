# Every target sets up .venv by itself when it is missing or stale; nothing else is needed than
# Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many files of tests run at a time. Each worker has processes of its own, up to a Kafka.
WORKERS ?= 2
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-kafka chaos check fmt lock bench clean

help:  ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## Make .venv with everything that the other targets need.

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "capistream needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@# The lock is whole: nothing is resolved here, for older pips then look past its pins.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## Run the whole road once and show what became of each event. KEEP=1 stays up.
	$(BIN)/capistream demo $(if $(KEEP),--keep)

up: setup  ## Run the stack on embedded parts until Ctrl-C.
	$(BIN)/capistream up --embedded

test: setup  ## Run every test on the embedded stack.
	$(PYTEST)

test-kafka: setup  ## Run the integration tests on Apache Kafka (Docker, or Java and Maven).
	REQUIRE_KAFKA=1 $(PYTEST) tests/integration -p no:randomly

chaos: setup  ## Let everything fail in turn under load, and account for every event.
	$(BIN)/pytest tests/chaos -p no:randomly

check: setup  ## Format, lint, types, import walls, dependencies.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

fmt: setup  ## Format, and mend what can be mended by itself.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup  ## Pin the newest versions that pyproject.toml allows.
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
	  pyproject.toml -o requirements.lock

bench: setup  ## Measure, as ratios side by side.
	$(BIN)/python -m benchmarks

clean:  ## Remove what was made.
	rm -rf $(VENV) .capistream .cache build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
