"""Configuration → ``domain-configs``, from where every other process follows it."""

from collections.abc import Sequence
from typing import Final

from runtime.producer import RecordProducer
from runtime.settings import Settings
from schemas.config import DomainConfig
from schemas.record import Record
from schemas.topics import DOMAIN_CONFIGS

DELIVERY_TIMEOUT_SECONDS: Final = 15.0


async def publish(settings: Settings, configs: Sequence[DomainConfig]) -> None:
    """Put whole configurations on the topic; returns once Kafka has acknowledged them.

    Raises ``DeliveryFailedError``.
    """
    producer = RecordProducer(
        settings.kafka, delivery_timeout_seconds=DELIVERY_TIMEOUT_SECONDS, linger_seconds=0
    )
    await producer.produce([_record(config) for config in configs])
    await producer.close(DELIVERY_TIMEOUT_SECONDS)


def _record(config: DomainConfig) -> Record:
    return Record(
        DOMAIN_CONFIGS,
        config.domain_id.encode(),
        config.model_dump_json(exclude_none=True).encode(),
    )
