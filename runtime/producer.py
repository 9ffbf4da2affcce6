"""A Kafka producer whose delivery reports can be awaited."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from runtime.errors import CapistreamError
from runtime.kafka import client_config
from runtime.logs import get_logger
from runtime.settings import KafkaSettings
from schemas.record import Record

log = get_logger(__name__)

_POLL_INTERVAL_SECONDS: Final = 0.001
"""How often delivery reports are fetched while any is outstanding. Polled on the loop itself: as
fast as a thread in the measurements, and callbacks need no hop back."""

_GRACE_SECONDS: Final = 0.5
"""How much longer than librdkafka somebody who waits for its reports is made to wait: it reports
later than it was told to when a broker holds a request and answers nothing."""

_LOST_IDENTITY: Final = {
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
}
"""The broker does not take this producer's sequence any more, and will not again."""


class DeliveryFailedError(CapistreamError):
    """Kafka did not acknowledge a record: it may or may not be in the log."""


class ProducerFullError(CapistreamError):
    """The producer's queue is full: the cluster is slower than what comes in."""


class RecordProducer:
    """An idempotent, acks=all producer for one event loop.

    ``produce`` answers with a future that is done when every record has its delivery report, so
    "acknowledged" always means "in the log of all in-sync replicas".

    A broker that was away for longer than the delivery timeout may refuse the sequence of the
    librdkafka producer from then on; it is replaced by a new one, and the records that failed are
    their sender's to send again.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        delivery_timeout_seconds: float,
        linger_seconds: float = 0.005,
        may_repeat: bool = False,
    ) -> None:
        """``may_repeat``: what is lost on its way may lie there twice, in its order all the same. A
        producer that may spares its first record the half second in which the others get their
        identity."""
        self._config: dict[str, Any] = client_config(settings) | {
            "acks": "all",
            "enable.idempotence": not may_repeat,
            "max.in.flight": 1 if may_repeat else 5,
            "linger.ms": linger_seconds * 1000,
            "delivery.timeout.ms": int(delivery_timeout_seconds * 1000),
            "queue.buffering.max.messages": 500_000,
            "compression.type": "lz4",
            "error_cb": _log_error,
        }
        self._producer = Producer(self._config)
        self._retired: list[Producer] = []
        self._patience_seconds = delivery_timeout_seconds + _GRACE_SECONDS
        self._waiting: deque[_Batch] = deque()
        self._prefix = settings.topic_prefix
        self._loop = asyncio.get_running_loop()
        self._outstanding = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._polling = False

    def produce(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Hand records to librdkafka; the future fails with ``DeliveryFailedError`` if any is not
        acknowledged in time.

        Raises ``ProducerFullError``, or ``DeliveryFailedError``, when not even queueing is
        possible; what was queued before that may still be delivered.
        """
        done: asyncio.Future[None] = self._loop.create_future()
        if not records:
            done.set_result(None)
            return done
        deadline = self._loop.time() + self._patience_seconds
        batch = _Batch(len(records), done, self, self._producer, deadline)
        self._waiting.append(batch)
        produce = self._producer.produce
        try:
            for record in records:
                produce(
                    self._prefix + record.topic,
                    record.value,
                    record.key,
                    on_delivery=batch.on_delivery,
                    headers=record.headers or None,
                )
                self._outstanding += 1
        except BufferError:
            done.cancel()
            raise ProducerFullError("the producer's queue is full") from None
        except KafkaException as error:
            done.cancel()
            self.replace(self._producer, error.args[0])
            raise DeliveryFailedError(str(error)) from None
        finally:
            self._keep_polling()
        return done

    def _keep_polling(self) -> None:
        if self._outstanding:
            self._idle.clear()
            if not self._polling:
                self._polling = True
                self._loop.call_later(_POLL_INTERVAL_SECONDS, self._poll)
        else:
            self._idle.set()

    def _poll(self) -> None:
        self._polling = False
        for producer in (self._producer, *self._retired):
            producer.poll(0)
        self._retired = [producer for producer in self._retired if len(producer)]
        now = self._loop.time()
        while self._waiting and self._waiting[0].is_over(now):
            self._waiting.popleft()
        self._keep_polling()

    def settle(self, producer: Producer, error: KafkaError | None) -> None:
        """Account for one delivery report of ``producer``."""
        self._outstanding -= 1
        if error is not None:
            self.replace(producer, error)

    def replace(self, producer: Producer, error: KafkaError) -> None:
        """Go on with a new producer if ``error`` says that this one can never deliver again."""
        if producer is self._producer and (error.fatal() or error.code() in _LOST_IDENTITY):
            log.warning("The broker refuses this producer; taking a new one.", error=error.str())
            self._retired.append(producer)
            self._producer = Producer(self._config)

    async def close(self, timeout_seconds: float) -> int:
        """Wait for what is outstanding; returns how many records are still without a report."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._idle.wait()
        except TimeoutError:
            log.warning("Records are left without a delivery report.", records=self._outstanding)
        return self._outstanding


class _Batch:
    """Counts the delivery reports of one ``produce`` call."""

    __slots__ = ("_deadline", "_done", "_error", "_left", "_owner", "_producer")

    def __init__(
        self,
        size: int,
        done: asyncio.Future[None],
        owner: RecordProducer,
        producer: Producer,
        deadline: float,
    ) -> None:
        self._deadline = deadline
        self._left = size
        self._done = done
        self._error: KafkaError | None = None
        self._owner = owner
        self._producer = producer

    def is_over(self, now: float) -> bool:
        """Whether nobody waits any more: all is reported, or it has taken too long."""
        if not self._done.done():
            if now < self._deadline:
                return False
            self._done.set_exception(DeliveryFailedError("no delivery report in time"))
        return True

    def on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        self._owner.settle(self._producer, error)
        self._left -= 1
        if error is not None:
            self._error = error
        if self._left == 0 and not self._done.done():
            if self._error is not None:
                self._done.set_exception(DeliveryFailedError(self._error.str()))
            else:
                self._done.set_result(None)


def _log_error(error: KafkaError) -> None:
    log.warning("Kafka reported a problem.", error=error.str())
