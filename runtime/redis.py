"""The Redis client."""

from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.typing import EncodableT
from typing_extensions import override

from runtime.settings import RedisSettings


class _Connection(redis.asyncio.Connection):
    """Packs commands in C, as the blocking client does by itself: in Python, a command with a thousand
    keys takes milliseconds."""

    # Its type asks for a list where it takes what follows the command's name.
    _packer: Any = HiredisRespSerializer()

    @override
    def pack_command(self, *args: EncodableT) -> list[bytes]:
        packed: list[bytes] = self._packer.pack(*args)
        return packed


def connect(settings: RedisSettings) -> redis.asyncio.Redis:
    """A client that fails within the set time instead of waiting; answers are text."""
    return redis.asyncio.Redis.from_url(
        settings.url.get_secret_value(),
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        retry=Retry(NoBackoff(), 1),
        connection_class=_Connection,
        decode_responses=True,
    )
