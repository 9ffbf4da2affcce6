"""Reading the audit topic: one record per name, from the first one on."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from runtime.kafka import ConsumedRecord, partitions_of, read_all, reader_config
from runtime.logs import get_logger
from runtime.settings import Settings
from schemas.alert import Alert
from schemas.audit import Told, read_told
from schemas.outcome import Outcome
from schemas.topics import AUDIT

log = get_logger(__name__)

_POLL_SECONDS: Final = 0.2
_RECORDS: Final = 5000

Place: TypeAlias = tuple[str, int]
"""Topic and partition."""


def read_records(
    settings: Settings,
    *,
    follow: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[list[ConsumedRecord], None, None]:
    """All records of the topic, some at a time, in the order in which they lie in their partitions;
    with ``follow``, goes on with what comes.

    Raises ``UnavailableError`` when Kafka does not answer or the topic is not there.
    """
    with from_the_start(settings) as (consumer, unread):
        while (follow or unread) and not should_stop():
            records, ends = read_all(consumer, _RECORDS, _POLL_SECONDS)
            unread -= ends
            yield records


@contextmanager
def from_the_start(settings: Settings) -> Iterator[tuple[Consumer, set[Place]]]:
    """A consumer of the whole topic, at its start, and the partitions that it has.

    Raises ``UnavailableError`` when Kafka does not answer or the topic is not there.
    """
    consumer = Consumer(reader_config(settings.kafka, "audit-reader"))
    topic = settings.topic(AUDIT)
    try:
        numbers = partitions_of(consumer, topic, settings.kafka)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers])
        yield consumer, {(topic, number) for number in numbers}
    finally:
        consumer.close()


def read_audit(
    settings: Settings,
    *,
    follow: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Told]:
    """What ``read_records`` tells, each name once. The first record of a name wins: what repeats it
    after a crash tells the same again."""
    seen: set[str] = set()
    for records in read_records(settings, follow=follow, should_stop=should_stop):
        for record in records:
            told = read_value(record.value)
            if told is not None and told.name not in seen:
                seen.add(told.name)
                yield told


def read_outcomes(
    settings: Settings, *, follow: bool, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """The outcomes of ``read_audit``."""
    told = read_audit(settings, follow=follow, should_stop=should_stop)
    return (one for one in told if isinstance(one, Outcome))


def read_alerts(settings: Settings, *, follow: bool) -> Iterator[Alert]:
    """The alerts of ``read_audit``."""
    return (one for one in read_audit(settings, follow=follow) if isinstance(one, Alert))


def read_value(value: bytes | None) -> Told | None:
    """What the value of a record tells; None, and a line in the log, if it is nothing of ours."""
    told = read_told(value)
    if told is None:
        log.warning("A record on audit cannot be read; passed over.")
    return told


def read_outcome(value: bytes | None) -> Outcome | None:
    """The outcome that the value of a record is; None if it is something else."""
    told = read_value(value)
    return told if isinstance(told, Outcome) else None
