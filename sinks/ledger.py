"""The sent ledger: what a platform has taken, so that it is not posted again.

A record may come a second time: this process, or another one, ended between the platform's answer
and the commit of the outcome, or the streams stage made the delivery again. The ledger is asked before
every request and written right after its answer. What lies between the two, a kill in just that
moment, is the one window in which a delivery can be posted twice.

Beside each delivery stands where the record lay that was worked, before it waited anywhere. A record
that finds itself there has come again, and lacks its outcome; one that finds another has been made
again, and the other record has its outcome, or will have it.

It is a cache in Redis. While Redis is away deliveries go out unasked: a repeat needs a second fault then,
and platforms know the event id.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from runtime.clock import Clock
from runtime.logs import get_logger
from sinks.batcher import Pending

log = get_logger(__name__)

_AWAY_SECONDS: Final = 5.0
"""How long Redis is not asked again when it did not answer."""

_TAKEN: Final = "+"
_NOT_TAKEN: Final = "-"

_NOTE_SCRIPT: Final = """
for i, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[i + 1], 'EX', ARGV[1])
end
"""


class Known(StrEnum):
    """What the ledger says of a record."""

    NOTHING = "nothing"
    TAKEN = "taken"
    """The platform has it; its outcome is not on record."""
    COPY = "copy"
    """The same delivery was worked from another record, which has the outcome."""


class Ledger:
    """What was worked, by the names of the deliveries (``Delivery.name``)."""

    def __init__(
        self, client: redis.asyncio.Redis, clock: Clock, kept_seconds: int, prefix: str = ""
    ) -> None:
        """``client`` is one whose answers are text (``runtime.redis``)."""
        self._client = client
        self._clock = clock
        self._kept_seconds = kept_seconds
        self._prefix = f"{prefix}sent:"
        self._note = client.register_script(_NOTE_SCRIPT)
        self._away_until = 0.0

    async def ask(self, batch: Sequence[Pending]) -> list[Known]:
        """What is known of each; of all nothing when Redis is away."""
        found: Sequence[str | bytes | None] = [None] * len(batch)
        if batch and not self._is_away:
            try:
                found = await self._client.mget([self._prefix + one.name for one in batch])
            except RedisError as error:
                self._went_away(error)
        return [_known(mark, one) for mark, one in zip(found, batch, strict=True)]

    async def note(self, batch: Sequence[Pending], *, taken: bool) -> None:
        """These have their final outcomes now; ``taken``: the platform has them."""
        if not batch or self._is_away:
            return
        sign = _TAKEN if taken else _NOT_TAKEN
        keys = [self._prefix + one.name for one in batch]
        marks = [sign + one.origins[0] for one in batch]
        try:
            await self._note(keys=keys, args=[self._kept_seconds, *marks])
        except RedisError as error:
            self._went_away(error)

    @property
    def _is_away(self) -> bool:
        return self._clock.monotonic() < self._away_until

    def _went_away(self, error: RedisError) -> None:
        log.warning("The sent ledger cannot be asked; going on without it.", error=str(error))
        self._away_until = self._clock.monotonic() + _AWAY_SECONDS


def _known(mark: str | bytes | None, pending: Pending) -> Known:
    if not isinstance(mark, str):
        return Known.NOTHING
    if mark[1:] not in pending.origins:
        return Known.COPY
    return Known.TAKEN if mark[0] == _TAKEN else Known.NOTHING
