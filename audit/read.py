"""Reading the audit topic: one outcome per name, from the first record on."""

from collections.abc import Callable, Iterator
from typing import Annotated, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from runtime.errors import UnavailableError
from runtime.kafka import client_config, read_all
from runtime.logs import get_logger
from runtime.settings import Settings
from schemas.alert import Alert
from schemas.outcome import Outcome
from schemas.topics import AUDIT

log = get_logger(__name__)

_METADATA_TIMEOUT_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2


def _kind(value: object) -> str:
    """Outcomes had no kind before there were alerts."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return "alert" if kind == "alert" else "outcome"


_VALUES: Final[TypeAdapter[Outcome | Alert]] = TypeAdapter(
    Annotated[
        Annotated[Outcome, Tag("outcome")] | Annotated[Alert, Tag("alert")], Discriminator(_kind)
    ]
)


def read_audit(
    settings: Settings,
    *,
    follow: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome | Alert]:
    """Every outcome and every alert on the topic, each name once, in the order in which they lie in
    their partitions; with ``follow``, goes on with what comes.

    The first record of a name wins: what repeats it after a crash tells the same again.

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
                told = read_value(record.value)
                if told is not None and told.name not in seen:
                    seen.add(told.name)
                    yield told
    finally:
        consumer.close()


def read_outcomes(
    settings: Settings, *, follow: bool, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[Outcome]:
    """The outcomes of ``read_audit``."""
    told = read_audit(settings, follow=follow, should_stop=should_stop)
    return (one for one in told if isinstance(one, Outcome))


def read_alerts(settings: Settings, *, follow: bool) -> Iterator[Alert]:
    """The alerts of ``read_audit``."""
    return (one for one in read_audit(settings, follow=follow) if isinstance(one, Alert))


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


def read_value(value: bytes | None) -> Outcome | Alert | None:
    """What the value of a record tells; None, and a line in the log, if it is neither."""
    try:
        return _VALUES.validate_json(value or b"")
    except ValidationError:
        log.warning("A record on audit is neither outcome nor alert; passed over.")
        return None


def read_outcome(value: bytes | None) -> Outcome | None:
    """The outcome that the value of a record is; None if it is something else."""
    told = read_value(value)
    return told if isinstance(told, Outcome) else None
