"""What is to be on record, and how far the partitions are by it: committed together.

The outcome of a delivery, its dead letter or its copy on a topic where it waits, and the offset of the
record that it came from belong together. In a transaction Kafka has all of it or nothing: each outcome
is there once, and no delivery is in two topics or in none.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from runtime.clock import Clock
from runtime.kafka import client_config
from runtime.lifecycle import stop_at_once
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError, RecordProducer
from runtime.settings import KafkaSettings
from schemas.record import Record
from sinks.group import Group, offsets
from sinks.offsets import OffsetTracker, Partition, Position, Progress

log = get_logger(__name__)

_MOST_ENTRIES: Final = 5_000
"""In one commit: small enough that it is done within a fraction of a second."""

_CALL_SECONDS: Final = 10.0
_TRANSACTION_SECONDS: Final = 15.0
"""After which Kafka ends a transaction whose process does not."""


class Entry(NamedTuple):
    """What is to be on record about one delivery."""

    records: Sequence[Record]
    position: Position
    """Where the delivery was read. If its partition is another process's by the time of the
    commit, all of this is that one's to say."""
    finishes: bool
    """Whether nothing more is to be done about the record at that position."""


class Commit(Protocol):
    """How records and offsets come into Kafka."""

    async def start(self) -> None:
        """Get ready."""
        ...

    def generation(self) -> object:
        """Which assignment of the partitions this process has."""
        ...

    async def commit(
        self, records: Sequence[Record], progress: Mapping[Partition, Progress], generation: object
    ) -> bool:
        """Put records and offsets on record; False: nothing of it is, and it is to be tried again."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Journal:
    """Gathers entries and commits them, one commit after the other."""

    def __init__(
        self, commit: Commit, tracker: OffsetTracker, clock: Clock, interval_seconds: float
    ) -> None:
        self._commit = commit
        self._tracker = tracker
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._entries: list[Entry] = []
        self._has_entries = asyncio.Event()
        self._lock = asyncio.Lock()

    def add(self, entries: Iterable[Entry]) -> None:
        """These are to be on record with the next commit."""
        self._entries += entries
        if self._entries:
            self._has_entries.set()

    async def start(self) -> None:
        """Get ready to commit."""
        await self._commit.start()

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            await self._has_entries.wait()
            # To its end, also when this task is cancelled in the middle.
            await asyncio.shield(asyncio.ensure_future(self.flush()))
            await self._clock.sleep(self._interval_seconds)

    async def flush(self) -> None:
        """Commit what is here now; what cannot be committed now stays for the next time."""
        async with self._lock:
            while self._entries and await self._commit_some():
                """Until all of it is."""

    async def close(self) -> None:
        """Commit what is left, and let go."""
        await self.flush()
        await self._commit.close()

    async def _commit_some(self) -> bool:
        # The generation first: if the partitions move after this moment, Kafka refuses the commit.
        generation = self._commit.generation()
        entries = self._entries[:_MOST_ENTRIES]
        are_ours = self._tracker.ours(entry.position for entry in entries)
        ours = [entry for entry, is_ours in zip(entries, are_ours, strict=True) if is_ours]
        self._tracker.finish(entry.position for entry in ours if entry.finishes)
        progress = self._tracker.committable()
        records = [record for entry in ours for record in entry.records]
        if (records or progress) and not await self._commit.commit(records, progress, generation):
            return False
        self._tracker.mark_committed(progress)
        del self._entries[: len(entries)]
        if not self._entries:
            self._has_entries.clear()
        return True


class TransactionalCommit:
    """All or nothing, once: for Apache Kafka."""

    def __init__(self, settings: KafkaSettings, group: Group, name: str, clock: Clock) -> None:
        """``name`` is one that no other process has at the same time; what the last process of this
        name left open is ended at the start."""
        self._prefix = settings.topic_prefix
        self._group = group
        self._clock = clock
        self._producer = Producer(
            client_config(settings)
            | {
                "transactional.id": settings.topic_prefix + name,
                "transaction.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
                "delivery.timeout.ms": int(_TRANSACTION_SECONDS * 1000),
                "linger.ms": 5,
                "queue.buffering.max.messages": 500_000,
                "compression.type": "lz4",
                "error_cb": _log_error,
            }
        )

    async def start(self) -> None:
        """Take over the name."""
        await asyncio.to_thread(self._insist, self._producer.init_transactions)

    def generation(self) -> object:
        """As the group told it last."""
        return self._group.generation

    async def commit(
        self, records: Sequence[Record], progress: Mapping[Partition, Progress], generation: object
    ) -> bool:
        """One transaction."""
        return await asyncio.to_thread(self._transact, records, offsets(progress), generation)

    async def close(self) -> None:
        """Nothing is open between two commits."""

    def _transact(
        self, records: Sequence[Record], ends: list[TopicPartition], generation: Any
    ) -> bool:
        producer = self._producer
        try:
            producer.begin_transaction()
            for record in records:
                self._produce(record)
            if ends:
                self._insist(producer.send_offsets_to_transaction, ends, generation)
            self._insist(producer.commit_transaction)
        except KafkaException as error:
            return self._give_up(error)
        return True

    def _produce(self, record: Record) -> None:
        topic = self._prefix + record.topic
        while True:
            try:
                self._producer.produce(
                    topic, record.value, record.key, headers=record.headers or None
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _insist(self, call: Any, *arguments: Any) -> None:
        """Make a call again for as long as Kafka says that it may work yet, and no longer than it
        keeps a transaction open."""
        until = self._clock.monotonic() + _TRANSACTION_SECONDS
        while True:
            try:
                call(*arguments, _CALL_SECONDS)
            except KafkaException as error:
                if not error.args[0].retriable() or self._clock.monotonic() > until:
                    raise
                log.warning("Kafka is slow to commit; trying again.", error=error.args[0].str())
            else:
                return

    def _give_up(self, error: KafkaException) -> bool:
        """End the transaction, so that nothing of it counts; always False.

        Whatever cannot be ended in order is ended by a new process of this name.
        """
        cause = error.args[0]
        log.warning("A commit did not come about.", error=cause.str(), code=cause.name())
        if cause.fatal() or not cause.txn_requires_abort():
            self._stop(cause)
        try:
            self._insist(self._producer.abort_transaction)
        except KafkaException as failure:
            self._stop(failure.args[0])
        return False

    def _stop(self, cause: KafkaError) -> None:
        log.critical("Outcomes cannot be committed any more; stopping.", error=cause.str())
        stop_at_once()


class FlushThenCommit:
    """Outcomes first, offsets after: what can repeat an outcome, never lose one."""

    def __init__(self, producer: RecordProducer, group: Group) -> None:
        self._producer = producer
        self._group = group

    async def start(self) -> None:
        """There is nothing to get ready."""

    def generation(self) -> object:
        """Not needed: an outcome may be repeated here."""
        return None

    async def commit(
        self, records: Sequence[Record], progress: Mapping[Partition, Progress], generation: object
    ) -> bool:
        """Records, then offsets, of whatever generation. What Kafka does not acknowledge ends the
        process: it may or may not be there."""
        del generation
        try:
            await self._producer.produce(records)
        except (DeliveryFailedError, ProducerFullError) as error:
            log.critical("Outcomes were not acknowledged; stopping.", error=str(error))
            stop_at_once()
        self._group.commit_soon(progress)
        return True

    async def close(self) -> None:
        """Wait for what is outstanding."""
        await self._producer.close(_CALL_SECONDS)


def _log_error(error: KafkaError) -> None:
    log.warning("Kafka reported a problem.", error=error.str())
