"""The jars of a Kafka broker, from Maven Central, kept for the next run."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.kafka.node import KafkaUnavailableError

_POM: Final = Path(__file__).with_name("pom.xml")
_ROOT: Final = Path(__file__).parents[2]
_FETCH_TIMEOUT_SECONDS: Final = 600


def kafka_version() -> str:
    """The version of Kafka that tests run on."""
    named = re.search(r"<kafka\.version>(.+?)</kafka\.version>", _POM.read_text())
    if named is None:
        raise KafkaUnavailableError(f"{_POM} names no kafka.version")
    return named[1]


def jar_directory() -> Path:
    """Where the jars are, or will be: named by what the pom asks for, so never out of date.

    Kept under ``.cache/kafka``, or in ``KAFKA_CACHE`` where that is set.
    """
    cache = Path(os.environ.get("KAFKA_CACHE") or _ROOT / ".cache" / "kafka")
    digest = hashlib.sha256(_POM.read_bytes()).hexdigest()
    return cache.absolute() / f"{kafka_version()}-{digest[:8]}"


def fetched_jars() -> Path:
    """The directory of the jars, fetched unless they are there; all of them or none.

    Raises ``KafkaUnavailableError`` when there is no Maven, or it fails.
    """
    directory = jar_directory()
    if directory.is_dir():
        return directory
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError("mvn is not on the PATH, and the jars are not in the cache")
    directory.parent.mkdir(parents=True, exist_ok=True)
    # One at a time: two Mavens get into each other's way in the repository that they share.
    with (directory.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetching-") as scratch:
                complete = Path(scratch) / "jars"
                _copy_dependencies(complete)
                complete.rename(directory)
    return directory


def _copy_dependencies(directory: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
    run = subprocess.run(
        [*command, f"-DoutputDirectory={directory}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_FETCH_TIMEOUT_SECONDS,
        check=False,
    )
    if run.returncode != 0:
        raise KafkaUnavailableError(f"Maven could not fetch the jars:\n{run.stdout[-4000:]}")
