"""``pytest tests/golden --update-golden`` writes the expected halves anew; read the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option; it exists only when these tests are asked for by path."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether the golden files are to be rewritten rather than compared with."""
    return bool(request.config.getoption("--update-golden", default=False))
