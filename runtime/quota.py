"""Where the month's forwarded events of an organisation are counted, in Redis.

The gateway counts an event when it takes it; the streams take back what turns out to be a repeat
or to go to nobody, and count what the gateway could not.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_HOUR_MS: Final = 3600 * 1000

QUOTA_KEPT_SECONDS: Final = 40 * 24 * 3600
"""Longer than any month, so that a count lives until nobody asks for it."""


def seconds_left(now_ms: int) -> int:
    """How long the calendar month (UTC) of ``now_ms`` still lasts, in whole seconds."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    year, month = divmod(now.year * 12 + now.month, 12)
    return int((datetime(year, month + 1, 1, tzinfo=UTC) - now).total_seconds()) + 1


def quota_key(org_id: str, received_at: int) -> str:
    """The counter of the calendar month (UTC) of ``received_at``, Unix milliseconds."""
    return f"quota:{org_id}:{_month(received_at // _HOUR_MS)}"


@lru_cache(maxsize=1024)
def _month(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * _HOUR_MS / 1000, UTC):%Y-%m}"
