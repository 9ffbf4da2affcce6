"""A name that one process has at a time and that the process after it has again."""

import fcntl
from pathlib import Path
from typing import IO, Final

from runtime.errors import UnavailableError
from runtime.ids import new_id

_IDENTITY_FILE: Final = "identity"
_MOST_SLOTS: Final = 64


class Slot:
    """A numbered place of a data directory, held until the process ends, however it ends.

    Kafka ends what an earlier process of the same name left open: a process that takes over a
    place takes over its name, and two that run at a time never share one.
    """

    def __init__(self, directory: Path, process: str) -> None:
        """Take the first free place of ``process`` in ``directory``.

        Raises ``UnavailableError`` when there is none.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(_MOST_SLOTS):
            lock = (directory / f"{process}-{number}.lock").open("w")
            if _is_taken(lock):
                self._lock = lock
                self.name = f"{process}-{_identity(directory)}-{number}"
                return
            lock.close()
        raise UnavailableError(
            f"{_MOST_SLOTS} {process} processes run in {directory}; choose another with --data"
        )

    def release(self) -> None:
        """Give the place to somebody else."""
        self._lock.close()


def _is_taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _identity(directory: Path) -> str:
    """What tells this directory from every other one on the cluster."""
    with (directory / _IDENTITY_FILE).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: one process gives the name
        file.seek(0)
        name = file.read()
        if not name:
            name = new_id("node")
            file.write(name)
    return name
