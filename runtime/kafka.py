"""Kafka clients: what they share, consuming, and the topics' administration."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka.admin import (
    AdminClient,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from runtime.errors import UnavailableError
from runtime.logs import get_logger
from runtime.settings import KafkaSettings
from schemas.topics import Topic

log = get_logger(__name__)

ADMIN_TIMEOUT_SECONDS: Final = 15.0


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """What every librdkafka client shares."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "security.protocol": settings.security_protocol,
        "client.id": "capistream",
        # Errors reach us by callback and are logged with fields; the library's own lines, twenty a
        # second while a broker is away, are for its developers.
        "log_level": 2,
        # A broker that comes back is to be found within a second, not after a minute of backoff.
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 30_000,
    }
    if settings.ssl_ca_file is not None:
        config["ssl.ca.location"] = str(settings.ssl_ca_file)
    if settings.sasl_mechanism is not None and settings.sasl_password is not None:
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    return config


def consumer_config(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """A group consumer that reads from the start and commits only what it is told to."""
    return client_config(settings) | {
        "group.id": settings.topic_prefix + group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "isolation.level": "read_committed",
        "session.timeout.ms": settings.session_timeout_seconds * 1000,
        "heartbeat.interval.ms": settings.session_timeout_seconds * 1000 // 3,
        "partition.assignment.strategy": "range",
        # The default of 1 s makes a consumer that drained its queue wait for that long.
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 100,
    }


def reader_config(settings: KafkaSettings, name: str) -> dict[str, Any]:
    """A consumer that is given its partitions, shares them with nobody and commits nothing; it is told
    where a partition ends."""
    return client_config(settings) | {
        "group.id": f"capistream-{name}",  # required by the client, never used
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": 100,
    }


def partitions_of(
    consumer: Consumer, topic: str, settings: KafkaSettings, timeout_seconds: float = 10.0
) -> list[int]:
    """The numbers of a topic's partitions; ``topic`` is its name on the cluster.

    Raises ``UnavailableError`` when Kafka does not answer or the topic is not there.
    """
    try:
        found = consumer.list_topics(topic, timeout=timeout_seconds).topics[topic].partitions
    except KafkaException as error:
        raise UnavailableError(f"Kafka at {settings.bootstrap} does not answer: {error}") from None
    if not found:
        raise UnavailableError(f"there is no topic {topic}; run `capistream topics apply`")
    return list(found)


class ConsumedRecord(NamedTuple):
    """One record as it was read, in bytes."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int = 0
    """Unix milliseconds, as the topic has it: when it was produced, or appended. 0: not told."""

    @classmethod
    def of(cls, message: Message) -> Self:
        """librdkafka types a message loosely; one that was consumed holds just these types."""
        read: Any = message
        return cls(
            topic=read.topic(),
            partition=read.partition(),
            offset=read.offset(),
            key=read.key(),
            value=read.value(),
            headers=tuple(read.headers() or ()),
            timestamp_ms=max(0, read.timestamp()[1]),
        )


def read_all(
    consumer: Consumer, count: int, timeout_seconds: float
) -> tuple[list[ConsumedRecord], set[tuple[str, int]]]:
    """Up to ``count`` records, and the partitions (topic, number) that were read to their end.

    Raises ``KafkaException`` for an error that librdkafka will not mend by itself.
    """
    records: list[ConsumedRecord] = []
    ends: set[tuple[str, int]] = set()
    for message in consumer.consume(count, timeout_seconds):
        error = message.error()
        if error is None:
            records.append(ConsumedRecord.of(message))
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            ends.add((message.topic() or "", message.partition() or 0))
        elif error.fatal():
            raise KafkaException(error)
        else:
            log.warning("Kafka reported a problem.", error=error.str())
    return records, ends


class TopicAdmin:
    """Creates and checks topics against the table in ``schemas.topics``."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client = AdminClient(client_config(settings))

    def reach(self, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> None:
        """Raises ``UnavailableError`` when the cluster does not answer in time."""
        self._existing(timeout_seconds)

    def _existing(self, timeout_seconds: float = ADMIN_TIMEOUT_SECONDS) -> dict[str, int]:
        try:
            metadata = self._client.list_topics(timeout=timeout_seconds)
        except KafkaException as error:
            raise UnavailableError(
                f"Kafka at {self._settings.bootstrap} does not answer ({error.args[0].str()}); "
                "is CAPISTREAM_KAFKA__BOOTSTRAP right and the broker up?"
            ) from None
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def missing(self, table: Iterable[Topic]) -> list[Topic]:
        """The rows that have no topic yet."""
        existing = self._existing()
        return [row for row in table if self._name(row) not in existing]

    def create(self, table: Iterable[Topic]) -> list[str]:
        """Create what is missing; returns the names created.

        Raises ``UnavailableError`` with the broker's word when it refuses.
        """
        wanted = self.missing(table)
        if not wanted:
            return []
        factor = self._settings.replication_factor
        futures = self._client.create_topics(
            [NewTopic(self._name(row), row.partitions, factor, config=row.settings) for row in wanted],
            operation_timeout=ADMIN_TIMEOUT_SECONDS,
            request_timeout=ADMIN_TIMEOUT_SECONDS,
        )  # fmt: skip
        created = []
        for name, future in futures.items():
            try:
                future.result(ADMIN_TIMEOUT_SECONDS)
                created.append(name)
            except KafkaException as error:
                # Somebody else made it between the look and the call: as good.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise UnavailableError(
                        f"topic {name} could not be created: {error.args[0].str()}"
                    ) from None
        return created

    def differences(self, table: Iterable[Topic]) -> list[str]:
        """What differs between the table and the cluster, one sentence each."""
        existing = self._existing()
        found = []
        present = []
        for row in table:
            name = self._name(row)
            if name not in existing:
                found.append(f"{name}: missing")
            else:
                present.append(row)
                if existing[name] != row.partitions:
                    found.append(f"{name}: {existing[name]} partitions, {row.partitions} wanted")
        return found + self._setting_differences(present)

    def _setting_differences(self, rows: list[Topic]) -> list[str]:
        resources = {self._name(row): row for row in rows}
        if not resources:
            return []
        futures = self._client.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in resources],
            request_timeout=ADMIN_TIMEOUT_SECONDS,
        )
        found = []
        for resource, future in futures.items():
            entries: dict[str, ConfigEntry] = future.result(ADMIN_TIMEOUT_SECONDS)
            for setting, wanted in resources[resource.name].settings.items():
                entry = entries.get(setting)
                if entry is not None and entry.value != wanted:
                    found.append(f"{resource.name}: {setting} is {entry.value}, {wanted} wanted")
        return found

    def _name(self, row: Topic) -> str:
        return self._settings.topic_prefix + row.name
