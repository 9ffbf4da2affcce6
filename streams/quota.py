"""The month's count of forwarded events, set right once it is known what became of them.

The gateway counts an event when it takes it, before anybody knows whether it is a repeat or goes
to nobody, and cannot count at all while Redis is away. What it got wrong is corrected here. The
count decides how much a shop may still send; the bill is the audit log, which loses nothing.
"""

from collections.abc import Mapping
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from runtime.logs import get_logger
from runtime.quota import QUOTA_KEPT_SECONDS
from schemas.raw_event import RawEvent

log = get_logger(__name__)

# An emptied Redis may hold less than is to be taken back.
_CORRECT_SCRIPT: Final = """
for i, key in ipairs(KEYS) do
  if redis.call('INCRBY', key, ARGV[i]) < 0 then
    redis.call('SET', key, 0)
  end
  redis.call('EXPIRE', key, ARGV[#KEYS + 1])
end
"""


def correction(raw: RawEvent, token: str, holder: str | None, *, forwarded: bool) -> int:
    """What one record changes in the count: 1, 0 or -1.

    ``token`` is where it lies, ``holder`` who had its claim before, ``forwarded`` whether a
    delivery came of it. A record that finds its own claim is worked again, and was put right the
    first time. A repeat has no claim of its own to tell by: worked again, it is given back again,
    in the shop's favour.
    """
    if holder == token:
        return 0
    return int(forwarded) - int(raw.counted)


class Quota:
    """Corrects the counters that the gateway reads."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str = "") -> None:
        self._script = client.register_script(_CORRECT_SCRIPT)
        self._prefix = prefix
        self._is_away = False

    async def correct(self, changes: Mapping[str, int]) -> None:
        """Add to each counter (``runtime.quota.quota_key``) its change, in one round trip.

        Takes no count below zero. Without Redis the changes are dropped: no event waits for them.
        """
        due = {key: change for key, change in changes.items() if change}
        if not due:
            return
        try:
            await self._script(
                keys=[self._prefix + key for key in due], args=[*due.values(), QUOTA_KEPT_SECONDS]
            )
        except RedisError as error:
            if not self._is_away:
                log.warning("The month's counts could not be corrected.", error=str(error))
            self._is_away = True
        else:
            self._is_away = False
