"""The audit process: reads ``audit``, has it kept, and only then moves its offsets.

Two readers go their own ways, so that neither waits for the other's store: one notes in Redis what
became of dispatch keys, one keeps the event log in the database.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from audit.dispatches import note_dispatches
from audit.retention import sweep
from audit.store import EventLogStore
from audit.tables import upgrade
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.database import Database
from runtime.dispatches import Dispatches
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord, consumer_config, read_all
from runtime.lifecycle import Heartbeat, Shutdown, first_of, settle_memory
from runtime.logs import get_logger
from runtime.redis import connect
from runtime.settings import Settings
from schemas.topics import AUDIT

log = get_logger(__name__)

DISPATCHES: Final = "audit"
EVENT_LOG: Final = "audit-log"
"""The readers' consumer groups."""
CONSUME_RECORDS: Final = 5000
CONSUME_SECONDS: Final = 0.1
COMMIT_INTERVAL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5

Keep = Callable[[Sequence[ConsumedRecord]], Awaitable[None]]
"""What is done with records. Called with some of ``audit``; called again with the same ones,
and perhaps more, when it raised ``UnavailableError`` or the process was started again."""


class AuditReader:
    """One process's share of ``audit``."""

    def __init__(
        self, settings: Settings, keep: Keep, clock: Clock, group: str = DISPATCHES
    ) -> None:
        self._settings = settings
        self._keep = keep
        self._clock = clock
        # librdkafka commits what was stored, by interval, before a rebalance and at the end.
        self._consumer = Consumer(
            consumer_config(settings.kafka, group)
            | {
                "enable.auto.commit": True,
                "auto.commit.interval.ms": int(COMMIT_INTERVAL_SECONDS * 1000),
            }
        )
        self._loop = asyncio.get_running_loop()
        self._group = group
        self.joined = asyncio.Event()
        """Set when the group has given this process its share."""

    async def run(self, shutdown: Shutdown) -> None:
        """Work until a shutdown is asked for; what is not kept by then is read again later."""
        self._consumer.subscribe([self._settings.topic(AUDIT)], on_assign=self._on_assign)
        while not shutdown.is_asked:
            records = await self._read()
            if records and await self._kept(records, shutdown):
                self._move_on(records)
        await asyncio.to_thread(self._consumer.close)

    async def _read(self) -> list[ConsumedRecord]:
        records, _ = await asyncio.to_thread(
            read_all, self._consumer, CONSUME_RECORDS, CONSUME_SECONDS
        )
        return records

    async def _kept(self, records: list[ConsumedRecord], shutdown: Shutdown) -> bool:
        """Have records kept, however often that must be tried; false when a shutdown came first.

        Meanwhile polling goes on with the partitions on hold, so that the group does not take
        this process for dead. What a partition given to it in the meantime brought is added to
        ``records``.
        """
        waiting = False
        while not shutdown.is_asked:
            try:
                await self._keep(records)
            except UnavailableError as error:
                if not waiting:
                    log.error(  # noqa: TRY400
                        "Outcomes cannot be kept; waiting.", group=self._group, error=str(error)
                    )
                waiting = True
                self._consumer.pause(self._consumer.assignment())
                records += await self._read()
                await first_of(self._clock.sleep(RETRY_SECONDS), shutdown.wait())
            else:
                if waiting:
                    log.info("Outcomes are kept again.", group=self._group)
                    self._consumer.resume(self._consumer.assignment())
                return True
        return False

    def _move_on(self, records: Sequence[ConsumedRecord]) -> None:
        """Let the offsets after ``records`` be committed; of a partition that went to another
        process in the meantime, that process reads them again."""
        reached = {(record.topic, record.partition): record.offset + 1 for record in records}
        own = [(held.topic, held.partition) for held in self._consumer.assignment()]
        offsets = [TopicPartition(*place, reached[place]) for place in own if place in reached]
        if offsets:
            self._consumer.store_offsets(offsets=offsets)

    def _on_assign(self, _consumer: Consumer, _assigned: list[TopicPartition]) -> None:
        self._loop.call_soon_threadsafe(self.joined.set)


async def run_audit(settings: Settings, shutdown: Shutdown) -> None:
    """Keep what became of events until a shutdown is asked for."""
    clock = SystemClock()
    redis = connect(settings.redis)
    database = Database(settings.database_url)
    feed = ConfigFeed(settings)
    feed.start()
    dispatches = Dispatches(redis, settings.kafka.topic_prefix)
    noting = AuditReader(settings, partial(note_dispatches, dispatches), clock, DISPATCHES)
    keeping = AuditReader(settings, EventLogStore(database).keep, clock, EVENT_LOG)
    settle_memory(200_000)  # a batch and its rows are 50,000, and gone together
    try:
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(_beat(settings, (noting, keeping), clock))
            noted = tasks.create_task(noting.run(shutdown))
            await _until_upgraded(database, clock, shutdown)
            sweeping = tasks.create_task(_sweep(settings, database, feed, clock))
            await keeping.run(shutdown)
            await noted
            beating.cancel()
            sweeping.cancel()
    finally:
        await feed.stop()
        await database.close()
        await redis.aclose()
    log.info("Stopped.")


async def _until_upgraded(database: Database, clock: Clock, shutdown: Shutdown) -> None:
    """Wait for a database that is away."""
    waiting = False
    while not shutdown.is_asked:
        try:
            await upgrade(database)
        except UnavailableError as error:
            if not waiting:
                log.error("Waiting for the database.", error=str(error))  # noqa: TRY400
            waiting = True
            await first_of(clock.sleep(RETRY_SECONDS), shutdown.wait())
        else:
            return


async def _beat(settings: Settings, readers: Iterable[AuditReader], clock: Clock) -> None:
    """Beat from when each group has given this process its share."""
    for reader in readers:
        await reader.joined.wait()
    log.info("Working.", topic=settings.topic(AUDIT))
    await Heartbeat(settings.data_dir, "audit").keep_beating(clock)


async def _sweep(settings: Settings, database: Database, feed: ConfigFeed, clock: Clock) -> None:
    """Give up what has grown too old, again and again."""

    def retention_seconds(domain_id: str) -> int:
        domain = feed.by_id(domain_id)
        own = domain.log_retention_seconds if domain else None
        return settings.audit.retention_seconds if own is None else own

    await feed.wait_until_caught_up()
    while True:
        try:
            gone = await sweep(database, clock, retention_seconds)
        except UnavailableError as error:
            log.warning("What is too old could not be given up.", error=str(error))
        else:
            if any(gone.values()):
                log.info("Given up for its age.", **gone)
        await clock.sleep(settings.audit.sweep_seconds)
