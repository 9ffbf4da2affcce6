"""Configuration → ``domain-configs``, from where every other process follows it."""

from collections.abc import Sequence
from typing import Final

from runtime.errors import UnavailableError
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError, RecordProducer
from runtime.settings import Settings
from schemas.config import DomainConfig
from schemas.record import Record
from schemas.topics import DOMAIN_CONFIGS

log = get_logger(__name__)

DELIVERY_TIMEOUT_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 3.0
"""How long an answer of the API waits for Kafka. The reconciler makes up for what it misses."""


class Publisher:
    """Puts configurations on the topic for as long as the process lives."""

    def __init__(
        self, settings: Settings, delivery_timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._producer = RecordProducer(
            settings.kafka,
            delivery_timeout_seconds=delivery_timeout_seconds,
            linger_seconds=0,
            may_repeat=True,
        )

    async def publish(self, configs: Sequence[DomainConfig]) -> bool:
        """Put whole configurations on the topic; whether Kafka acknowledged all of them."""
        return await self._produce([_record(config) for config in configs])

    async def remove(self, domain_ids: Sequence[str]) -> bool:
        """Take domains off the topic; whether Kafka acknowledged it."""
        return await self._produce(
            [Record(DOMAIN_CONFIGS, one.encode(), None) for one in domain_ids]
        )

    async def close(self) -> None:
        """Wait for what is outstanding."""
        await self._producer.close(DELIVERY_TIMEOUT_SECONDS)

    async def _produce(self, records: Sequence[Record]) -> bool:
        if not records:
            return True
        try:
            await self._producer.produce(records)
        except (DeliveryFailedError, ProducerFullError) as error:
            log.warning("A configuration is not on Kafka yet; it is tried again.", error=str(error))
            return False
        return True


async def publish(
    settings: Settings, configs: Sequence[DomainConfig], removed: Sequence[str] = ()
) -> None:
    """Put whole configurations on the topic, and take domains off it; returns once Kafka has
    acknowledged all of it.

    Raises ``UnavailableError`` when Kafka does not.
    """
    publisher = Publisher(settings, DELIVERY_TIMEOUT_SECONDS)
    done = await publisher.publish(configs) and await publisher.remove(removed)
    await publisher.close()
    if not done:
        raise UnavailableError(
            f"the change is kept, but Kafka at {settings.kafka.bootstrap} did not acknowledge it: the "
            "manage process publishes it, or `capistream topics rebuild`"
        )


def _record(config: DomainConfig) -> Record:
    return Record(
        DOMAIN_CONFIGS,
        config.domain_id.encode(),
        config.model_dump_json(exclude_none=True).encode(),
    )
