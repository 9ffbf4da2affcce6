"""How often something may be asked for, counted in a real Valkey and without one."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from pydantic import SecretStr
from structlog.testing import capture_logs

from capistream.embedded import free_port
from manage.errors import RefusedError
from manage.limits import Limits
from runtime.clock import SystemClock
from runtime.settings import KafkaSettings, RedisSettings, Settings
from tests.unit.runtime.clocks import JumpingClock


@pytest.fixture
async def limits(valkey: RedisSettings, redis_client: redis.asyncio.Redis) -> AsyncIterator[Limits]:
    made = Limits(Settings(redis=valkey), SystemClock())
    yield made
    await made.close()


async def test_a_window_moves(limits: Limits) -> None:
    answers = [await limits.take("login", "a", most=2, seconds=1) for _ in range(3)]
    assert [one.allowed for one in answers] == [True, True, False]
    assert [one.remaining for one in answers] == [1, 0, 0]
    assert answers[-1].reset_seconds == 1
    await SystemClock().sleep(1.05)
    assert (await limits.take("login", "a", most=2, seconds=1)).allowed


async def test_each_has_its_own(limits: Limits) -> None:
    for what, whose in (("login", "a"), ("login", "b"), ("invite", "a")):
        assert (await limits.take(what, whose, most=1, seconds=60)).allowed


async def test_what_is_too_much_is_refused(limits: Limits) -> None:
    await limits.check("login", "a", most=1, seconds=60)
    with pytest.raises(RefusedError, match="only 1") as refused:
        await limits.check("login", "a", most=1, seconds=60)
    assert refused.value.retry_after_seconds in (59, 60)


async def test_processes_share_the_counts(
    limits: Limits, valkey: RedisSettings, redis_client: redis.asyncio.Redis
) -> None:
    other = Limits(Settings(redis=valkey), SystemClock())
    assert (await limits.take("login", "a", most=1, seconds=60)).allowed
    assert not (await other.take("login", "a", most=1, seconds=60)).allowed
    await other.close()
    kafka = KafkaSettings(topic_prefix="blue.")
    elsewhere = Limits(Settings(redis=valkey, kafka=kafka), SystemClock())
    assert (await elsewhere.take("login", "a", most=1, seconds=60)).allowed
    await elsewhere.close()
    for key in await redis_client.keys():
        assert await redis_client.ttl(key) in (59, 60)


async def test_without_redis_a_process_counts_alone() -> None:
    away = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"))
    limits = Limits(Settings(redis=away), JumpingClock())
    with capture_logs() as logs:
        answers = [await limits.take("login", "a", most=2, seconds=60) for _ in range(3)]
    assert [one.allowed for one in answers] == [True, True, False]
    told = [one["event"] for one in logs]
    assert told == ["Redis does not answer; this process counts requests alone."]
    await limits.close()


async def test_redis_is_asked_again_after_a_while(
    valkey: RedisSettings, redis_client: redis.asyncio.Redis
) -> None:
    clock = JumpingClock()
    limits = Limits(Settings(redis=valkey), clock)
    await redis_client.config_set("maxmemory", "1")  # nothing can be written
    try:
        with capture_logs() as logs:
            assert (await limits.take("login", "a", most=1, seconds=60)).allowed
            assert not (await limits.take("login", "a", most=1, seconds=60)).allowed
            await redis_client.config_set("maxmemory", "0")
            assert not (await limits.take("login", "a", most=1, seconds=60)).allowed
            clock.ms += 5000
            assert (await limits.take("login", "a", most=1, seconds=60)).allowed
    finally:
        await redis_client.config_set("maxmemory", "0")
    assert [one["event"] for one in logs] == [
        "Redis does not answer; this process counts requests alone.",
        "Redis answers again.",
    ]
    await limits.close()
