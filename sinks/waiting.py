"""When deliveries that wait in a topic of their own may go on. Pure: it is told the time.

The topics are in the order of time: whatever lies first in a partition is due first, so a partition
whose first record is not due is left alone until then. Those that are parked go on earlier when a
destination of their platform is set anew: then everything that was parked before is looked at, and
what still cannot be sent is parked again, behind.
"""

from typing import Final

from schemas.delivery import Delivery

_SLACK_MS: Final = 2_000
"""How far the clocks and the news of the processes may be apart."""


class Waiting:
    """Who may go on, of what comes from the waiting topics."""

    def __init__(self, parked_seconds: float, releases_per_second: float) -> None:
        self._parked_ms = round(parked_seconds * 1000)
        self._per_ms = releases_per_second / 1000
        self._released_until: dict[str, int] = {}
        self._allowed = 0.0
        self._counted_at = 0

    def release(self, platform: str, now_ms: int) -> None:
        """Let everything of a platform that was parked until now go on."""
        self._released_until[platform] = now_ms + self._parked_ms + _SLACK_MS

    def delay_ms(self, delivery: Delivery, now_ms: int, *, is_parked: bool) -> int:
        """How long the delivery has to wait yet; 0: it may go on now."""
        horizon = self._released_until.get(delivery.platform, now_ms) if is_parked else now_ms
        late = delivery.not_before - max(horizon, now_ms)
        if late > 0:
            return delivery.not_before - now_ms
        return self._pace(now_ms) if is_parked else 0

    def _pace(self, now_ms: int) -> int:
        """So many a second, so that those that were parked for long leave room for the others."""
        elapsed, self._counted_at = now_ms - self._counted_at, now_ms
        most = max(1.0, self._per_ms * 1000)
        self._allowed = min(most, self._allowed + max(elapsed, 0) * self._per_ms)
        if self._allowed < 1:
            return max(1, round((1 - self._allowed) / self._per_ms))
        self._allowed -= 1
        return 0
