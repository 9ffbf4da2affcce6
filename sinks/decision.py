"""What was decided about a delivery, and the records that say so or carry it on. Pure: it is told the
time, in Unix milliseconds."""

from collections.abc import Sequence
from typing import NamedTuple

from platforms.base import Verdict
from runtime.settings import SinksSettings
from schemas.alert import Alert, AlertKind, alert_id
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.outcome import OutcomeKind, Reason
from schemas.record import Record
from schemas.topics import RETRY_TIERS, parked, retries
from sinks.batcher import Pending
from sinks.settle import Next, Settlement, settle


class Decision(NamedTuple):
    """What a verdict means for one delivery."""

    pending: Pending
    verdict: Verdict
    settlement: Settlement

    @property
    def is_news(self) -> bool:
        """Whether its passing outcome is not on record yet."""
        return self.pending.told is not self.settlement.outcome

    def outcome(self, at: int) -> Record:
        """What to put on record; for a settlement that has something to say."""
        settlement, verdict = self.settlement, self.verdict
        if settlement.outcome is None:
            raise AssertionError(f"nothing to say of {verdict.fate}")
        return self.pending.delivery.outcome_record(
            settlement.outcome,
            at=at,
            reason=settlement.reason,
            code=verdict.code,
            detail=verdict.detail,
            name=self.pending.name,
        )

    def final_records(self, at: int) -> list[Record]:
        """The final outcome, with a dead letter for what never arrives."""
        records = [self.outcome(at)]
        if self.settlement.dead_letter:
            records.append(self._dead_letter().to_record())
        return records

    def alert(self, revision: str, at: int) -> Alert:
        """That somebody has to mend the destination, which is set as ``revision`` says."""
        delivery = self.pending.delivery
        return Alert(
            alertId=alert_id(AlertKind.MISCONFIGURED, delivery.destination_id, revision, at),
            alert=AlertKind.MISCONFIGURED,
            domainId=delivery.domain_id,
            destinationId=delivery.destination_id,
            platform=delivery.platform,
            code=self.verdict.code,
            detail=self.verdict.detail,
            at=at,
        )

    def _dead_letter(self) -> DeadLetter:
        delivery, position = self.pending.delivery, self.pending.position
        topic, partition = position.partition
        outcome = self.settlement.outcome or OutcomeKind.REJECTED
        return DeadLetter(
            value=self.pending.payload,
            key=delivery.key(),
            topic=topic,
            partition=partition,
            offset=position.offset,
            reason=DeadLetterReason(outcome.value),
            detail=self.verdict.detail or self.verdict.code or "",
            origin_headers=tuple(
                (name, value if isinstance(value, bytes) else None)
                for name, value in delivery.to_headers()
            ),
        )


def decide(batch: Sequence[Pending], verdict: Verdict) -> list[Decision]:
    """The same verdict for all of these."""
    settlement = settle(verdict)
    return [Decision(pending, verdict, settlement) for pending in batch]


def decide_each(batch: Sequence[Pending], verdicts: Sequence[Verdict]) -> list[Decision]:
    """Each its own."""
    return [Decision(p, v, settle(v)) for p, v in zip(batch, verdicts, strict=True)]


def let_go(
    batch: Sequence[Pending], verdict: Verdict, outcome: OutcomeKind, reason: Reason
) -> list[Decision]:
    """To end these without asking the platform."""
    settlement = Settlement(Next.FINISH, outcome, reason, dead_letter=True)
    return [Decision(pending, verdict, settlement) for pending in batch]


def retry_record(pending: Pending, settings: SinksSettings, at: int, held_seconds: float) -> Record:
    """The delivery on the retry topic of its next tier, or on one that is long enough for a
    destination that is to be left alone for ``held_seconds``."""
    delivery, waits = pending.delivery, settings.retry_seconds
    last = len(waits) - 1
    long_enough = next((n for n, seconds in enumerate(waits) if seconds >= held_seconds), last)
    tier = min(max(delivery.attempt, long_enough), last)
    later = delivery._replace(
        origins=pending.origins,
        attempt=delivery.attempt + 1,
        not_before=at + round(waits[tier] * 1000),
    )
    return later.to_record(pending.payload, retries(delivery.platform, RETRY_TIERS[tier]))


def parked_record(pending: Pending, settings: SinksSettings, at: int) -> Record:
    """The delivery on its platform's topic of what is parked."""
    delivery = pending.delivery
    not_before = at + round(settings.parked_seconds * 1000)
    later = delivery._replace(origins=pending.origins, not_before=not_before)
    return later.to_record(pending.payload, parked(delivery.platform))
