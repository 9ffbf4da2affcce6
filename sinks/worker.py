"""The sinks process: consumes deliveries, gives each destination its lane, commits what is done."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from platforms.base import AccountCredentials
from platforms.registry import PLATFORMS
from runtime.clock import SystemClock
from runtime.config_feed import ConfigFeed
from runtime.kafka import ConsumedRecord, consumer_config, read_all
from runtime.lifecycle import Heartbeat, Shutdown, first_of, stop_at_once
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError, RecordProducer
from runtime.settings import Settings
from runtime.vault import Vault
from schemas.config import DomainConfig
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.record import Record
from schemas.topics import deliveries
from sinks.client import PlatformClient
from sinks.lane import DestinationGoneError, Lane, LaneTools, Pending
from sinks.offsets import OffsetTracker, Partition, Position

log = get_logger(__name__)

GROUP: Final = "sinks"
CONSUME_RECORDS: Final = 2000
CONSUME_SECONDS: Final = 0.1
DELIVERY_TIMEOUT_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 10.0


class Sinks:
    """One process's share of the deliveries."""

    def __init__(self, settings: Settings, platforms: Sequence[str]) -> None:
        """``platforms`` are slugs of the registry.

        Raises ``ConfigError`` when there is no key to open credentials with.
        """
        self._settings = settings
        self._clock = SystemClock()
        self._vault = Vault(settings.vault)
        self._opened: dict[str, AccountCredentials] = {}
        self._tracker = OffsetTracker()
        self._lanes: dict[str, Lane] = {}
        self._burials: set[asyncio.Task[None]] = set()
        self._feed = ConfigFeed(settings, on_change=self._on_config)
        self._producer = RecordProducer(
            settings.kafka, delivery_timeout_seconds=DELIVERY_TIMEOUT_SECONDS
        )
        urls = {s: e.base_url for s, e in settings.platforms.items() if e.base_url is not None}
        self._tools = LaneTools(
            settings=settings.sinks,
            clock=self._clock,
            client=PlatformClient(urls, settings.sinks.request_timeout_seconds),
            dice=random.SystemRandom().random,
            record=self._record,
            credentials=self._credentials,
        )
        self._consumer = Consumer(consumer_config(settings.kafka, GROUP))
        self._topics = [settings.topic(deliveries(slug)) for slug in platforms]
        self._is_paused = False
        self._loop = asyncio.get_running_loop()
        self._joined = asyncio.Event()

    async def run(self, shutdown: Shutdown) -> None:
        """Work until a shutdown is asked for, then finish what is under way and commit it."""
        self._feed.start()
        await first_of(self._feed.wait_until_caught_up(), shutdown.wait())
        self._consumer.subscribe(
            self._topics,
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        beat = asyncio.create_task(self._beat())
        next_commit = self._clock.monotonic()
        while not shutdown.is_asked:
            records, _ = await asyncio.to_thread(
                read_all, self._consumer, CONSUME_RECORDS, CONSUME_SECONDS
            )
            for record in records:
                self._take(record)
            self._throttle_intake()
            if self._clock.monotonic() >= next_commit:
                await asyncio.to_thread(self._commit)
                next_commit = self._clock.monotonic() + self._settings.sinks.commit_interval_seconds
        beat.cancel()
        await self._drain()

    async def _beat(self) -> None:
        """Beat from when the group has given this process its share."""
        await self._joined.wait()
        log.info("Working.", topics=self._topics)
        await Heartbeat(self._settings.data_dir, "sinks").keep_beating(self._clock)

    def _take(self, record: ConsumedRecord) -> None:
        position = self._tracker.take((record.topic, record.partition), record.offset)
        try:
            delivery = Delivery.from_headers(record.headers)
            lane = self._lane(delivery)
        except ValueError as error:
            self._bury(record, position, str(error))
        else:
            lane.add(Pending(delivery, record.value or b"", position))

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
        task = asyncio.create_task(self._record([dead.to_record()], [position]))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _record(self, records: Sequence[Record], finished: Sequence[Position]) -> None:
        """Outcomes first, offsets after: the order that can repeat an outcome, never lose one."""
        try:
            await self._producer.produce(records)
        except (DeliveryFailedError, ProducerFullError) as error:
            log.critical("Outcomes were not acknowledged; stopping.", error=str(error))
            stop_at_once()
        for position in finished:
            self._tracker.finish(position)

    def _credentials(self, delivery: Delivery) -> AccountCredentials:
        domain = self._feed.by_id(delivery.domain_id)
        destination = domain.destination(delivery.destination_id) if domain else None
        if destination is None:
            raise DestinationGoneError("The destination was removed before this could be sent.")
        opened = self._opened.get(destination.sealed)
        if opened is None:
            plain = self._vault.open(
                destination.sealed,
                domain_id=delivery.domain_id,
                destination_id=delivery.destination_id,
            )
            opened = PLATFORMS[delivery.platform].Credentials.model_validate_json(plain)
            self._opened[destination.sealed] = opened
        return opened

    def _on_config(self, domain: DomainConfig) -> None:
        for destination in domain.destinations:
            if (lane := self._lanes.get(destination.id)) is not None:
                lane.configuration_changed()

    def _throttle_intake(self) -> None:
        """Hold the partitions while too much is under way; polling goes on, so that the group
        does not take this process for dead."""
        limit = self._settings.sinks.max_in_flight_records
        unfinished = self._tracker.unfinished
        if not self._is_paused and unfinished > limit:
            self._consumer.pause(self._consumer.assignment())
            self._is_paused = True
        elif self._is_paused and unfinished < limit // 2:
            self._consumer.resume(self._consumer.assignment())
            self._is_paused = False

    def _commit(self) -> None:
        offsets = self._tracker.committable()
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=_positions(offsets), asynchronous=False)
        except KafkaException as error:
            # Nothing is lost: what is not committed is worked again, under the same outcome ids.
            log.warning("Offsets were not committed.", error=str(error))
        else:
            self._tracker.mark_committed(offsets)

    def _on_assign(self, _consumer: Consumer, _assigned: list[TopicPartition]) -> None:
        self._loop.call_soon_threadsafe(self._joined.set)

    def _on_revoke(self, _consumer: Consumer, revoked: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(_consumer, revoked)

    def _on_lost(self, _consumer: Consumer, lost: list[TopicPartition]) -> None:
        self._tracker.forget([(p.topic, p.partition) for p in lost])

    async def _drain(self) -> None:
        """Give what is under way its time; what does not finish is worked again after a start."""
        for lane in self._lanes.values():
            lane.stop()
        tasks = {task for lane in self._lanes.values() for task in lane.tasks()} | self._burials
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._producer.close(DRAIN_SECONDS)
        await asyncio.to_thread(self._commit)
        await asyncio.to_thread(self._consumer.close)
        await self._tools.client.close()
        await self._feed.stop()
        log.info("Stopped.", unfinished=self._tracker.unfinished)


def _positions(offsets: dict[Partition, int]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()
    ]


async def run_sinks(settings: Settings, shutdown: Shutdown, platforms: Sequence[str]) -> None:
    """Deliver until a shutdown is asked for."""
    await Sinks(settings, platforms).run(shutdown)
