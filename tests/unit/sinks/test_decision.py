"""The records that a decision makes, and where a delivery waits that cannot be sent now."""

import pytest

from platforms.base import Fate, Verdict
from runtime.settings import SinksSettings
from schemas.dead_letter import DeadLetter
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind
from schemas.record import Record
from sinks.batcher import Pending
from sinks.decision import Decision, decide, parked_record, retry_record
from sinks.offsets import Position
from tests.outcomes import outcome_of

NOW_MS = 1_767_225_600_000
SETTINGS = SinksSettings(retry_seconds=(60, 600, 3600), parked_seconds=1800)
DELIVERY = Delivery("dom", "dst", "meta", "e-1", "Purchase", 1, 2, "raw-events-0-7")
POSITION = Position(("t1-deliveries.meta", 3), 17, 1)


def pending(attempt: int = 0, told: OutcomeKind | None = None) -> Pending:
    delivery = DELIVERY._replace(attempt=attempt)
    return Pending(delivery, b"{}", POSITION, 0.0, delivery.name, told)


def decided(verdict: Verdict, told: OutcomeKind | None = None) -> Decision:
    (decision,) = decide([pending(told=told)], verdict)
    return decision


def waiting(record: Record) -> Delivery:
    assert (record.key, record.value) == (DELIVERY.key(), b"{}")
    return Delivery.from_headers(record.headers)


def test_what_was_taken_is_an_outcome_and_nothing_else() -> None:
    (record,) = decided(Verdict(Fate.DELIVERED)).final_records(NOW_MS)
    outcome = outcome_of(record)
    assert (outcome.outcome_id, outcome.outcome) == (DELIVERY.name, "delivered")
    assert outcome.at == NOW_MS


def test_what_was_refused_has_a_dead_letter_of_the_record_that_it_was() -> None:
    verdict = Verdict(Fate.REJECTED, code="100", detail="Refused.")
    told, dead = decided(verdict).final_records(NOW_MS)
    outcome = outcome_of(told)
    assert (outcome.outcome, outcome.code, outcome.detail) == ("rejected", "100", "Refused.")
    letter = DeadLetter.from_record(dead.key, dead.value, dead.headers)
    assert (letter.topic, letter.partition, letter.offset) == ("t1-deliveries.meta", 3, 17)
    assert (letter.key, letter.value, letter.detail) == (DELIVERY.key(), b"{}", "Refused.")
    assert Delivery.from_headers(letter.origin_headers) == DELIVERY


def test_of_what_is_not_decided_yet_nothing_can_be_said() -> None:
    with pytest.raises(AssertionError, match="refused_batch"):
        decided(Verdict(Fate.REFUSED_BATCH)).outcome(NOW_MS)


@pytest.mark.parametrize(
    ("told", "is_news"),
    [(None, True), (OutcomeKind.RETRYING, True), (OutcomeKind.PARKED, False)],
)
def test_what_is_on_record_is_no_news(told: OutcomeKind | None, is_news: bool) -> None:
    assert decided(Verdict(Fate.MISCONFIGURED), told).is_news is is_news


@pytest.mark.parametrize(
    ("attempt", "held_seconds", "tier"),
    [(0, -5.0, 1), (0, 60.0, 1), (0, 61.0, 2), (1, 0.0, 2), (2, 61.0, 3), (9, 0.0, 3), (0, 1e6, 3)],
)
def test_it_waits_in_its_own_tier_or_in_one_that_is_long_enough(
    attempt: int, held_seconds: float, tier: int
) -> None:
    record = retry_record(pending(attempt), SETTINGS, NOW_MS, held_seconds)
    assert record.topic == f"deliveries.meta.retry.{tier}"
    assert waiting(record) == DELIVERY._replace(
        attempt=attempt + 1,
        not_before=NOW_MS + round(SETTINGS.retry_seconds[tier - 1] * 1000),
        origins=(POSITION.name,),
    )


def test_what_is_parked_was_not_tried() -> None:
    record = parked_record(pending(attempt=2), SETTINGS, NOW_MS)
    assert record.topic == "deliveries.meta.parked"
    assert waiting(record) == DELIVERY._replace(
        attempt=2, not_before=NOW_MS + 1_800_000, origins=(POSITION.name,)
    )
