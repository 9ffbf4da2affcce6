"""The deliveries that one lane answers for: each by its name once, from when it is read until what became
of it is on its way onto the record."""

from collections.abc import Iterable, Sequence

from platforms.base import Fate, Verdict
from runtime.logs import get_logger
from schemas.outcome import OutcomeKind, Reason
from schemas.record import Record
from sinks.batcher import Pending
from sinks.decision import Decision, decide, let_go, parked_record, retry_record
from sinks.journal import Entry
from sinks.tools import LaneTools

log = get_logger(__name__)


class Custody:
    """What is queued or under way for one destination, and the ways out of it."""

    def __init__(self, tools: LaneTools) -> None:
        """Empty."""
        self._tools = tools
        self._here: dict[str, Pending] = {}
        """By name."""
        self._alerted: str | None = None
        """Which alert was raised last."""

    # In

    def take(self, pending: Pending) -> bool:
        """Answer for one more; False: it is here already. Then it is a copy that streams made again,
        or the record itself, whose partition was given away and has come back."""
        known = self._here.setdefault(pending.name, pending)
        if known is pending:
            return True
        known.copies.append(pending.position)
        known.origins = tuple(dict.fromkeys(known.origins + pending.origins))
        self._keep_ours(known)
        return False

    def still_ours(self, batch: list[Pending]) -> list[Pending]:
        """Leave what was given away meanwhile to the process that has it now."""
        ours = self._tools.ours([pending.position for pending in batch])
        if all(ours):
            return batch
        kept = [pending for pending in batch if self._keep_ours(pending)]
        for name in {pending.name for pending in batch} - {pending.name for pending in kept}:
            del self._here[name]
        return kept

    def _keep_ours(self, pending: Pending) -> bool:
        """Forget those of its records that are another process's by now; answers whether any is
        left."""
        places = pending.places
        ours = [
            one for one, is_ours in zip(places, self._tools.ours(places), strict=True) if is_ours
        ]
        if ours:
            pending.position, *pending.copies = ours
        return bool(ours)

    # Out

    def drop(self, batch: Iterable[Pending]) -> None:
        """Leave these to whoever reads them next: they lie in the log."""
        for pending in batch:
            del self._here[pending.name]

    def finish(self, decisions: Sequence[Decision]) -> None:
        """End these with final outcomes."""
        at = self._tools.clock.now_ms()
        self._leave((one.pending, one.final_records(at)) for one in decisions)

    def finish_copies(self, batch: Sequence[Pending]) -> None:
        """End these without a word: another record has the outcome."""
        self._leave((pending, ()) for pending in batch)

    def let_go(
        self, batch: Sequence[Pending], outcome: OutcomeKind, reason: Reason, detail: str
    ) -> None:
        """End these by a decision of ours, without asking the platform."""
        verdict = Verdict(Fate.REJECTED, detail=detail)
        self.finish(let_go(batch, verdict, outcome, reason))

    def retry(self, batch: Sequence[Pending], held_seconds: float) -> None:
        """Put these on a retry topic. The destination is to be left alone for ``held_seconds``."""
        self.tell(decide([one for one in batch if not one.told], Verdict(Fate.RETRYABLE)))
        at, settings = self._tools.clock.now_ms(), self._tools.settings
        self._leave((one, [retry_record(one, settings, at, held_seconds)]) for one in batch)

    def park(self, batch: Sequence[Pending], verdict: Verdict) -> None:
        """Keep these until the destination is mended."""
        at, settings = self._tools.clock.now_ms(), self._tools.settings
        leaving = []
        for one in decide(batch, verdict):
            records = [parked_record(one.pending, settings, at)]
            if one.is_news:
                records.append(one.outcome(at))
            leaving.append((one.pending, records))
        self._leave(leaving)

    def _leave(self, leaving: Iterable[tuple[Pending, Sequence[Record]]]) -> None:
        """Be done with these, and have that on record."""
        entries = []
        for pending, records in leaving:
            self._here.pop(pending.name, None)
            entries.append(Entry(records, pending.position, finishes=True))
            if pending.copies:
                entries += (Entry((), copy, finishes=True) for copy in pending.copies)
        self._tools.record(entries)

    # Meanwhile

    def tell(self, decisions: Iterable[Decision]) -> None:
        """Put passing outcomes on record, where they are news."""
        at = self._tools.clock.now_ms()
        entries = []
        for one in decisions:
            if one.is_news:
                one.pending.told = one.settlement.outcome
                entries.append(Entry([one.outcome(at)], one.pending.position, finishes=False))
        self._tools.record(entries)

    def alert(self, decision: Decision, revision: str) -> None:
        """Have the destination looked at: told once for the same trouble, and once more on each day
        that it lasts."""
        alert = decision.alert(revision, self._tools.clock.now_ms())
        if alert.alert_id == self._alerted:
            return
        self._alerted = alert.alert_id
        log.warning(
            "A destination has to be mended; its deliveries are parked.",
            destination=alert.destination_id,
            platform=alert.platform,
            code=alert.code,
        )
        entry = Entry([alert.to_record()], decision.pending.position, finishes=False)
        self._tools.record([entry])
