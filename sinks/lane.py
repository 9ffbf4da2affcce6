"""One destination's way out: batches, posts, and a fate for every delivery.

Each destination has a lane of its own, so that one that fails or is slow holds up nobody else.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from platforms.answers import without_secrets
from platforms.base import AccountCredentials, Fate, Platform, Verdict
from runtime.clock import Clock
from runtime.errors import CapistreamError
from runtime.lifecycle import first_of
from runtime.logs import get_logger
from runtime.settings import SinksSettings
from schemas.alert import Alert, AlertKind, alert_id
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind, Reason
from schemas.record import Record
from schemas.topics import RETRY_TIERS, parked, retries
from sinks.backoff import Backoff
from sinks.batcher import Batcher, Pending
from sinks.breaker import Breaker, Permit, State
from sinks.client import PlatformClient, UnreachableError
from sinks.journal import Entry
from sinks.ledger import Known, Ledger
from sinks.offsets import Position
from sinks.settle import Next, Settlement, settle

log = get_logger(__name__)

_TOO_OLD = "It could not be sent before it was too old."
_TAKEN = "The platform had taken it before."


class DestinationGoneError(CapistreamError):
    """The destination is no longer configured."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a destination is reached with now."""

    credentials: AccountCredentials
    revision: str
    """Changes with the credentials."""


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What every lane works with."""

    settings: SinksSettings
    clock: Clock
    client: PlatformClient
    ledger: Ledger
    dice: Callable[[], float]
    room: asyncio.Semaphore
    """For requests of all lanes together."""
    is_crowded: Callable[[], bool]
    """Whether the process holds as much as it may."""
    record: Callable[[Sequence[Entry]], None]
    """Have these put on record."""
    ours: Callable[[Sequence[Position]], list[bool]]
    """Which of these records are still this process's to work."""
    account: Callable[[Delivery], Account]
    """Raises ``DestinationGoneError``, or ``CapistreamError`` when it cannot be opened."""
    failed: Callable[[BaseException], None]
    """Hears of what must not happen."""


@dataclass(frozen=True, slots=True)
class _Decision:
    pending: Pending
    verdict: Verdict
    settlement: Settlement


