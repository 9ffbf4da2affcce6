"""The sinks process: consumes deliveries, gives each destination its lane, commits what is done."""

import asyncio
import hashlib
import random
import threading
from collections.abc import Sequence
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from platforms.registry import PLATFORMS
from runtime.clock import SystemClock
from runtime.config_feed import ConfigFeed
from runtime.kafka import ConsumedRecord, consumer_config, read_all
from runtime.lifecycle import Heartbeat, Shutdown, first_of, settle_memory, stop_at_once
from runtime.logs import get_logger
from runtime.producer import RecordProducer
from runtime.redis import connect
from runtime.settings import Settings
from runtime.slot import Slot
from runtime.vault import Seal, Vault
from schemas.config import Destination, DomainConfig
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind
from schemas.topics import deliveries, parked, waiting
from sinks.batcher import Pending
from sinks.client import PlatformClient
from sinks.flow import Flow
from sinks.group import Group
from sinks.journal import Commit, Entry, FlushThenCommit, Journal, TransactionalCommit
from sinks.lane import Lane
from sinks.ledger import Ledger
from sinks.offsets import OffsetTracker, Position
from sinks.tools import Account, DestinationGoneError, LaneTools
from sinks.waiting import Waiting

log = get_logger(__name__)

GROUP: Final = "sinks"
CONSUME_RECORDS: Final = 500
"""In one go: giving them to their lanes takes 5 ms, during which no answer is read and no request leaves."""

CONSUME_SECONDS: Final = 0.1
DELIVERY_TIMEOUT_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 8.0
"""Below the ten seconds that Docker, for one, gives a process to end."""

_YOUNG_OBJECTS: Final = 200_000
"""Full batches and their records, which are gone together: a sixth of the processor went into looking at
them before."""

_CALL_SECONDS: Final = 10.0
_AGAIN_SECONDS: Final = 0.2
_OFFSETS_SECONDS: Final = 60.0
"""How long the offsets of an earlier process may stay undecided: longer than its transaction."""


