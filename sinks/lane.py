"""One destination's way out: batches, posts, and a fate for every delivery.

Each destination has a lane of its own, so that one that fails or is slow holds up nobody else.
"""

import asyncio
import math
from collections.abc import Sequence

from platforms.answers import without_secrets
from platforms.base import Fate, Platform, Verdict
from runtime.errors import CapistreamError
from runtime.lifecycle import first_of
from runtime.logs import get_logger
from schemas.outcome import OutcomeKind, Reason
from sinks.backoff import Backoff
from sinks.batcher import Batcher, Pending
from sinks.breaker import Breaker, Permit, State
from sinks.client import UnreachableError
from sinks.custody import Custody
from sinks.decision import Decision, decide, decide_each
from sinks.ledger import Known
from sinks.settle import Next
from sinks.tools import Account, DestinationGoneError, LaneTools

log = get_logger(__name__)

_TOO_OLD = "It could not be sent before it was too old."
_TAKEN = "The platform had taken it before."


class Lane:
    """Gathers, posts and settles the deliveries of one destination."""

    def __init__(self, platform: Platform, tools: LaneTools) -> None:
        settings = tools.settings
        backoff = Backoff(settings.backoff_base_seconds, settings.backoff_cap_seconds, tools.dice)
        self._platform = platform
        self._tools = tools
        self._queue = Batcher(platform.LIMITS, settings.linger_seconds)
        self._breaker = Breaker(backoff, settings.failures_until_open)
        self._custody = Custody(tools)
        self._revision: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._is_handing_over = False
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(self._ended)

    def add(self, pending: Pending) -> None:
        """One more delivery; its batch leaves when it is full or has lingered."""
        if not self._custody.take(pending):
            return
        if pending.told is OutcomeKind.PARKED and self._revision is None:
            # Nothing is known of the destination here but that it did not work: ask carefully.
            self._breaker.suspect()
        self._queue.add(pending)
        self._wake.set()

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
        self._custody.drop(self._queue.give_up(math.inf))
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
                batch = await self._without_known(self._custody.still_ours(batch))
                batch = self._without_expired(batch)
                if batch and self._is_handing_over:
                    self._queue.put_back(batch)
                elif batch:
                    await self._deliver(batch, permit)
        finally:
            self._breaker.ended(permit)

    def _without_expired(self, batch: list[Pending]) -> list[Pending]:
        """Let go what has become too old for the platform to take."""
        horizon = self._tools.clock.now_ms() - self._platform.LIMITS.max_age_seconds * 1000
        expired = [p for p in batch if p.delivery.event_time < horizon]
        if not expired:
            return batch
        self._custody.let_go(expired, OutcomeKind.EXPIRED, Reason.TOO_OLD, _TOO_OLD)
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
        self._custody.finish(decide(by_mark.get(Known.TAKEN, []), verdict))
        self._custody.finish_copies(by_mark.get(Known.COPY, []))
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

    async def _attempt(self, batch: list[Pending], permit: Permit) -> list[Decision]:
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
        decisions = decide_each(batch, verdicts)
        final = [one for one in decisions if one.settlement.next is Next.FINISH]
        for fate in (Fate.DELIVERED, Fate.REJECTED):
            told = [one.pending for one in final if one.verdict.fate is fate]
            await self._tools.ledger.note(told, taken=fate is Fate.DELIVERED)
        self._custody.finish(final)
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

    def _learn(self, decisions: Sequence[Decision], permit: Permit, revision: str | None) -> None:
        """What the answer says of the destination, and of those that have to wait for it."""
        clock, breaker = self._tools.clock, self._breaker
        now = clock.monotonic()
        by_next: dict[Next, list[Decision]] = {}
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
            self._custody.tell(later)
            self._custody.retry([one.pending for one in later], breaker.held_until - now)
        else:
            breaker.succeeded(permit)
            if asked:
                # Taken, and the last for a while.
                breaker.throttled(breaker.begin(), now, asked)

    def _try_again(self, decisions: Sequence[Decision]) -> None:
        """Here, and soon; it is on record once that they have to wait."""
        self._custody.tell(decisions)
        self._queue.put_back([one.pending for one in decisions])

    def _wait_or_let_go(self, batch: list[Pending], gone: DestinationGoneError) -> None:
        """Streams may have read of a new destination before this process did."""
        until = batch[0].taken_at + self._tools.settings.unknown_destination_wait_seconds
        if self._tools.clock.monotonic() < until:
            self._breaker.hold(until)
            self._queue.put_back(batch)
        else:
            reason = Reason.DESTINATION_REMOVED
            self._custody.let_go(batch, OutcomeKind.REJECTED, reason, str(gone))

    # Waiting elsewhere

    @property
    def _must_move_on(self) -> bool:
        return self._breaker.state is not State.WORKING or self._tools.is_crowded()

    def _move_on(self, now: float) -> None:
        """To a retry topic with what has been kept here for long enough, or has no chance here."""
        if not self._must_move_on:
            return
        held_seconds = self._breaker.held_until - now
        if self._breaker.state is State.MISCONFIGURED and held_seconds > 0:
            self._custody.park(self._queue.give_up(now), Verdict(Fate.MISCONFIGURED))
            return
        patience = self._tools.settings.in_place_seconds
        is_hopeless = held_seconds > patience
        self._custody.retry(
            self._queue.give_up(now, 0.0 if is_hopeless else patience), held_seconds
        )

    def _misconfigured(self, decisions: Sequence[Decision], revision: str | None) -> None:
        """Keep everything until the destination is mended, unless that has just happened."""
        waiting = [one.pending for one in decisions]
        try:
            is_still = self._tools.account(waiting[0].delivery).revision == revision
        except CapistreamError:
            is_still = True
        if not is_still:
            self._queue.put_back(waiting)
            return
        now = self._tools.clock.monotonic()
        self._breaker.misconfigured(now, self._tools.settings.parked_seconds)
        self._custody.alert(decisions[0], revision or "")
        waiting += self._queue.give_up(now)
        self._custody.park(waiting, decisions[0].verdict)
