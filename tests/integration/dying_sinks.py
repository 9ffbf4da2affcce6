"""``python -m tests.integration.dying_sinks sinks …``: dies by SIGKILL at a step of its work.

The command line is the usual one. The data directory's ``steps`` has a step in each line: each process
takes the first one off, and dies when it comes there; one that finds no line lives.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from capistream.cli import main
from sinks.client import PlatformClient
from sinks.group import Group
from sinks.journal import FlushThenCommit, TransactionalCommit
from sinks.ledger import Ledger

STEPS_FILE: Final = "steps"
STEPS: Final = {
    "before the post": (PlatformClient, "send", None, False),
    "after the post": (PlatformClient, "send", None, True),
    "after the ledger": (Ledger, "note", None, True),
    "in the transaction, before its records": (TransactionalCommit, "_produce", None, False),
    "in the transaction, after a record": (TransactionalCommit, "_produce", None, True),
    "before the offsets": (TransactionalCommit, "_insist", "send_offsets_to_transaction", False),
    "after the offsets": (TransactionalCommit, "_insist", "send_offsets_to_transaction", True),
    "before the commit": (TransactionalCommit, "_insist", "commit_transaction", False),
    "after the commit": (TransactionalCommit, "_insist", "commit_transaction", True),
    "after the outcomes": (FlushThenCommit, "commit", None, True),
    "before offsets of their own": (Group, "commit_soon", None, True),
}
"""Step → the call that it is a moment of: of which class, which method, with which Kafka call as its
first argument, and whether the moment is after it."""


def _take_step(directory: Path) -> str | None:
    path = directory / STEPS_FILE
    first, _, rest = path.read_text().partition("\n")
    path.write_text(rest)
    return first or None


def _die_at(step: str) -> None:
    owner, method, kafka_call, is_after = STEPS[step]
    original: Any = getattr(owner, method)

    def is_meant(arguments: tuple[Any, ...]) -> bool:
        return kafka_call is None or arguments[1].__name__ == kafka_call

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def asynchronous(*arguments: Any, **named: Any) -> Any:
        if not is_after:
            die()
        answer = await original(*arguments, **named)
        die()
        return answer

    def synchronous(*arguments: Any, **named: Any) -> Any:
        if is_meant(arguments) and not is_after:
            die()
        answer = original(*arguments, **named)
        if is_meant(arguments):
            die()
        return answer

    is_coroutine = original.__code__.co_flags & 0x80
    setattr(owner, method, asynchronous if is_coroutine else synchronous)


if __name__ == "__main__":
    step = _take_step(Path(sys.argv[sys.argv.index("--data") + 1]))
    if step is not None:
        _die_at(step)
    main()
