"""What the audit process does for ``dispatch-status``: it notes what became of dispatch keys."""

from collections.abc import Sequence
from typing import Final

from redis.exceptions import RedisError

from audit.read import read_outcome
from runtime.dispatches import Dispatches
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord

_MARK: Final = b'"dispatchKey"'
"""In the bytes of every outcome that has one. Most outcomes have none and are not even parsed."""


async def note_dispatches(dispatches: Dispatches, records: Sequence[ConsumedRecord]) -> None:
    """Note the outcomes among records of ``audit`` that have a dispatch key; noting them again
    changes nothing.

    Raises ``UnavailableError`` when Redis did not take them.
    """
    marked = [record.value for record in records if _MARK in (record.value or b"")]
    outcomes = [outcome for value in marked if (outcome := read_outcome(value)) is not None]
    try:
        await dispatches.note(outcomes)
    except RedisError as error:
        raise UnavailableError(f"Redis does not answer: {error}") from error
