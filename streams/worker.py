"""The streams process: one Faust app whose agent turns batches of raw events into deliveries."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import faust

from platforms.registry import PLATFORMS
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.errors import CapistreamError
from runtime.lifecycle import Heartbeat, Shutdown, first_of, stop_at_once
from runtime.logs import get_logger
from runtime.producer import RecordProducer
from runtime.quota import quota_key
from runtime.redis import connect
from runtime.settings import KafkaSettings, Settings
from schemas.config import DomainConfig
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.raw_event import RawEvent
from schemas.record import Record, SourceRecord
from schemas.topics import AUDIT, DEAD_LETTERS, RAW_EVENTS
from streams.claims import Claims
from streams.decode import UndecodableError, decode
from streams.dedupe import claim_key, first_source, source_token
from streams.fan_out import fan_out
from streams.faust_batches import (
    BatchSchema,
    InOrderAcks,
    LedgerTransport,
    batch_scheduler,
)
from streams.quota import Quota, correction

log = get_logger(__name__)

GROUP: Final = "streams"
DELIVERY_TIMEOUT_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 20.0

_Known: TypeAlias = tuple[RawEvent, DomainConfig]
_Read: TypeAlias = tuple[SourceRecord, _Known | DeadLetter]
_NOT_FORWARDED: Final = {AUDIT, DEAD_LETTERS}
"""Everything else that comes of an event is a delivery."""


class TooManyFailuresError(CapistreamError):
    """Nothing but dead letters for too long: it is this release that is broken, not the events."""


class Stage:
    """Everything between a batch of ``raw-events`` and the records that come of it."""

    def __init__(
        self, settings: Settings, feed: ConfigFeed, claims: Claims, quota: Quota, clock: Clock
    ) -> None:
        self._settings = settings.streams
        self._feed = feed
        self._claims = claims
        self._quota = quota
        self._clock = clock
        self._failures_in_a_row = 0
        self._unknown: set[str] = set()
        """Domains that were waited for in vain: the next record of one does not wait again."""

    async def work(self, batch: Sequence[SourceRecord]) -> list[Record]:
        """Decode, dedupe, enrich and route; answers what is to be produced.

        A record that cannot go on becomes a dead letter and does not stop its neighbours. Raises
        ``TooManyFailuresError`` when hardly anything else happens.
        """
        read = [(record, await self._read(record)) for record in batch]
        holders = await self._claim(read)
        output: list[Record] = []
        corrections: Counter[str] = Counter()
        for record, found in read:
            if isinstance(found, DeadLetter):
                output.append(self._buried(found))
                continue
            raw, domain = found
            token = _source(record)
            holder = holders.get(token)
            made = self._guarded(record, raw, domain, first_source(token, holder))
            output += made
            forwarded = any(one.topic not in _NOT_FORWARDED for one in made)
            change = correction(raw, token, holder, forwarded=forwarded)
            if change:
                corrections[quota_key(domain.org_id, raw.received_at)] += change
        await self._quota.correct(corrections)
        return output

    async def _claim(self, read: Sequence[_Read]) -> dict[str, str | None]:
        """Who holds the claim of each record's event. What is withheld claims nothing: it must
        not stand in the way of a copy that is not."""
        wanted = [
            (claim_key(found[0]), _source(record), found[1].dedupe_window_seconds)
            for record, found in read
            if not isinstance(found, DeadLetter) and found[0].withheld is None
        ]
        holders = await self._claims.take(wanted)
        return {token: holder for (_, token, _), holder in zip(wanted, holders, strict=True)}

    async def _read(self, record: SourceRecord) -> _Known | DeadLetter:
        try:
            raw = decode(record.value)
        except UndecodableError as error:
            return DeadLetter.of(record, DeadLetterReason.UNDECODABLE, str(error))
        domain = await self._domain(raw.domain_id)
        if domain is None:
            detail = f"there is no configuration for the domain {raw.domain_id}"
            return DeadLetter.of(record, DeadLetterReason.UNKNOWN_DOMAIN, detail)
        return raw, domain

    async def _domain(self, domain_id: str) -> DomainConfig | None:
        domain = self._feed.by_id(domain_id)
        if domain is None and domain_id not in self._unknown:
            domain = await self._feed.wait_for(
                domain_id, self._settings.unknown_domain_wait_seconds
            )
            if domain is None:
                self._unknown.add(domain_id)
        return domain

    def _guarded(
        self, record: SourceRecord, raw: RawEvent, domain: DomainConfig, first: str | None
    ) -> list[Record]:
        """No exception of a transform leaves here: Faust would acknowledge over it."""
        now_ms = self._clock.now_ms()
        token = _source(record)
        try:
            records = fan_out(raw, domain, PLATFORMS, source=token, first=first, now_ms=now_ms)
        except Exception as error:
            log.exception("A transform failed.", source=token)
            detail = f"{type(error).__name__} in a transform"
            return [self._buried(DeadLetter.of(record, DeadLetterReason.FAILED_TRANSFORM, detail))]
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


def _source(record: SourceRecord) -> str:
    return source_token(record.topic, record.partition, record.offset)


def create_app(settings: Settings) -> Any:
    """The Faust app with the settings that were measured to lose nothing (docs/adr/0002)."""
    kafka = settings.kafka
    app = faust.App(
        settings.topic(GROUP),
        broker=[f"kafka://{host}" for host in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        datadir=str(settings.data_dir / "faust"),
        ConsumerScheduler=batch_scheduler(settings.streams.batch_records),
        broker_commit_interval=settings.streams.commit_interval_seconds,
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds // 3,
        broker_request_timeout=max(40, kafka.session_timeout_seconds),
        broker_max_poll_records=settings.streams.batch_records,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        stream_wait_empty=True,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport = LedgerTransport(app.conf.broker_consumer, app)
    return app


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "plaintext":
        return None
    context = None
    if kafka.security_protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    if kafka.sasl_mechanism is None or kafka.sasl_password is None:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value(),
        mechanism=kafka.sasl_mechanism,
        ssl_context=context,
    )


def add_agent(app: Any, settings: Settings, stage: Stage, producer: RecordProducer) -> None:
    """Drive ``stage`` from ``raw-events``; batches overlap while Kafka acknowledges their output.

    The stage itself works one batch after the other, so that claims are taken in the order of
    the log.
    """
    source = app.topic(
        settings.topic(RAW_EVENTS), schema=BatchSchema(key_serializer="raw", value_serializer="raw")
    )

    async def fan_out_events(stream: Any) -> None:
        acks = InOrderAcks(app, settings.streams.batches_in_flight)
        async for event in stream.noack().events():
            await acks.wait_for_room()
            acks.add(producer.produce(await stage.work(event.value)), event)

    app.agent(source, name="fan-out")(_or_stop(fan_out_events))


def _or_stop(agent: Any) -> Any:
    """Faust acknowledges in a ``finally`` when an agent raises, and goes on: so none may."""

    async def stopping(stream: Any) -> None:
        try:
            await agent(stream)
        except Exception as error:
            log.critical("The agent failed; stopping.", error=str(error), exc_info=error)
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
    quota = Quota(redis, settings.kafka.topic_prefix)
    add_agent(app, settings, Stage(settings, feed, claims, quota, clock), producer)
    log.info("Reading the configuration.")
    await first_of(feed.wait_until_caught_up(), shutdown.wait())
    if not shutdown.is_asked:
        await app.start()
        log.info("Working.", bootstrap=settings.kafka.bootstrap)
        beat = asyncio.create_task(Heartbeat(settings.data_dir, "streams").keep_beating(clock))
        await first_of(shutdown.wait(), app.wait_until_stopped())
        beat.cancel()
        if app.crashed:
            log.critical("Faust crashed; stopping.", error=str(app.crash_reason))
            stop_at_once()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await app.stop()
        except TimeoutError:
            log.warning("The drain took too long; what was not committed is worked again.")
            stop_at_once(0)
    await producer.close(DELIVERY_TIMEOUT_SECONDS)
    await feed.stop()
    await redis.aclose()
    log.info("Stopped.")
