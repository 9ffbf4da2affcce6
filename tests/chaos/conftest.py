"""A world for each seed, and the reports of all of them at the end."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.report import Report, write
from tests.chaos.world import World
from tests.chaos.world import world as started_world

SEEDS: Final = [int(seed) for seed in (os.environ.get("CHAOS_SEEDS") or "1").split(",")]
"""``CHAOS_SEEDS``: the runs, with commas."""

_REPORTS: Final = pytest.StashKey[list[Report]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing has run yet."""
    config.stash[_REPORTS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run for each seed."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", SEEDS)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A system of the test's own, on parts of its own."""
    with started_world(tmp_path) as started:
        yield started


@pytest.fixture
def reports(pytestconfig: pytest.Config) -> list[Report]:
    """What the runs came to; each adds its own."""
    return pytestconfig.stash[_REPORTS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the reports; ``CHAOS_REPORT`` names a file that gets them as JSON."""
    reports = config.stash[_REPORTS]
    for report in reports:
        terminalreporter.section(f"chaos, seed {report.seed}, {report.log}")
        for line in report.lines():
            terminalreporter.line(line)
    if path := os.environ.get("CHAOS_REPORT"):
        write(reports, Path(path))
