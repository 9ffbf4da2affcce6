"""The month in which an organisation's forwarded events are counted, and where: in Redis.

The gateway counts an event when it takes it; the streams take back what turns out to be a repeat
or to go to nobody, and count what the gateway could not.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

_HOUR_MS: Final = 3600 * 1000

QUOTA_KEPT_SECONDS: Final = 40 * 24 * 3600
"""Longer than any month, so that a count lives until nobody asks for it."""


class Period(NamedTuple):
    """A calendar month in UTC, by its first moment and that of the next one; Unix milliseconds."""

    since: int
    until: int

    @property
    def month(self) -> str:
        """``2026-11``."""
        return f"{_utc(self.since):%Y-%m}"

    @property
    def resets_on(self) -> str:
        """The first day of the next month, ``2026-12-01``."""
        return f"{_utc(self.until):%Y-%m-%d}"


def period(now_ms: int) -> Period:
    """The month that events are counted in at a moment."""
    now = _utc(now_ms)
    year, month = divmod(now.year * 12 + now.month, 12)
    first = datetime(now.year, now.month, 1, tzinfo=UTC)
    following = datetime(year, month + 1, 1, tzinfo=UTC)
    return Period(round(first.timestamp() * 1000), round(following.timestamp() * 1000))


def seconds_left(now_ms: int) -> int:
    """How long the month of ``now_ms`` still lasts, in whole seconds."""
    return (period(now_ms).until - now_ms) // 1000 + 1


def quota_key(org_id: str, received_at: int) -> str:
    """The counter of the calendar month (UTC) of ``received_at``, Unix milliseconds."""
    return f"quota:{org_id}:{_month(received_at // _HOUR_MS)}"


@lru_cache(maxsize=1024)
def _month(hour: int) -> str:
    return f"{_utc(hour * _HOUR_MS):%Y-%m}"


def _utc(moment_ms: int) -> datetime:
    return datetime.fromtimestamp(moment_ms / 1000, UTC)
