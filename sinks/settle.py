"""Verdict → fate: the one place that says what happens to a delivery after an answer. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from platforms.base import Fate, Verdict
from schemas.outcome import OutcomeKind, Reason


class Next(StrEnum):
    """What the sink does with a delivery now."""

    FINISH = "finish"
    """Its outcome is final."""
    APART = "apart"
    """Send it again, apart from the others of its batch."""
    LATER = "later"
    """Send it again after a wait."""
    SLOWER = "slower"
    """The same, and the whole destination more slowly."""
    PARK = "park"
    """Keep it, and everything else for its destination, until somebody mends the destination."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a verdict leads to."""

    next: Next
    outcome: OutcomeKind | None
    """What to put on record; None when there is nothing to say yet."""
    reason: Reason | None = None
    dead_letter: bool = False


def settle(verdict: Verdict) -> Settlement:
    """What a verdict leads to, by the table of fates."""
    return _settlement(verdict.fate)


@cache
def _settlement(fate: Fate) -> Settlement:
    """The table (docs/adr/0004)."""
    match fate:
        case Fate.DELIVERED:
            return Settlement(Next.FINISH, OutcomeKind.DELIVERED)
        case Fate.REJECTED:
            return Settlement(
                Next.FINISH, OutcomeKind.REJECTED, Reason.REFUSED_BY_PLATFORM, dead_letter=True
            )
        case Fate.REFUSED_BATCH:
            return Settlement(Next.APART, None)
        case Fate.THROTTLED:
            return Settlement(Next.SLOWER, OutcomeKind.RETRYING, Reason.THROTTLED)
        case Fate.RETRYABLE:
            return Settlement(Next.LATER, OutcomeKind.RETRYING, Reason.PLATFORM_UNAVAILABLE)
        case Fate.MISCONFIGURED:
            return Settlement(Next.PARK, OutcomeKind.PARKED, Reason.MISCONFIGURED)
