"""Where Faust is bent: agents receive whole batches, and offsets move only when we say so.

Faust hands an agent one record at a time at about 25 µs of its own work each, and it commits by
what it infers from gaps between acknowledged offsets, which loses records when an agent fails
(docs/adr/0002). So one Faust event here is up to a thousand consecutive records of one partition,
and the offset to commit is the one a ledger of ours names. Two private methods of
faust-streaming 0.15.3 are overridden for this, which is why its version is pinned and a kill test
stands in CI.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from typing_extensions import override

from runtime.lifecycle import stop_at_once
from runtime.logs import get_logger

log = get_logger(__name__)


class RecordBatch:
    """Looks like one consumer record to Faust; its value is the list of records."""

    __slots__ = (
        "checksum", "headers", "key", "offset", "partition", "serialized_key_size",
        "serialized_value_size", "timestamp", "timestamp_type", "topic", "value",
    )  # fmt: skip

    def __init__(self, records: list[Any]) -> None:
        last = records[-1]
        self.topic = last.topic
        self.partition = last.partition
        self.offset = last.offset
        self.timestamp = last.timestamp
        self.timestamp_type = last.timestamp_type
        self.headers = self.key = self.checksum = None
        self.value = records
        self.serialized_key_size = self.serialized_value_size = 0


def batch_scheduler(batch_records: int, batch_bytes: int) -> type[Any]:
    """A Faust ``ConsumerScheduler`` that yields batches within both bounds; a record that is
    larger than a batch is a batch."""

    class BatchScheduler:
        def iterate(self, records: Mapping[Any, list[Any]]) -> Iterator[tuple[Any, RecordBatch]]:
            for partition, found in records.items():
                for batch in _within(found, batch_records, batch_bytes):
                    yield partition, RecordBatch(batch)

    return BatchScheduler


def _within(records: list[Any], most: int, most_bytes: int) -> Iterator[list[Any]]:
    start = size = 0
    for end, record in enumerate(records):
        own = max(record.serialized_value_size, 0)  # -1 when there is no value
        if end > start and (end - start >= most or size + own > most_bytes):
            yield records[start:end]
            start, size = end, 0
        size += own
    if records:
        yield records[start:]


class BatchSchema(faust.Schema):  # type: ignore[misc] # Faust's base classes are untyped
    """Hands the list of records to the agent as it is."""

    @override
    def compile(
        self,
        app: Any,
        *,
        on_key_decode_error: Any = None,
        on_value_decode_error: Any = None,
        default_propagate: bool = False,
    ) -> Any:
        create_event = app.create_event

        async def pass_through(message: Any, *, propagate: bool = default_propagate) -> Any:
            del propagate  # nothing is decoded here, so nothing can fail here
            return create_event(message.key, message.value, headers=None, message=message)

        return pass_through


class LedgerConsumer(driver.Consumer):  # type: ignore[misc] # the same
    """Commits what the ledger says, never what Faust infers from gaps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.next_offsets: dict[Any, int] = {}
        """Partition → offset after the last record that is wholly done."""

    @override
    def _new_offset(self, tp: Any) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self.next_offsets.pop(tp, None)

    @override
    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Batches have no gaps that anybody should acknowledge."""

    @override
    async def on_partitions_revoked(self, revoked: Any) -> None:
        # Faust forgets which partitions have something to commit before it commits.
        await self.commit()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.next_offsets.pop(tp, None)


class LedgerTransport(driver.Transport):  # type: ignore[misc] # the same
    """Faust's Kafka transport with the consumer above."""

    Consumer = LedgerConsumer


class InOrderAcks:
    """Acknowledges batches strictly in the order in which they were taken, each once its output
    is in Kafka. A failure ends the process: going on could acknowledge over it."""

    def __init__(self, app: Any, depth: int) -> None:
        self._app = app
        self._taken: deque[tuple[asyncio.Future[None], Any]] = deque()
        self._room = asyncio.Semaphore(depth)

    async def wait_for_room(self) -> None:
        """Return when fewer than ``depth`` batches are under way, and take a place."""
        await self._room.acquire()

    def add(self, delivered: asyncio.Future[None], event: Any) -> None:
        """Acknowledge ``event`` when ``delivered`` and everything taken before it is done."""
        self._taken.append((delivered, event))
        delivered.add_done_callback(self._acknowledge)

    def _acknowledge(self, _: asyncio.Future[None]) -> None:
        # Run by callbacks, not by the agent's loop: a rebalance waits for outstanding events
        # while the agent waits for the next one.
        while self._taken and self._taken[0][0].done():
            delivered, event = self._taken[0]
            if delivered.cancelled() or (error := delivered.exception()) is not None:
                reason = "cancelled" if delivered.cancelled() else str(error)
                log.critical("Output was not acknowledged; stopping.", reason=reason)
                stop_at_once()
            self._taken.popleft()
            message = event.message
            if message.generation_id == self._app.consumer_generation_id:
                self._app.consumer.next_offsets[message.tp] = message.offset + 1
            event.ack()
            self._room.release()
