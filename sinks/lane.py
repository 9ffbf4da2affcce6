"""One destination's way out: batches, posts, and a fate for every delivery.

Each destination has a lane of its own, so that one that fails or is slow holds up nobody else.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from platforms.base import AccountCredentials, Fate, Platform, Verdict
from runtime.clock import Clock
from runtime.errors import CapistreamError
from runtime.logs import get_logger
from runtime.settings import SinksSettings
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind, Reason
from schemas.record import Record
from sinks.backoff import backoff_seconds
from sinks.client import PlatformClient, UnreachableError
from sinks.offsets import Position
from sinks.settle import Next, Settlement, settle

log = get_logger(__name__)


class DestinationGoneError(CapistreamError):
    """The destination is no longer configured."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A delivery that has no final outcome yet."""

    delivery: Delivery
    payload: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What every lane works with."""

    settings: SinksSettings
    clock: Clock
    client: PlatformClient
    dice: Callable[[], float]
    record: Callable[[Sequence[Record], Sequence[Position]], Awaitable[None]]
    """Put records on Kafka; once acknowledged, count the deliveries as finished."""
    credentials: Callable[[Delivery], AccountCredentials]
    """Raises ``DestinationGoneError``, or ``CapistreamError`` when they cannot be opened."""


class Lane:
    """Gathers, posts and settles the deliveries of one destination."""

    def __init__(self, platform: Platform, tools: LaneTools) -> None:
        self._platform = platform
        self._tools = tools
        self._gathered: list[Pending] = []
        self._gathered_bytes = 0
        self._flush_handle: asyncio.TimerHandle | None = None
        self._room = asyncio.Semaphore(tools.settings.requests_per_destination)
        self._wake = asyncio.Event()
        self._is_stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, pending: Pending) -> None:
        """Gather one delivery; the batch leaves when it is full or has lingered."""
        limits = self._platform.LIMITS
        size = len(pending.payload) + 1
        if self._gathered_bytes + size > limits.max_payload_bytes:
            self.flush()
        self._gathered.append(pending)
        self._gathered_bytes += size
        if len(self._gathered) >= limits.max_events:
            self.flush()
        elif self._flush_handle is None:
            linger = self._tools.settings.linger_seconds
            self._flush_handle = asyncio.get_running_loop().call_later(linger, self.flush)

    def flush(self) -> None:
        """Send what is gathered now."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._gathered:
            return
        batch, self._gathered, self._gathered_bytes = self._gathered, [], 0
        task = asyncio.create_task(self._send(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def configuration_changed(self) -> None:
        """Try at once what waits: its credentials may be good now."""
        self._wake.set()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """Send what is gathered; what waits for a better time waits in the log from now on."""
        self.flush()
        self._is_stopping = True
        self._wake.set()

    def tasks(self) -> set[asyncio.Task[None]]:
        """What is under way."""
        return set(self._tasks)

    async def _send(self, batch: list[Pending]) -> None:
        async with self._room:
            await self._deliver(batch)

    async def _deliver(self, batch: list[Pending]) -> None:
        """Post until every delivery of the batch has a final outcome on record."""
        attempt = 0
        while batch and not (attempt and self._is_stopping):
            attempt += 1
            batch = await self._expire(batch)
            try:
                verdicts = await self._post(batch)
            except DestinationGoneError as gone:
                if attempt == 1:
                    # Streams may have read of a new destination before this process did.
                    await self._pause(self._tools.settings.unknown_destination_wait_seconds)
                    continue
                await self._let_go(
                    batch, OutcomeKind.REJECTED, Reason.DESTINATION_REMOVED, str(gone)
                )
                return
            decisions = list(zip(batch, verdicts, map(settle, verdicts), strict=True))
            await self._put_on_record(decisions, is_first_attempt=attempt == 1)
            await self._deliver_apart(decisions)
            batch = [p for p, _, settlement in decisions if settlement.next is Next.LATER]
            if batch:
                await self._wait(attempt, verdicts)

    async def _expire(self, batch: list[Pending]) -> list[Pending]:
        """Let go what has become too old for the platform to take."""
        horizon = self._tools.clock.now_ms() - self._platform.LIMITS.max_age_seconds * 1000
        expired = [p for p in batch if p.delivery.event_time < horizon]
        if expired:
            detail = "It could not be sent before it was too old."
            await self._let_go(expired, OutcomeKind.EXPIRED, Reason.TOO_OLD, detail)
        return [p for p in batch if p.delivery.event_time >= horizon]

    async def _let_go(
        self, batch: list[Pending], outcome: OutcomeKind, reason: Reason, detail: str
    ) -> None:
        """End deliveries by a decision of ours, without asking the platform."""
        verdict = Verdict(Fate.REJECTED, detail=detail)
        settlement = Settlement(Next.FINISH, outcome, reason, dead_letter=True)
        await self._put_on_record(
            [(pending, verdict, settlement) for pending in batch], is_first_attempt=False
        )

    async def _post(self, batch: list[Pending]) -> list[Verdict]:
        if not batch:
            return []
        try:
            credentials = self._tools.credentials(batch[0].delivery)
            request = self._platform.request([p.payload for p in batch], credentials)
            response = await self._tools.client.send(self._platform, request)
            return self._platform.read(response, len(batch))
        except UnreachableError as error:
            return [Verdict(Fate.RETRYABLE, detail=str(error))] * len(batch)
        except DestinationGoneError:
            raise
        except CapistreamError as error:
            return [Verdict(Fate.MISCONFIGURED, detail=str(error))] * len(batch)
        except Exception:
            # A mistake of ours for this platform: the deliveries stay, and other lanes go on.
            log.exception("A request could not be made.", platform=self._platform.SLUG)
            return [Verdict(Fate.RETRYABLE, detail="An internal error; it is retried.")] * len(
                batch
            )

    async def _put_on_record(
        self, decisions: Sequence[tuple[Pending, Verdict, Settlement]], *, is_first_attempt: bool
    ) -> None:
        """Outcomes and dead letters; a passing outcome once, not once per attempt."""
        now_ms = self._tools.clock.now_ms()
        records: list[Record] = []
        finished: list[Position] = []
        for pending, verdict, settlement in decisions:
            is_final = settlement.next is Next.FINISH
            if settlement.outcome is None or not (is_final or is_first_attempt):
                continue
            records.append(
                pending.delivery.outcome(
                    settlement.outcome,
                    at=now_ms,
                    reason=settlement.reason,
                    code=verdict.code,
                    detail=verdict.detail,
                ).to_record()
            )
            if settlement.dead_letter:
                reason = DeadLetterReason(settlement.outcome.value)
                records.append(_dead_letter(pending, reason, verdict).to_record())
            if is_final:
                finished.append(pending.position)
        await self._tools.record(records, finished)

    async def _deliver_apart(
        self, decisions: Sequence[tuple[Pending, Verdict, Settlement]]
    ) -> None:
        """Send again what shared a request with a culprit.

        When the platform named the culprits, the rest is innocent and goes together; when it did
        not, halving finds k culprits among n in about 2k·log2(n) requests.
        """
        suspects = [p for p, _, settlement in decisions if settlement.next is Next.APART]
        if not suspects:
            return
        if len(suspects) < len(decisions):
            await self._deliver(suspects)
            return
        middle = len(suspects) // 2
        await self._deliver(suspects[:middle])
        await self._deliver(suspects[middle:])

    async def _wait(self, attempt: int, verdicts: Sequence[Verdict]) -> None:
        settings = self._tools.settings
        asked = [v.retry_after_seconds for v in verdicts if v.retry_after_seconds is not None]
        seconds = backoff_seconds(
            attempt,
            base_seconds=settings.backoff_base_seconds,
            cap_seconds=settings.backoff_cap_seconds,
            asked_seconds=max(asked, default=None),
            dice=self._tools.dice,
        )
        await self._pause(seconds)

    async def _pause(self, seconds: float) -> None:
        """Let time pass, until the configuration changes or the process stops."""
        waiting = {
            asyncio.ensure_future(self._tools.clock.sleep(seconds)),
            asyncio.ensure_future(self._wake.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


def _dead_letter(pending: Pending, reason: DeadLetterReason, verdict: Verdict) -> DeadLetter:
    topic, partition = pending.position.partition
    return DeadLetter(
        value=pending.payload,
        key=pending.delivery.key(),
        topic=topic,
        partition=partition,
        offset=pending.position.offset,
        reason=reason,
        detail=verdict.detail or verdict.code or "",
        origin_headers=tuple(
            (name, value if isinstance(value, bytes) else None)
            for name, value in pending.delivery.to_headers()
        ),
    )
