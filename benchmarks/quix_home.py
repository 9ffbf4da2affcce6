"""An environment for Quix Streams alone, made at the first use and kept under ``.cache/quix``."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

QUIX: Final = "quixstreams==3.28.1"
OURS: Final = (
    *("babel", "hiredis", "orjson", "phonenumbers", "pycountry", "redis", "structlog"),
    "typing-extensions",
)
"""What our transforms need besides what comes with Quix, in the versions that run here. Pydantic is
the newest that Quix allows."""

ROOT: Final = Path(__file__).parent.parent
HOME: Final = ROOT / ".cache" / "quix"
INSTALL_SECONDS: Final = 300.0


class NoQuixError(Exception):
    """The environment could not be made; the message says why."""


def quix_python() -> Path:
    """The environment's interpreter, in an environment that is made if there is none.

    Raises ``NoQuixError``.
    """
    python = HOME / "bin" / "python"
    wanted = "\n".join([QUIX, *(f"{name}=={version(name)}" for name in OURS)])
    made_of = HOME / "made-of.txt"
    if made_of.is_file() and made_of.read_text() == wanted:
        return python
    print(f"making an environment for {QUIX} in {HOME}", file=sys.stderr, flush=True)
    try:
        _run(sys.executable, "-m", "venv", "--clear", str(HOME))
        _run(str(python), "-m", "pip", "install", "--quiet", *wanted.split())
    except (OSError, subprocess.SubprocessError) as error:
        raise NoQuixError(f"no environment for {QUIX}: {error}") from error
    made_of.write_text(wanted)
    return python


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr, timeout=INSTALL_SECONDS)
