"""Outcomes as they happen: the end of ``audit``, fanned out to whoever looks at the live stream."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from typing import Annotated, Final

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition
from pydantic import ConfigDict, StringConstraints

from manage.errors import ErrorCode, RefusedError
from runtime.clock import Clock
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord, partitions_of, read_all, reader_config
from runtime.logs import get_logger
from runtime.settings import Settings
from schemas.audit import read_told
from schemas.event_log import LoggedDelivery, State
from schemas.outcome import Outcome
from schemas.topics import AUDIT
from schemas.wire import Wire

log = get_logger(__name__)

STREAMS_PER_SESSION: Final = 4
QUEUE_OUTCOMES: Final = 1000
"""What is kept for a client that is slow to read."""

_CONSUME_RECORDS: Final = 2000
_CONSUME_SECONDS: Final = 0.1
_METADATA_TIMEOUT_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 2.0

_Text = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class LiveQuery(Wire):
    """Which outcomes are shown. What is absent does not narrow them."""

    model_config = ConfigDict(extra="forbid")

    domain_id: _Text | None = None
    destination_id: _Text | None = None
    platform: _Text | None = None
    event_name: _Text | None = None
    outcome: State | None = None


class Subscription:
    """What one client is still to be shown."""

    def __init__(self, domain_ids: Collection[str], query: LiveQuery) -> None:
        self.domain_ids = frozenset(domain_ids)
        self._query = query
        self._waiting: deque[LoggedDelivery] = deque()
        self._lost = 0
        self._news = asyncio.Event()

    def offer(self, told: LoggedDelivery) -> None:
        """Keep an outcome of its domains, if it is asked for; the oldest one goes when there is no
        room."""
        if not self._wants(told):
            return
        if len(self._waiting) == QUEUE_OUTCOMES:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(told)
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Return when there is something to take, and after so long at the latest."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return

    def take(self) -> tuple[int, list[LoggedDelivery]]:
        """How many were lost since the last time, and what came after them, the oldest first."""
        lost, taken = self._lost, list(self._waiting)
        self._lost = 0
        self._waiting.clear()
        self._news.clear()
        return lost, taken

    def _wants(self, told: LoggedDelivery) -> bool:
        asked = self._query
        return all(
            wanted is None or wanted == found
            for wanted, found in (
                (asked.domain_id, told.domain_id),
                (asked.destination_id, told.destination_id),
                (asked.platform, told.platform),
                (asked.event_name, told.event_name),
                (asked.outcome, told.outcome),
            )
        )


class Live:
    """Follows ``audit`` for as long as somebody subscribes to it, and no longer."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._subscriptions: set[Subscription] = set()
        self._sessions: Counter[str] = Counter()
        self._following: asyncio.Task[None] | None = None
        self._caught_up = False
        self.is_closed = False

    @asynccontextmanager
    async def subscribed(
        self, session: str, domain_ids: Collection[str], query: LiveQuery
    ) -> AsyncIterator[Subscription]:
        """Have the outcomes of these domains kept while the body runs.

        Raises ``RefusedError`` when the session has enough streams, or the process is about to end.
        """
        if self.is_closed:
            raise RefusedError(ErrorCode.UNAVAILABLE, "this process stops", retry_after_seconds=2)
        if self._sessions[session] >= STREAMS_PER_SESSION:
            raise RefusedError(
                ErrorCode.RATE_LIMITED,
                f"a session has at most {STREAMS_PER_SESSION} live streams; close one",
                retry_after_seconds=2,
            )
        subscription = Subscription(domain_ids, query)
        self._sessions[session] += 1
        self._subscriptions.add(subscription)
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._sessions -= Counter((session,))

    @property
    def is_caught_up(self) -> bool:
        """Whether whatever is said on ``audit`` from now on is shown."""
        return self._caught_up

    async def close(self) -> None:
        """End every stream, and stop following."""
        self.is_closed = True
        self._subscriptions.clear()
        if self._following is not None:
            await self._following

    async def _follow(self) -> None:
        while self._subscriptions:
            try:
                await self._read_from_end()
            except (UnavailableError, KafkaException) as error:
                log.warning("The live stream waits for Kafka.", error=str(error))
                await self._clock.sleep(_RETRY_SECONDS)

    async def _read_from_end(self) -> None:
        """Read for as long as anybody subscribes. Without a group: every process shows everything.

        Raises ``UnavailableError``, ``KafkaException``.
        """
        consumer = Consumer(reader_config(self._settings.kafka, "live"))
        try:
            unread = await asyncio.to_thread(self._assign_end, consumer)
            while self._subscriptions:
                records, ends = await asyncio.to_thread(
                    read_all, consumer, _CONSUME_RECORDS, _CONSUME_SECONDS
                )
                self._show(records)
                unread -= ends
                self._caught_up = not unread
        finally:
            self._caught_up = False
            await asyncio.to_thread(consumer.close)

    def _assign_end(self, consumer: Consumer) -> set[tuple[str, int]]:
        """Assign all of ``audit`` from its end; answers the partitions."""
        topic = self._settings.topic(AUDIT)
        numbers = partitions_of(consumer, topic, self._settings.kafka, _METADATA_TIMEOUT_SECONDS)
        consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in numbers])
        return {(topic, number) for number in numbers}

    def _show(self, records: Iterable[ConsumedRecord]) -> None:
        looking: dict[bytes, list[Subscription]] = {}
        for subscription in self._subscriptions:
            for domain_id in subscription.domain_ids:
                looking.setdefault(domain_id.encode(), []).append(subscription)
        for record in records:
            # The key is the domain: what nobody looks at is not even parsed.
            subscriptions = looking.get(record.key or b"")
            outcome = read_told(record.value) if subscriptions else None
            if subscriptions and isinstance(outcome, Outcome):
                told = logged(outcome)
                for subscription in subscriptions:
                    subscription.offer(told)


def logged(outcome: Outcome) -> LoggedDelivery:
    """An outcome as the event log shows it, but for the order, which no outcome names."""
    return LoggedDelivery(
        deliveryId=outcome.delivery_name,
        domainId=outcome.domain_id,
        destinationId=outcome.destination_id,
        platform=outcome.platform,
        eventId=outcome.event_id,
        eventName=outcome.event_name,
        eventTime=outcome.event_time,
        orderId=None,
        receivedAt=outcome.received_at,
        outcome=State(outcome.outcome),
        reason=outcome.reason,
        code=outcome.code,
        detail=outcome.detail,
        attempt=outcome.attempt,
        at=outcome.at,
        source=outcome.source,
        firstSource=outcome.first_source,
        dispatchKey=outcome.dispatch_key,
        replayId=outcome.replay_id,
    )
