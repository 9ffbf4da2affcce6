"""Reading the audit topic: one outcome per name, from the first record on."""

from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from runtime.errors import UnavailableError
from runtime.kafka import client_config, read_all
from runtime.logs import get_logger
from runtime.settings import Settings
from schemas.outcome import Outcome
from schemas.topics import AUDIT

log = get_logger(__name__)

_METADATA_TIMEOUT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2


def read_outcomes(
    settings: Settings,
    *,
    follow: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome]:
    """Every outcome on the topic, each name once, in the order in which they lie in their
    partitions; with ``follow``, goes on with what comes.

    The first record of a name wins: what repeats it after a crash tells the same delivery again.

    Raises ``UnavailableError`` when Kafka does not answer or the topic is not there.
    """
    consumer = Consumer(
        client_config(settings.kafka)
        | {
            "group.id": "capistream-audit-reader",  # required by the client, never used
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
        }
    )
    try:
        partitions = _partitions(consumer, settings)
        consumer.assign(partitions)
        seen: set[str] = set()
        unread = {(p.topic, p.partition) for p in partitions}
        while (follow or unread) and not should_stop():
            records, ends = read_all(consumer, 1000, _POLL_SECONDS)
            unread -= ends
            for record in records:
                outcome = read_outcome(record.value)
                if outcome is not None and outcome.outcome_id not in seen:
                    seen.add(outcome.outcome_id)
                    yield outcome
    finally:
        consumer.close()


def _partitions(consumer: Consumer, settings: Settings) -> list[TopicPartition]:
    topic = settings.topic(AUDIT)
    try:
        metadata = consumer.list_topics(topic, timeout=_METADATA_TIMEOUT_SECONDS)
    except KafkaException as error:
        raise UnavailableError(
            f"Kafka at {settings.kafka.bootstrap} does not answer: {error}"
        ) from None
    found = metadata.topics[topic].partitions
    if not found:
        raise UnavailableError(f"there is no topic {topic}; run `capistream topics apply`")
    return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in found]


def read_outcome(value: bytes | None) -> Outcome | None:
    """The outcome that the value of a record holds; None, and a line in the log, if it holds none."""
    try:
        return Outcome.model_validate_json(value or b"")
    except ValidationError:
        log.warning("A record on audit is not an outcome; passed over.")
        return None
