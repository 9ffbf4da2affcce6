"""The Redis client."""

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime.settings import RedisSettings


def connect(settings: RedisSettings) -> redis.asyncio.Redis:
    """A client that fails within the set time instead of waiting; answers are text."""
    return redis.asyncio.Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )
