"""The audit process: reads ``audit``, has its outcomes kept, and only then moves its offsets."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from audit.dispatches import note_dispatches
from runtime.clock import Clock, SystemClock
from runtime.dispatches import Dispatches
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord, consumer_config, read_all
from runtime.lifecycle import Heartbeat, Shutdown, first_of
from runtime.logs import get_logger
from runtime.redis import connect
from runtime.settings import Settings
from schemas.topics import AUDIT

log = get_logger(__name__)

GROUP: Final = "audit"
CONSUME_RECORDS: Final = 2000
CONSUME_SECONDS: Final = 0.1
COMMIT_INTERVAL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 0.5

Keep = Callable[[Sequence[ConsumedRecord]], Awaitable[None]]
"""What is done with outcomes. Called with records of ``audit``; called again with the same ones,
and perhaps more, when it raised ``UnavailableError`` or the process was started again."""


class AuditReader:
    """One process's share of ``audit``."""

    def __init__(self, settings: Settings, keep: Keep, clock: Clock) -> None:
        self._settings = settings
        self._keep = keep
        self._clock = clock
        # librdkafka commits what was stored, by interval, before a rebalance and at the end.
        self._consumer = Consumer(
            consumer_config(settings.kafka, GROUP)
            | {
                "enable.auto.commit": True,
                "auto.commit.interval.ms": int(COMMIT_INTERVAL_SECONDS * 1000),
            }
        )
        self._loop = asyncio.get_running_loop()
        self._joined = asyncio.Event()

    async def run(self, shutdown: Shutdown) -> None:
        """Work until a shutdown is asked for; what is not kept by then is read again later."""
        self._consumer.subscribe([self._settings.topic(AUDIT)], on_assign=self._on_assign)
        beat = asyncio.create_task(self._beat())
        while not shutdown.is_asked:
            records = await self._read()
            if records and await self._kept(records, shutdown):
                self._move_on(records)
        beat.cancel()
        await asyncio.to_thread(self._consumer.close)
        log.info("Stopped.")

    async def _beat(self) -> None:
        """Beat from when the group has given this process its share."""
        await self._joined.wait()
        log.info("Working.", topic=self._settings.topic(AUDIT))
        await Heartbeat(self._settings.data_dir, "audit").keep_beating(self._clock)

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
                    log.error("Outcomes cannot be kept; waiting.", error=str(error))  # noqa: TRY400
                waiting = True
                self._consumer.pause(self._consumer.assignment())
                records += await self._read()
                await first_of(self._clock.sleep(RETRY_SECONDS), shutdown.wait())
            else:
                if waiting:
                    log.info("Outcomes are kept again.")
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
        self._loop.call_soon_threadsafe(self._joined.set)


async def run_audit(settings: Settings, shutdown: Shutdown) -> None:
    """Keep what became of dispatch keys until a shutdown is asked for."""
    redis = connect(settings.redis)
    dispatches = Dispatches(redis, settings.kafka.topic_prefix)
    await AuditReader(settings, partial(note_dispatches, dispatches), SystemClock()).run(shutdown)
    await redis.aclose()
