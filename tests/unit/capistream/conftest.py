"""What the tests of commands share."""

from pathlib import Path

import pytest

from capistream.embedded import ensure_secrets
from tests.unit.capistream.commands import Commands


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """The command line, in a data directory of its own."""
    ensure_secrets(tmp_path)
    return Commands(tmp_path)