class Sinks:
    """One process's share of the deliveries."""

    def __init__(self, settings: Settings, platforms: Sequence[str]) -> None:
        """``platforms`` are slugs of the registry.

        Raises ``ConfigError`` when there is no key to open credentials with.
        """
        self._settings = settings
        self._clock = SystemClock()
        self._loop = asyncio.get_running_loop()
        self._vault = Vault(settings.vault)
        self._accounts: dict[str, Account] = {}
        self._revisions: dict[str, str] = {}
        self._lanes: dict[str, Lane] = {}
        self._feed = ConfigFeed(settings, on_change=self._on_config)
        self._consumer = Consumer(consumer_config(settings.kafka, GROUP))
        self._topics = [
            settings.topic(topic)
            for slug in platforms
            for topic in (deliveries(slug), *waiting(slug))
        ]
        self._parked_topics = {settings.topic(parked(slug)): slug for slug in platforms}
        self._group = Group(self._consumer)
        self._tracker = OffsetTracker()
        self._flow = Flow(self._consumer, self._clock, self._tracker)
        sinks = settings.sinks
        self._waiting = Waiting(sinks.parked_seconds, sinks.releases_per_second)
        self._journal = Journal(
            self._commit(), self._tracker, self._clock, sinks.commit_interval_seconds
        )
        self._redis = connect(settings.redis)
        prefix = settings.kafka.topic_prefix
        self._tools = LaneTools(
            settings=sinks,
            clock=self._clock,
            client=PlatformClient(settings.platform_urls, sinks.request_timeout_seconds),
            ledger=Ledger(self._redis, self._clock, sinks.ledger_seconds, prefix),
            dice=random.SystemRandom().random,
            room=asyncio.Semaphore(sinks.requests_in_total),
            is_crowded=lambda: self._flow.is_crowded,
            record=self._journal.add,
            ours=self._tracker.ours,
            account=self._account,
            failed=_stop,
        )
        self._joined = asyncio.Event()

    def _commit(self) -> Commit:
        kafka = self._settings.kafka
        if not self._settings.audit.transactions:
            producer = RecordProducer(kafka, delivery_timeout_seconds=DELIVERY_TIMEOUT_SECONDS)
            return FlushThenCommit(producer, self._group)
        self._slot = Slot(self._settings.data_dir, "sinks")
        return TransactionalCommit(kafka, self._group, self._slot.name, self._clock)

    async def run(self, shutdown: Shutdown) -> None:
        """Work until a shutdown is asked for, then finish what is under way and commit it.

        Raises ``ConfigError`` when these are not the keys that credentials are sealed with.
        """
        self._feed.start()
        await first_of(self._feed.wait_until_caught_up(), shutdown.wait())
        self._vault.check(
            Seal(domain.domain_id, destination.id, destination.sealed)
            for domain in self._feed
            for destination in domain.destinations
        )
        await first_of(self._journal.start(), shutdown.wait())
        journal = asyncio.create_task(self._journal.run())
        journal.add_done_callback(_stop_if_failed)
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        beat = asyncio.create_task(self._beat())
        while not shutdown.is_asked:
            records = await asyncio.to_thread(self._read)
            now = self._clock.monotonic()
            for record in records:
                self._take(record, now)
            self._limit()
        beat.cancel()
        await self._drain(journal)

    async def _beat(self) -> None:
        """Beat from when the group has given this process its share."""
        await self._joined.wait()
        settle_memory(_YOUNG_OBJECTS)
        log.info("Working.", topics=self._topics)
        await Heartbeat(self._settings.data_dir, "sinks").keep_beating(self._clock)

    def _read(self) -> list[ConsumedRecord]:
        self._flow.apply()
        self._group.commit_due()
        records, _ = read_all(self._consumer, CONSUME_RECORDS, CONSUME_SECONDS)
        self._group.note_generation()
        return records

    def _take(self, record: ConsumedRecord, now: float) -> None:
        place = (record.topic, record.partition)
        if self._flow.is_held(place):
            return  # read again when its partition goes on
        try:
            delivery = Delivery.from_headers(record.headers)
            lane = self._lane(delivery)
        except ValueError as error:
            if position := self._tracker.take(place, record.offset):
                self._bury(record, position, str(error))
            return
        is_parked = record.topic in self._parked_topics
        if delivery.not_before:
            delay_ms = self._waiting.delay_ms(delivery, self._clock.now_ms(), is_parked=is_parked)
            if delay_ms:
                self._flow.hold(place, record.offset, delay_ms / 1000)
                return
        if position := self._tracker.take(place, record.offset):
            told = OutcomeKind.PARKED if is_parked else None
            payload = record.value or b""
            lane.add(Pending(delivery, payload, position, now, delivery.name, told))

    def _lane(self, delivery: Delivery) -> Lane:
        lane = self._lanes.get(delivery.destination_id)
        if lane is None:
            platform = PLATFORMS.get(delivery.platform)
            if platform is None:
                raise ValueError(f"delivery header 'platform': {delivery.platform!r} is not one")
            lane = self._lanes[delivery.destination_id] = Lane(platform, self._tools)
        return lane

    def _bury(self, record: ConsumedRecord, position: Position, detail: str) -> None:
        dead = DeadLetter.of(record, DeadLetterReason.UNDECODABLE, detail)
        self._journal.add([Entry([dead.to_record()], position, finishes=True)])

    def _limit(self) -> None:
        """Read no more than can be held."""
        settings = self._settings.sinks
        records = self._tracker.unfinished / settings.max_in_flight_records
        size = sum(lane.waiting_bytes for lane in self._lanes.values())
        self._flow.fill(max(records, size / settings.max_in_flight_bytes))

    def _account(self, delivery: Delivery) -> Account:
        domain = self._feed.by_id(delivery.domain_id)
        destination = domain.destination(delivery.destination_id) if domain else None
        if destination is None:
            raise DestinationGoneError("The destination was removed before this could be sent.")
        opened = self._accounts.get(destination.id)
        revision = _revision(destination)
        if opened is None or opened.revision != revision:
            plain = self._vault.open(
                destination.sealed,
                domain_id=delivery.domain_id,
                destination_id=delivery.destination_id,
            )
            credentials = PLATFORMS[delivery.platform].Credentials.model_validate_json(plain)
            opened = self._accounts[destination.id] = Account(credentials, revision)
        return opened

    def _on_config(self, domain: DomainConfig) -> None:
        for destination in domain.destinations:
            revision = _revision(destination)
            if (lane := self._lanes.get(destination.id)) is not None:
                lane.configuration_changed(revision)
            if self._revisions.get(destination.id) != revision:
                self._revisions[destination.id] = revision
                self._release([destination.platform])

    def _release(self, platforms: Sequence[str]) -> None:
        for platform in platforms:
            self._waiting.release(platform, self._clock.now_ms())
        topics = {topic for topic, slug in self._parked_topics.items() if slug in platforms}
        self._flow.release(topics)

    # The group

    def _on_assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        starts = self._committed(consumer, assigned)
        for start in starts:
            start.offset = max(start.offset, OFFSET_BEGINNING)
            beyond = start.metadata or ""
            self._tracker.begin((start.topic, start.partition), start.offset, beyond)
        consumer.assign(starts)
        # A pause outlives the assignment in which it was made.
        consumer.resume(starts)
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        # What was parked may have been mended since.
        self._release(list(self._parked_topics.values()))
        for lane in self._lanes.values():
            lane.take_over()
        self._joined.set()

    def _committed(
        self, consumer: Consumer, assigned: list[TopicPartition]
    ) -> list[TopicPartition]:
        """Where an earlier process stopped; waited for while its last commit is undecided."""
        until = self._clock.monotonic() + _OFFSETS_SECONDS
        while True:
            try:
                found = consumer.committed(assigned, timeout=_CALL_SECONDS)
                undecided = next((one.error for one in found if one.error is not None), None)
                if undecided is None:
                    return found
                problem = undecided.str()
            except KafkaException as error:
                problem = error.args[0].str()
            if self._clock.monotonic() > until:
                log.critical("Kafka does not say where to go on; stopping.", error=problem)
                stop_at_once()
            threading.Event().wait(_AGAIN_SECONDS)

    def _on_revoke(self, _consumer: Consumer, revoked: list[TopicPartition]) -> None:
        """Have on record what is done, while the partitions are still this process's."""
        done = asyncio.run_coroutine_threadsafe(self._hand_over(), self._loop)
        try:
            done.result(self._settings.sinks.request_timeout_seconds + _CALL_SECONDS)
        except TimeoutError:
            log.warning("The commit before a rebalance took too long; it is worked again.")
        self._group.commit_due()
        self._on_lost(_consumer, revoked)

    async def _hand_over(self) -> None:
        """Wait for the answers to what is under way: nobody else is to post it too."""
        under_way = {task for lane in self._lanes.values() for task in lane.hand_over()}
        if under_way:
            await asyncio.wait(under_way, timeout=self._settings.sinks.request_timeout_seconds)
        await self._journal.flush()

    def _on_lost(self, _consumer: Consumer, lost: list[TopicPartition]) -> None:
        places = [(one.topic, one.partition) for one in lost]
        self._tracker.forget(places)
        self._flow.forget(places)

    async def _drain(self, journal: asyncio.Task[None]) -> None:
        """Give what is under way its time; what does not finish is worked again after a start."""
        lanes = [asyncio.create_task(lane.stop()) for lane in self._lanes.values()]
        if lanes:
            _, late = await asyncio.wait(lanes, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        journal.cancel()
        await self._journal.close()
        await asyncio.to_thread(self._group.commit_due)
        await asyncio.to_thread(self._consumer.close)
        await self._tools.client.close()
        await self._redis.aclose()
        await self._feed.stop()
        log.info("Stopped.", unfinished=self._tracker.unfinished)


def _revision(destination: Destination) -> str:
    return hashlib.blake2b(destination.sealed.encode(), digest_size=8).hexdigest()


def _stop(error: BaseException) -> None:
    """A mistake of ours: nothing is known of what it left half done, so the log is to say it."""
    log.critical("A lane failed; stopping.", exc_info=error)
    stop_at_once()


def _stop_if_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _stop(error)


async def run_sinks(settings: Settings, shutdown: Shutdown, platforms: Sequence[str]) -> None:
    """Deliver until a shutdown is asked for."""
    await Sinks(settings, platforms).run(shutdown)
