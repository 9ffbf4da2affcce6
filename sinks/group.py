"""What is asked of the consumer besides records. All of it is asked by the thread that reads.

A consumer takes one call at a time: a second thread would wait for the first one's read to end, and in
a rebalance, which happens within a read, for itself.
"""

import threading
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runtime.logs import get_logger
from sinks.offsets import Partition, Progress

log = get_logger(__name__)

_LOST: Final = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
}
"""The partitions are somebody else's by now."""


class Group:
    """This process's membership in the consumer group."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._lock = threading.Lock()
        self._due: dict[Partition, Progress] = {}
        self.generation: object = None
        """Which assignment of the partitions this process had after the last read. An older one is
        safe to use: Kafka refuses what is committed under it."""

    def note_generation(self) -> None:
        """Ask for the generation; to be called after each read, by the reading thread."""
        self.generation = self._consumer.consumer_group_metadata()

    def commit_soon(self, progress: Mapping[Partition, Progress]) -> None:
        """Have offsets committed by the reading thread, before its next read."""
        with self._lock:
            self._due.update(progress)

    def commit_due(self) -> None:
        """Commit what is due; to be called by the reading thread."""
        with self._lock:
            due, self._due = self._due, {}
        if not due:
            return
        try:
            self._consumer.commit(offsets=offsets(due), asynchronous=False)
        except KafkaException as error:
            # Nothing is lost: what is not committed is worked again, under the same outcome ids.
            if error.args[0].code() not in _LOST:
                log.warning("Offsets were not committed.", error=error.args[0].str())


def offsets(progress: Mapping[Partition, Progress]) -> list[TopicPartition]:
    """Progress in Kafka's form: the offset, and beside it what is finished beyond."""
    return [
        TopicPartition(topic, partition, done.offset, done.beyond)
        for (topic, partition), done in progress.items()
    ]
