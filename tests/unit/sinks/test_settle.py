"""The table of fates."""

import pytest

from platforms.base import Fate, Verdict
from schemas.outcome import OutcomeKind, Reason
from sinks.settle import Next, Settlement, settle

TABLE = {
    Fate.DELIVERED: Settlement(Next.FINISH, OutcomeKind.DELIVERED),
    Fate.REJECTED: Settlement(
        Next.FINISH, OutcomeKind.REJECTED, Reason.REFUSED_BY_PLATFORM, dead_letter=True
    ),
    Fate.REFUSED_BATCH: Settlement(Next.APART, None),
    Fate.THROTTLED: Settlement(Next.SLOWER, OutcomeKind.RETRYING, Reason.THROTTLED),
    Fate.RETRYABLE: Settlement(Next.LATER, OutcomeKind.RETRYING, Reason.PLATFORM_UNAVAILABLE),
    Fate.MISCONFIGURED: Settlement(Next.PARK, OutcomeKind.PARKED, Reason.MISCONFIGURED),
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


def test_each_way_to_go_on_is_taken_by_some_fate() -> None:
    assert {settlement.next for settlement in TABLE.values()} == {*Next}
