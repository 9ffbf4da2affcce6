"""How long to wait before the next attempt. Pure but for the dice, which are handed in."""

from collections.abc import Callable


def backoff_seconds(
    attempt: int,
    *,
    base_seconds: float,
    cap_seconds: float,
    asked_seconds: float | None,
    dice: Callable[[], float],
) -> float:
    """Seconds to wait after failed attempt number ``attempt`` (from 1).

    What the platform asked for is obeyed as it stands; else full jitter over a doubling span, so
    that many processes do not come back at once. ``dice`` answers a number in [0, 1).
    """
    if asked_seconds is not None:
        return max(asked_seconds, 0.0)
    span = min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 30))
    return span * dice()
