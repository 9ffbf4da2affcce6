"""What holds for all tests. Hypothesis profiles: short while developing, repeatable in CI, long at
night."""

import logging
import os
from collections.abc import Iterator
from typing import Final

import pytest
import structlog
from hypothesis import settings

pytest_plugins: Final = ["tests.databases"]

collect_ignore: Final = ["chaos"]
"""It takes minutes: run when it is named, as `make chaos` does."""

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=20_000, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """A command that is run in this process sets up logging of it: not that of the next test too,
    which could not see what its loggers say."""
    known, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if structlog.get_config() != known:
        structlog.configure(**known)
        structlog.contextvars.clear_contextvars()
        root.handlers = handlers
        root.setLevel(level)
