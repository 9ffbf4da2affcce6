"""The table of fates, and the waits between attempts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.base import Fate, Verdict
from schemas.outcome import OutcomeKind, Reason
from sinks.backoff import backoff_seconds
from sinks.settle import Next, Settlement, settle

TABLE = {
    Fate.DELIVERED: Settlement(Next.FINISH, OutcomeKind.DELIVERED),
    Fate.REJECTED: Settlement(
        Next.FINISH, OutcomeKind.REJECTED, Reason.REFUSED_BY_PLATFORM, dead_letter=True
    ),
    Fate.REFUSED_BATCH: Settlement(Next.APART, None),
    Fate.THROTTLED: Settlement(Next.LATER, OutcomeKind.RETRYING, Reason.THROTTLED),
    Fate.RETRYABLE: Settlement(Next.LATER, OutcomeKind.RETRYING, Reason.PLATFORM_UNAVAILABLE),
    Fate.MISCONFIGURED: Settlement(Next.LATER, OutcomeKind.PARKED, Reason.MISCONFIGURED),
}


@pytest.mark.parametrize("fate", Fate)
def test_every_fate_leads_somewhere(fate: Fate) -> None:
    assert settle(Verdict(fate)) == TABLE[fate]


@pytest.mark.parametrize("fate", Fate)
def test_what_finishes_has_a_final_outcome_and_nothing_else_has(fate: Fate) -> None:
    found = settle(Verdict(fate))
    is_final = found.outcome is not None and found.outcome.is_final
    assert is_final == (found.next is Next.FINISH)
    assert not found.dead_letter or is_final


def wait(attempt: int, dice: float, asked: float | None = None) -> float:
    return backoff_seconds(
        attempt, base_seconds=0.5, cap_seconds=30, asked_seconds=asked, dice=lambda: dice
    )


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_stays_within_its_span(attempt: int, dice: float) -> None:
    assert 0 <= wait(attempt, dice) < 30
    assert wait(attempt, dice) <= wait(attempt + 1, dice)


def test_the_span_doubles_up_to_the_cap() -> None:
    assert [wait(attempt, 1) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 100), st.floats(0, 1), st.floats(-10, 10**6))
def test_what_the_platform_asks_for_is_obeyed(attempt: int, dice: float, asked: float) -> None:
    assert wait(attempt, dice, asked) == max(asked, 0)
