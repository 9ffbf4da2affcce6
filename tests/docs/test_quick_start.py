"""The sections of the README that are to be run, as they stand."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from capistream.embedded import free_port
from runtime.settings import PREFIX
from tests.docs.markdown import ROOT, Block, blocks, section

README: Final = (ROOT / "README.md").read_text()
PORTS: Final = ("8080", "8090")
DIVIDER: Final = "--- next block ---"
SECONDS: Final = 150


def executable(heading: str) -> list[tuple[Block, Block | None]]:
    """The ``sh`` blocks of a section, each with the ``text`` block that says what it prints."""
    pairs = []
    found = blocks(section(README, heading))
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "sh":
            shows = following is not None and following.language == "text"
            pairs.append((block, following if shows else None))
    return pairs


def pattern(text: str) -> re.Pattern[str]:
    """What must be printed: the text, where ``…`` stands for anything in a line."""
    lines = (re.escape(line.rstrip()).replace("…", ".*") for line in text.strip().splitlines())
    return re.compile("\n".join(lines))


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """An activated environment, without settings of whoever runs the tests."""
    programs = tmp_path / "bin"
    programs.mkdir()
    capistream = programs / "capistream"
    capistream.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m capistream "$@"\n')
    capistream.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    return inherited | {
        "PATH": f"{programs}:{inherited['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }


@pytest.mark.integration
@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("heading", ["Quick start", "Management API"])
def test_it_prints_what_it_says(
    tmp_path: Path, shell_environment: dict[str, str], heading: str
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    pairs = executable(heading)
    script = f"echo '{DIVIDER}'\n".join(block.text for block, _ in pairs)
    for port in PORTS:
        script = script.replace(port, str(free_port()))

    shell = subprocess.Popen(
        ["bash", "-eu"],
        cwd=tmp_path,
        env=shell_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = shell.communicate(script, timeout=SECONDS)
    finally:
        # A shell that failed on its way leaves the system that it started.
        with suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM)
    log = tmp_path / "capistream.log"
    told = f"{errors}\n{log.read_text()[-3000:] if log.exists() else ''}"

    assert shell.returncode == 0, told
    printed = output.split(f"{DIVIDER}\n")
    assert len(printed) == len(pairs)
    for (block, expected), text in zip(pairs, printed, strict=True):
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        wanted = pattern(expected.text if expected else "")
        assert wanted.fullmatch(lines), f"{block.text}\nprinted\n{lines}\n{told}"
    assert not (tmp_path / ".capistream" / "processes.json").exists(), "the system did not stop"
