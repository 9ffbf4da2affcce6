"""Outcomes as people see them, that of an event as a whole among them."""

import pytest

from capistream.demo import _fates, _rows
from capistream.output import print_outcome
from platforms.registry import PLATFORMS
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind, Reason
from tests.outcomes import outcome_of

DELIVERY = Delivery("dom", "dst", "meta", "e-1", "Purchase", 1, 2, "raw-events-0-7")
DELIVERED = outcome_of(DELIVERY.outcome_record(OutcomeKind.DELIVERED, at=3))
WITHHELD = outcome_of(
    DELIVERY.outcome_record(OutcomeKind.SKIPPED, at=3, reason=Reason.BOT, detail="A program's.")
).model_copy(update={"destination_id": None, "platform": None, "source": "raw-events-0-8"})


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (DELIVERED, "delivered meta       Purchase         e-1\n"),
        (WITHHELD, "skipped   -          Purchase         e-1  bot  A program's.\n"),
    ],
)
def test_a_line_of_the_audit_topic(
    outcome: Outcome, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_outcome(outcome, as_json=False)
    assert capsys.readouterr().out == line


def test_what_goes_to_nobody_stands_under_every_platform_of_the_demo() -> None:
    first, second = _rows(["e-1", "e-1"], [WITHHELD, DELIVERED])
    assert first == {"meta": DELIVERED}
    assert second == dict.fromkeys(PLATFORMS, WITHHELD)
    assert _fates([WITHHELD, DELIVERED]) == len(PLATFORMS) + 1
