"""How long to wait before the next attempt. Pure but for the dice, which are handed in."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter over a span that doubles, so that many processes do not come back at once."""

    base_seconds: float
    cap_seconds: float
    dice: Callable[[], float]
    """A number in [0, 1)."""

    def __call__(self, failures: int, asked_seconds: float | None = None) -> float:
        """Seconds to wait after so many failures in a row (from 1). What the platform asked for is
        obeyed as it stands."""
        if asked_seconds is not None:
            return max(asked_seconds, 0.0)
        span = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 30))
        return span * self.dice()
