"""What the commands share that drive records again: a topic read to its end, and a pace."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from runtime.clock import Clock
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord, partitions_of, read_all, reader_config
from runtime.lifecycle import Shutdown
from runtime.producer import DeliveryFailedError, ProducerFullError, RecordProducer
from runtime.settings import Settings
from schemas.record import Record

FAILURES: Final = (DeliveryFailedError, ProducerFullError, KafkaException)
"""What can come out of reading and sending, when Kafka fails."""

_READ_RECORDS: Final = 2000
_POLL_SECONDS: Final = 0.2
_METADATA_TIMEOUT_SECONDS: Final = 10.0
_DELIVERY_TIMEOUT_SECONDS: Final = 60.0
_LOTS_PER_SECOND: Final = 10
_CLOCK_SLACK_MS: Final = 60_000
"""A record's own time is set after the event was received, unless a clock was set back between."""


async def read_to_end(
    settings: Settings,
    topic: str,
    shutdown: Shutdown,
    *,
    from_ms: int = 0,
    partitions: Collection[int] = (),
) -> AsyncGenerator[list[ConsumedRecord], None]:
    """Lots of records of ``topic``, from where ``from_ms`` (Unix milliseconds) lies, until each of
    its partitions, or of those that are named, was read to its end or a shutdown is asked for.

    To be closed by who does not read on (``contextlib.aclosing``). Raises ``UnavailableError`` when
    Kafka does not answer or the topic is not there, ``KafkaException`` when it fails later.
    """
    consumer = _consumer(settings)
    try:
        starts = await asyncio.to_thread(
            _starts, consumer, settings, settings.topic(topic), from_ms, partitions
        )
        consumer.assign(starts)
        unread = {(one.topic, one.partition) for one in starts}
        while unread and not shutdown.is_asked:
            records, ends = await asyncio.to_thread(
                read_all, consumer, _READ_RECORDS, _POLL_SECONDS
            )
            unread -= ends
            yield records
    finally:
        await asyncio.to_thread(consumer.close)


class Pace:
    """So many events a second, in lots of a tenth of that."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._due = clock.monotonic()
        self.lot = max(1, per_second // _LOTS_PER_SECOND)

    async def wait(self, events: int) -> None:
        """Return when it is time for so many more.

        Time in which there was nothing to send is not made up for.
        """
        now = self._clock.monotonic()
        if self._due > now:
            await self._clock.sleep(self._due - now)
        self._due = max(self._due, now) + events / self._per_second


class Sender:
    """Puts records on their topics at a pace, until a shutdown is asked for."""

    def __init__(
        self, settings: Settings, clock: Clock, shutdown: Shutdown, per_second: int
    ) -> None:
        self._out = RecordProducer(
            settings.kafka, delivery_timeout_seconds=_DELIVERY_TIMEOUT_SECONDS
        )
        self._pace = Pace(clock, per_second)
        self._shutdown = shutdown

    async def send(self, records: Sequence[Record]) -> AsyncIterator[int]:
        """Send these; answers, lot by lot, how many Kafka has acknowledged.

        Raises one of ``FAILURES``.
        """
        lot = self._pace.lot
        for first in range(0, len(records), lot):
            if self._shutdown.is_asked:
                return
            now = records[first : first + lot]
            await self._pace.wait(len(now))
            await self._out.produce(now)
            yield len(now)


def failed(error: Exception, replayed: int, replay_id: str) -> UnavailableError:
    """What a person is told of one of ``FAILURES``; what was replayed until then stays so."""
    return UnavailableError(
        f"Kafka failed ({error}) when {replayed} events were replayed as {replay_id}"
    )


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        reader_config(settings.kafka, "replay")
        | {
            # Where the record to start from is not kept any more: the one after it.
            "auto.offset.reset": "earliest",
            # A slow replay leaves what it fetched lying: no more of it than this.
            "queued.max.messages.kbytes": 16_384,
            "fetch.queue.backoff.ms": 10,
        }
    )


def _starts(
    consumer: Consumer,
    settings: Settings,
    topic: str,
    from_ms: int,
    partitions: Collection[int],
) -> list[TopicPartition]:
    """Where to begin, in each partition that is to be read; a name that none has is passed over.

    A broker that cannot find a time answers with the start (the embedded one does), or not at all:
    then more is read, and passed over by the records' own times.
    """
    since = max(0, from_ms - _CLOCK_SLACK_MS)
    try:
        there = partitions_of(consumer, topic, settings.kafka, _METADATA_TIMEOUT_SECONDS)
        named = [number for number in there if not partitions or number in partitions]
        wanted = [TopicPartition(topic, number, since) for number in named]
        return (
            consumer.offsets_for_times(wanted, timeout=_METADATA_TIMEOUT_SECONDS) if wanted else []
        )
    except KafkaException as error:
        raise UnavailableError(
            f"Kafka at {settings.kafka.bootstrap} does not answer: {error}"
        ) from None
