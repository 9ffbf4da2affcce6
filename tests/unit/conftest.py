"""A real Valkey for the tests of whatever keeps something in Redis."""

import subprocess
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ConnectionError as NoRedisError

from capistream.embedded import free_port, valkey_command
from runtime.redis import connect
from runtime.settings import RedisSettings


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """Settings that name a Valkey of this test run's own."""
    directory, port = tmp_path_factory.mktemp("valkey"), free_port()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(valkey_command(port, directory), stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        with Redis(port=port) as probe:
            while True:
                try:
                    probe.ping()
                    break
                except NoRedisError:
                    assert time.monotonic() < deadline, (directory / "log").read_text()
                    time.sleep(0.02)
        yield RedisSettings(url=SecretStr(f"redis://127.0.0.1:{port}/0"))
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
async def redis_client(valkey: RedisSettings) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of an empty Valkey."""
    client = connect(valkey)
    await client.flushall()
    yield client
    await client.aclose()