class Lane:
    """Gathers, posts and settles the deliveries of one destination."""

    def __init__(self, platform: Platform, tools: LaneTools) -> None:
        settings = tools.settings
        backoff = Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds, tools.dice)
        self._platform = platform
        self._tools = tools
        self._queue = Batcher(platform.LIMITS, settings.linger_seconds)
        self._breaker = Breaker(backoff, settings.failures_until_open)
        self._revision: str | None = None
        self._alerted: str | None = None
        """Which alert was raised last."""
        self._here: dict[str, Pending] = {}
        """What is queued or under way, by its name."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._is_handing_over = False
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    def add(self, pending: Pending) -> None:
        """One more delivery; its batch leaves when it is full or has lingered."""
        known = self._here.get(pending.name)
        if known is not None:
            self._meet(known, pending)
            return
        if pending.told is OutcomeKind.PARKED and self._revision is None:
            # Nothing is known of the destination here but that it did not work: ask carefully.
            self._breaker.suspect()
        self._here[pending.name] = pending
        self._queue.add(pending)
        self._wake.set()

    def _meet(self, known: Pending, again: Pending) -> None:
        """What is here already has come once more: a copy that streams made again, or the record
        itself, whose partition was given away and has come back."""
        known.copies.append(again.position)
        known.origins = tuple(dict.fromkeys(known.origins + again.origins))
        self._keep_ours(known)

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

    @property
    def waiting_bytes(self) -> int:
        """What the payloads take that wait here."""
        return self._queue.size

    def configuration_changed(self, revision: str | None) -> None:
        """The destination is set as ``revision`` says now (None: not at all). If that is news, what
        was known of it does not hold any more."""
        if revision != self._revision:
            self._breaker.reset()
            self._wake.set()

    def hand_over(self) -> set[asyncio.Task[None]]:
        """Begin nothing new, for somebody else may have the records soon; answers what is under
        way. What waits is dropped: it lies in the log."""
        self._is_handing_over = True
        for pending in self._queue.give_up(math.inf):
            del self._here[pending.name]
        return set(self._tasks)

    def take_over(self) -> None:
        """Go on after ``hand_over``."""
        self._is_handing_over = False
        self._wake.set()

    async def stop(self) -> None:
        """Send what is gathered, and return when nothing is under way; what waits for a better
        time waits in the log from now on. To be cancelled when it takes too long."""
        self._is_stopping = True
        self._wake.set()
        try:
            await asyncio.gather(self._running)
        finally:
            for task in (self._running, *self._tasks):
                task.cancel()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            now = self._tools.clock.monotonic()
            self._move_on(now)
            self._send_ready(now)
            if self._is_stopping and not self._tasks:
                return
            seconds = self._seconds_to_next(now)
            if seconds is None:
                await self._wake.wait()
            else:
                await first_of(self._wake.wait(), self._tools.clock.sleep(seconds))

    def _send_ready(self, now: float) -> None:
        most = self._tools.settings.requests_per_destination
        while not self._is_handing_over and self._breaker.room(now, most - len(self._tasks)) > 0:
            batch = self._queue.take(now, at_once=self._is_stopping)
            if not batch:
                return
            task = asyncio.create_task(self._send(batch, self._breaker.begin()))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _seconds_to_next(self, now: float) -> float | None:
        """How long until something is to be done, if nothing happens before."""
        moments = []
        if self._breaker.room(now, 1) or now < self._breaker.held_until:
            has_room = len(self._tasks) < self._tools.settings.requests_per_destination
            may_send = has_room and not self._is_handing_over
            ready_at = self._queue.ready_at() if may_send else None
            if ready_at is not None:
                moments.append(max(ready_at, self._breaker.held_until))
        if self._must_move_on and self._queue.oldest_at is not None:
            moments.append(self._queue.oldest_at + self._tools.settings.in_place_seconds)
        return max(0.0, min(moments) - now) if moments else None

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tools.failed(error)

    # Sending

    async def _send(self, batch: list[Pending], permit: Permit) -> None:
        try:
            async with self._tools.room:
                batch = await self._without_known(self._without_lost(batch))
                batch = self._without_expired(batch)
                if batch and self._is_handing_over:
                    self._queue.put_back(batch)
                elif batch:
                    await self._deliver(batch, permit)
        finally:
            self._breaker.ended(permit)

    def _without_lost(self, batch: list[Pending]) -> list[Pending]:
        """Leave what was given away meanwhile to the process that has it now."""
        ours = self._tools.ours([pending.position for pending in batch])
        if all(ours):
            return batch
        kept = [pending for pending in batch if self._keep_ours(pending)]
        for name in {pending.name for pending in batch} - {pending.name for pending in kept}:
            del self._here[name]
        return kept

    def _without_expired(self, batch: list[Pending]) -> list[Pending]:
        """Let go what has become too old for the platform to take."""
        horizon = self._tools.clock.now_ms() - self._platform.LIMITS.max_age_seconds * 1000
        expired = [p for p in batch if p.delivery.event_time < horizon]
        if not expired:
            return batch
        self._let_go(expired, OutcomeKind.EXPIRED, Reason.TOO_OLD, _TOO_OLD)
        return [p for p in batch if p.delivery.event_time >= horizon]

    async def _without_known(self, batch: list[Pending]) -> list[Pending]:
        """Leave out what was worked already: what was taken lacks its outcome only, and a copy
        lacks nothing."""
        known = await self._tools.ledger.ask(batch)
        if all(one is Known.NOTHING for one in known):
            return batch
        by_mark: dict[Known, list[Pending]] = {}
        for pending, mark in zip(batch, known, strict=True):
            by_mark.setdefault(mark, []).append(pending)
        verdict = Verdict(Fate.DELIVERED, detail=_TAKEN)
        taken = by_mark.get(Known.TAKEN, [])
        self._finish([_Decision(pending, verdict, settle(verdict)) for pending in taken])
        self._done((pending, []) for pending in by_mark.get(Known.COPY, []))
        return by_mark.get(Known.NOTHING, [])

    async def _deliver(self, batch: list[Pending], permit: Permit | None = None) -> bool:
        """Post a batch, and apart what was refused for sharing it.

        Answers whether all of it was taken.
        """
        now = self._tools.clock.monotonic()
        if permit is None and (self._is_handing_over or not self._breaker.room(now, 1)):
            # Not now, or the part before this one did not fare well: the rest waits with it.
            self._queue.put_back(batch)
            return False
        permit = permit or self._breaker.begin()
        decisions = await self._attempt(batch, permit)
        self._breaker.ended(permit)
        suspects = [one.pending for one in decisions if one.settlement.next is Next.APART]
        if not suspects:
            return all(one.verdict.fate is Fate.DELIVERED for one in decisions)
        if len(suspects) < len(decisions):
            # The culprits were named; the rest is innocent and goes together.
            await self._deliver(suspects)
        else:
            await self._divide(suspects)
        return False

    async def _divide(self, suspects: list[Pending]) -> None:
        """Find who makes the platform refuse all of these, by halving: k culprits among n cost no
        more than 2k·log2(n) requests."""
        while len(suspects) > 1:
            middle = len(suspects) // 2
            first, second = suspects[:middle], suspects[middle:]
            if not await self._deliver(first):
                await self._deliver(second)
                return
            # The first half is innocent, so the second one is not: there is no need to ask.
            suspects = second
        await self._deliver(suspects)

    async def _attempt(self, batch: list[Pending], permit: Permit) -> list[_Decision]:
        try:
            account = self._tools.account(batch[0].delivery)
        except DestinationGoneError as gone:
            self._wait_or_let_go(batch, gone)
            return []
        except CapistreamError as error:
            verdicts = [Verdict(Fate.MISCONFIGURED, detail=str(error))] * len(batch)
            revision = self._revision
        else:
            revision = self._revision = account.revision
            verdicts = await self._post(batch, account)
        decisions = [_Decision(p, v, settle(v)) for p, v in zip(batch, verdicts, strict=True)]
        final = [one for one in decisions if one.settlement.next is Next.FINISH]
        for fate in (Fate.DELIVERED, Fate.REJECTED):
            told = [one.pending for one in final if one.verdict.fate is fate]
            await self._tools.ledger.note(told, taken=fate is Fate.DELIVERED)
        self._finish(final)
        self._learn(decisions, permit, revision)
        return decisions

    async def _post(self, batch: list[Pending], account: Account) -> list[Verdict]:
        credentials = account.credentials.under(batch[0].key)
        try:
            request = self._platform.request([p.payload for p in batch], credentials)
            response = await self._tools.client.send(self._platform, request)
            return self._platform.read(without_secrets(response, credentials), len(batch))
        except UnreachableError as error:
            return [Verdict(Fate.RETRYABLE, detail=str(error))] * len(batch)
        except Exception:
            # A mistake of ours for this platform: the deliveries stay, and other lanes go on.
            log.exception("A request could not be made.", platform=self._platform.SLUG)
            detail = "An internal error; it is retried."
            return [Verdict(Fate.RETRYABLE, detail=detail)] * len(batch)

    # What follows

    def _learn(self, decisions: Sequence[_Decision], permit: Permit, revision: str | None) -> None:
        """What the answer says of the destination, and of those that have to wait for it."""
        clock, breaker = self._tools.clock, self._breaker
        now = clock.monotonic()
        by_next: dict[Next, list[_Decision]] = {}
        for decision in decisions:
            by_next.setdefault(decision.settlement.next, []).append(decision)
        waits = [one.verdict.retry_after_seconds for one in decisions]
        asked = max((seconds for seconds in waits if seconds is not None), default=None)
        later = [*by_next.get(Next.SLOWER, ()), *by_next.get(Next.LATER, ())]
        if misconfigured := by_next.get(Next.PARK):
            self._misconfigured(misconfigured, revision)
            self._try_again(later)
        elif Next.SLOWER in by_next:
            breaker.throttled(permit, now, asked)
            self._try_again(later)
        elif later and len(later) == len(decisions):
            breaker.failed(permit, now, asked)
            self._try_again(later)
        elif later:
            # It works, but not for these: they wait by themselves.
            breaker.succeeded(permit)
            self._retry_later([one.pending for one in later], told=later)
        else:
            breaker.succeeded(permit)
            if asked:
                # Taken, and the last for a while.
                breaker.throttled(breaker.begin(), now, asked)

    def _try_again(self, decisions: Sequence[_Decision]) -> None:
        """Here, and soon; it is on record once that they have to wait."""
        self._tell(decisions)
        self._queue.put_back([one.pending for one in decisions])

    def _tell(self, decisions: Sequence[_Decision]) -> None:
        entries = []
        for one in decisions:
            if one.pending.told is not one.settlement.outcome:
                one.pending.told = one.settlement.outcome
                entries.append(Entry([self._outcome(one)], one.pending.position, finishes=False))
        self._tools.record(entries)

    def _finish(self, decisions: Sequence[_Decision]) -> None:
        """Final outcomes, with a dead letter for what never arrives."""
        done = []
        for one in decisions:
            records = [self._outcome(one)]
            if one.settlement.dead_letter:
                records.append(_dead_letter(one).to_record())
            done.append((one.pending, records))
        self._done(done)

    def _done(self, done: Iterable[tuple[Pending, Sequence[Record]]]) -> None:
        """This lane is done with these, and that is to be on record."""
        entries = []
        for pending, records in done:
            self._here.pop(pending.name, None)
            entries.append(Entry(records, pending.position, finishes=True))
            entries += (Entry([], copy, finishes=True) for copy in pending.copies)
        self._tools.record(entries)

    def _let_go(
        self, batch: Sequence[Pending], outcome: OutcomeKind, reason: Reason, detail: str
    ) -> None:
        """End deliveries by a decision of ours, without asking the platform."""
        verdict = Verdict(Fate.REJECTED, detail=detail)
        settlement = Settlement(Next.FINISH, outcome, reason, dead_letter=True)
        self._finish([_Decision(pending, verdict, settlement) for pending in batch])

    def _wait_or_let_go(self, batch: list[Pending], gone: DestinationGoneError) -> None:
        """Streams may have read of a new destination before this process did."""
        until = batch[0].taken_at + self._tools.settings.unknown_destination_wait_seconds
        if self._tools.clock.monotonic() < until:
            self._breaker.hold(until)
            self._queue.put_back(batch)
        else:
            reason = Reason.DESTINATION_REMOVED
            self._let_go(batch, OutcomeKind.REJECTED, reason, str(gone))

    # Waiting elsewhere

    @property
    def _must_move_on(self) -> bool:
        return self._breaker.state is not State.WORKING or self._tools.is_crowded()

    def _move_on(self, now: float) -> None:
        """To a retry topic with what has been kept here for long enough, or has no chance here."""
        if not self._must_move_on:
            return
        if self._breaker.state is State.MISCONFIGURED and now < self._breaker.held_until:
            self._park(self._queue.give_up(now))
            return
        patience = self._tools.settings.in_place_seconds
        is_hopeless = self._breaker.held_until - now > patience
        self._retry_later(self._queue.give_up(now, 0.0 if is_hopeless else patience))

    def _retry_later(
        self, batch: Sequence[Pending], *, told: Sequence[_Decision] | None = None
    ) -> None:
        """To the retry topic of their next tier, or of one that is long enough for the platform."""
        if not batch:
            return
        clock, settings = self._tools.clock, self._tools.settings
        verdict = Verdict(Fate.RETRYABLE)
        self._tell(told or [_Decision(p, verdict, settle(verdict)) for p in batch if not p.told])
        held_seconds = self._breaker.held_until - clock.monotonic()
        last = len(settings.retry_seconds) - 1
        long_enough = next(
            (n for n, seconds in enumerate(settings.retry_seconds) if seconds >= held_seconds), last
        )
        done = []
        for pending in batch:
            tier = min(max(pending.delivery.attempt, long_enough), last)
            delivery = replace(
                pending.delivery,
                origins=pending.origins,
                attempt=pending.delivery.attempt + 1,
                not_before=clock.now_ms() + round(settings.retry_seconds[tier] * 1000),
            )
            topic = retries(self._platform.SLUG, RETRY_TIERS[tier])
            done.append((pending, [delivery.to_record(pending.payload, topic)]))
        self._done(done)

    def _misconfigured(self, decisions: Sequence[_Decision], revision: str | None) -> None:
        """Keep everything until the destination is mended, unless that has just happened."""
        try:
            is_still = self._tools.account(decisions[0].pending.delivery).revision == revision
        except CapistreamError:
            is_still = True
        if not is_still:
            self._queue.put_back([one.pending for one in decisions])
            return
        clock = self._tools.clock
        self._breaker.misconfigured(clock.monotonic(), self._tools.settings.parked_seconds)
        self._raise_alert(decisions[0], revision)
        waiting = [one.pending for one in decisions]
        waiting += self._queue.give_up(clock.monotonic())
        self._park(waiting, decisions[0].verdict)

    def _park(self, batch: Sequence[Pending], verdict: Verdict | None = None) -> None:
        verdict = verdict or Verdict(Fate.MISCONFIGURED)
        not_before = self._tools.clock.now_ms() + round(self._tools.settings.parked_seconds * 1000)
        settlement = settle(verdict)
        done = []
        for pending in batch:
            later = replace(pending.delivery, origins=pending.origins, not_before=not_before)
            records = [later.to_record(pending.payload, parked(self._platform.SLUG))]
            if pending.told is not OutcomeKind.PARKED:
                records.append(self._outcome(_Decision(pending, verdict, settlement)))
            done.append((pending, records))
        self._done(done)

    def _raise_alert(self, decision: _Decision, revision: str | None) -> None:
        """Once for the same trouble, and once more on each day that it lasts."""
        delivery, at = decision.pending.delivery, self._tools.clock.now_ms()
        alert = Alert(
            alertId=alert_id(AlertKind.MISCONFIGURED, delivery.destination_id, revision or "", at),
            alert=AlertKind.MISCONFIGURED,
            domainId=delivery.domain_id,
            destinationId=delivery.destination_id,
            platform=delivery.platform,
            code=decision.verdict.code,
            detail=decision.verdict.detail,
            at=at,
        )
        if alert.alert_id == self._alerted:
            return
        self._alerted = alert.alert_id
        log.warning(
            "A destination has to be mended; its deliveries are parked.",
            destination=delivery.destination_id,
            platform=delivery.platform,
            code=decision.verdict.code,
        )
        entry = Entry([alert.to_record()], decision.pending.position, finishes=False)
        self._tools.record([entry])

    def _outcome(self, one: _Decision) -> Record:
        if one.settlement.outcome is None:
            raise AssertionError(f"nothing to say of {one.verdict.fate}")
        return one.pending.delivery.outcome_record(
            one.settlement.outcome,
            at=self._tools.clock.now_ms(),
            reason=one.settlement.reason,
            code=one.verdict.code,
            detail=one.verdict.detail,
        )


def _dead_letter(one: _Decision) -> DeadLetter:
    delivery, position = one.pending.delivery, one.pending.position
    topic, partition = position.partition
    outcome = one.settlement.outcome or OutcomeKind.REJECTED
    return DeadLetter(
        value=one.pending.payload,
        key=delivery.key(),
        topic=topic,
        partition=partition,
        offset=position.offset,
        reason=DeadLetterReason(outcome.value),
        detail=one.verdict.detail or one.verdict.code or "",
        origin_headers=tuple(
            (name, value if isinstance(value, bytes) else None)
            for name, value in delivery.to_headers()
        ),
    )
