"""The streams process: one Faust app whose agents turn batches of events into deliveries."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from platforms.registry import PLATFORMS
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.errors import CapistreamError
from runtime.lifecycle import Heartbeat, Shutdown, first_of, settle_memory, stop_at_once
from runtime.logs import get_logger, told
from runtime.producer import RecordProducer
from runtime.quota import quota_key
from runtime.redis import connect
from runtime.settings import Settings
from schemas.config import DomainConfig
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.raw_event import RawEvent
from schemas.record import Record, SourceRecord
from schemas.replay import Replay
from schemas.topics import AUDIT, DEAD_LETTERS, RAW_EVENTS, REPLAY_EVENTS
from streams.app import create_app, stops
from streams.claims import Claims
from streams.decode import UndecodableError, decode
from streams.dedupe import claim_key, first_source, source_token
from streams.fan_out import fan_out
from streams.faust_batches import BatchSchema, InOrderAcks
from streams.memory import Memory
from streams.quota import Quota, correction
from streams.remember import NOTHING, Answer, Question, ask, recalled

log = get_logger(__name__)

DELIVERY_TIMEOUT_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 8.0
"""Below the ten seconds that Docker, for one, gives a process to end."""

_Known: TypeAlias = tuple[RawEvent, DomainConfig, Question | None]
_Again: TypeAlias = tuple[RawEvent, DomainConfig, Question | None, Replay]
_Read: TypeAlias = tuple[SourceRecord, _Known | DeadLetter]
_NOT_FORWARDED: Final = {AUDIT, DEAD_LETTERS}
"""Everything else that comes of an event is a delivery."""


class TooManyFailuresError(CapistreamError):
    """Nothing but dead letters for too long: it is this release that is broken, not the events."""


class Stage:
    """Everything between a batch of events and the records that come of it."""

    def __init__(
        self,
        settings: Settings,
        feed: ConfigFeed,
        claims: Claims,
        memory: Memory,
        quota: Quota,
        clock: Clock,
    ) -> None:
        self._settings = settings.streams
        self._feed = feed
        self._claims = claims
        self._memory = memory
        self._quota = quota
        self._clock = clock
        self._failures_in_a_row = 0
        self._unknown: set[str] = set()
        """Domains that were waited for in vain: the next record of one does not wait again."""

    async def work(self, batch: Sequence[SourceRecord]) -> list[Record]:
        """Decode, dedupe, enrich and route ``raw-events``; answers what is to be produced.

        A record that cannot go on becomes a dead letter and does not stop its neighbours. Raises
        ``TooManyFailuresError`` when hardly anything else happens.
        """
        deadline = self._deadline()
        read = [(record, await self._read(record, deadline)) for record in batch]
        holders, answers = await self._claim(read)
        output: list[Record] = []
        corrections: Counter[str] = Counter()
        for record, found in read:
            if isinstance(found, DeadLetter):
                output.append(self._buried(found))
                continue
            raw, domain, _ = found
            token = _source(record)
            holder = holders.get(token)
            first, answer = first_source(token, holder), answers.get(token)
            made = self._guarded(record, raw, domain, first, answer)
            output += made
            forwarded = any(one.topic not in _NOT_FORWARDED for one in made)
            change = correction(raw, token, holder, forwarded=forwarded)
            if change:
                corrections[quota_key(domain.org_id, raw.received_at)] += change
        await self._quota.correct(corrections)
        return output

    async def replay(self, batch: Sequence[SourceRecord]) -> list[Record]:
        """The same for ``replay-events``: nothing is claimed, counted or left in the memory, which
        answers as it did the first time. Raises ``TooManyFailuresError`` likewise."""
        deadline = self._deadline()
        read = [(record, await self._read_replay(record, deadline)) for record in batch]
        known = [found for _, found in read if not isinstance(found, DeadLetter)]
        questions = [question for _, _, question, _ in known if question is not None]
        _, answers = await self._memory.recall(self._claims, [], questions)
        output: list[Record] = []
        for record, found in read:
            if isinstance(found, DeadLetter):
                output.append(self._buried(found))
                continue
            raw, domain, _, asked = found
            output += self._guarded(record, raw, domain, None, answers.get(asked.source), asked)
        return output

    def _deadline(self) -> float:
        """Until when the batch of this moment waits for domains: all of its records have been in
        the log since now, so what the first of them waits, the others have waited too."""
        return self._clock.monotonic() + self._settings.unknown_domain_wait_seconds

    async def _read_replay(self, record: SourceRecord, deadline: float) -> _Again | DeadLetter:
        try:
            asked = Replay.from_headers(record.headers)
        except ValueError as error:
            return DeadLetter.of(record, DeadLetterReason.UNDECODABLE, str(error))
        found = await self._read(record, deadline, asked)
        return found if isinstance(found, DeadLetter) else (*found, asked)

    async def _claim(
        self, read: Sequence[_Read]
    ) -> tuple[dict[str, str | None], dict[str, Answer]]:
        """Who holds the claim of each record's event, and what is remembered about it, by source.

        What is withheld claims nothing: it must not stand in the way of a copy that is not.
        """
        wanted, questions = [], []
        for record, found in read:
            if isinstance(found, DeadLetter) or found[0].withheld is not None:
                continue
            raw, domain, question = found
            wanted.append((claim_key(raw), _source(record), domain.dedupe_window_seconds))
            if question is not None:
                questions.append(question)
        holders, answers = await self._memory.recall(self._claims, wanted, questions)
        by_source = {token: holder for (_, token, _), holder in zip(wanted, holders, strict=True)}
        return by_source, answers

    async def _read(
        self, record: SourceRecord, deadline: float, asked: Replay | None = None
    ) -> _Known | DeadLetter:
        try:
            raw = decode(record.value)
        except UndecodableError as error:
            return DeadLetter.of(record, DeadLetterReason.UNDECODABLE, str(error))
        raw = raw if asked is None else asked.apply(raw)
        domain = await self._domain(raw.domain_id, deadline)
        if domain is None:
            detail = f"there is no configuration for the domain {raw.domain_id}"
            return DeadLetter.of(record, DeadLetterReason.UNKNOWN_DOMAIN, detail)
        try:
            token = _source(record) if asked is None else asked.source
            return raw, domain, ask(raw, domain, token, is_replay=asked is not None)
        except Exception as error:
            log.exception("A transform failed.", source=_source(record))
            return _failed(record, error)

    async def _domain(self, domain_id: str, deadline: float) -> DomainConfig | None:
        domain = self._feed.by_id(domain_id)
        if domain is None and domain_id not in self._unknown:
            left = max(0.0, deadline - self._clock.monotonic())
            domain = await self._feed.wait_for(domain_id, left)
            if domain is None:
                self._unknown.add(domain_id)
        return domain

    def _guarded(
        self,
        record: SourceRecord,
        raw: RawEvent,
        domain: DomainConfig,
        first: str | None,
        answer: Answer | None,
        replay: Replay | None = None,
    ) -> list[Record]:
        """No exception of a transform leaves here: Faust would acknowledge over it."""
        now_ms = self._clock.now_ms()
        token = _source(record)
        try:
            known = recalled(answer) if answer else NOTHING
            records = fan_out(
                raw,
                domain,
                PLATFORMS,
                source=token,
                first=first,
                now_ms=now_ms,
                recalled=known,
                replay=replay,
            )
        except Exception as error:
            log.exception("A transform failed.", source=token)
            return [self._buried(_failed(record, error))]
        self._failures_in_a_row = 0
        return records

    def _buried(self, dead: DeadLetter) -> Record:
        self._failures_in_a_row += 1
        if self._failures_in_a_row > self._settings.max_failures_in_a_row:
            raise TooManyFailuresError(
                f"{self._settings.max_failures_in_a_row} records in a row could not be worked; "
                f"the last one at {dead.topic}-{dead.partition}-{dead.offset}: {dead.detail}"
            )
        return dead.to_record()


def _failed(record: SourceRecord, error: Exception) -> DeadLetter:
    detail = f"{type(error).__name__} in a transform"
    return DeadLetter.of(record, DeadLetterReason.FAILED_TRANSFORM, detail)


def _source(record: SourceRecord) -> str:
    return source_token(record.topic, record.partition, record.offset)


_Work: TypeAlias = Callable[[Sequence[SourceRecord]], Awaitable[list[Record]]]


def add_agent(
    app: Any, settings: Settings, topic: str, work: _Work, producer: RecordProducer
) -> None:
    """Drive ``work`` from ``topic``; batches overlap while Kafka acknowledges their output.

    The work itself is done one batch after the other, so that claims are taken in the order of
    the log. Each topic has an agent of its own: a long replay takes turns with the day's events.
    """
    source = app.topic(
        settings.topic(topic), schema=BatchSchema(key_serializer="raw", value_serializer="raw")
    )

    async def work_batches(stream: Any) -> None:
        acks = InOrderAcks(app, settings.streams.batches_in_flight)
        async for event in stream.noack().events():
            await acks.wait_for_room()
            acks.add(producer.produce(await work(event.value)), event)

    app.agent(source, name=topic)(_or_stop(work_batches))


def _or_stop(agent: Any) -> Any:
    """Faust acknowledges in a ``finally`` when an agent raises, and goes on: so none may."""

    async def stopping(stream: Any) -> None:
        try:
            await agent(stream)
        except Exception as error:
            log.critical("The agent failed; stopping.", error=told(error), exc_info=error)
            stop_at_once()

    return stopping


async def run_streams(settings: Settings, shutdown: Shutdown) -> None:
    """Work until a shutdown is asked for, then finish what was taken and commit it."""
    clock = SystemClock()
    redis = connect(settings.redis)
    feed = ConfigFeed(settings)
    feed.start()
    producer = RecordProducer(
        settings.kafka, delivery_timeout_seconds=DELIVERY_TIMEOUT_SECONDS, linger_seconds=0.005
    )
    app = create_app(settings)
    claims = Claims(redis, clock, settings.kafka.topic_prefix)
    memory = Memory(redis, clock, settings.kafka.topic_prefix)
    quota = Quota(redis, settings.kafka.topic_prefix)
    stage = Stage(settings, feed, claims, memory, quota, clock)
    add_agent(app, settings, RAW_EVENTS, stage.work, producer)
    add_agent(app, settings, REPLAY_EVENTS, stage.replay, producer)
    log.info("Reading the configuration.")
    await first_of(feed.wait_until_caught_up(), shutdown.wait())
    if not shutdown.is_asked:
        await app.start()
        settle_memory(200_000)  # a batch and its records are 65,000, and gone together
        log.info("Working.", bootstrap=settings.kafka.bootstrap)
        beat = asyncio.create_task(Heartbeat(settings.data_dir, "streams").keep_beating(clock))
        await first_of(shutdown.wait(), app.wait_until_stopped())
        beat.cancel()
        if app.crashed:
            log.critical("Faust crashed; stopping.", error=str(app.crash_reason))
            stop_at_once()
        if not await stops(app, DRAIN_SECONDS):
            log.warning("The drain took too long; what was not committed is worked again.")
            stop_at_once(0)
    await producer.close(DELIVERY_TIMEOUT_SECONDS)
    await feed.stop()
    await redis.aclose()
    log.info("Stopped.")
