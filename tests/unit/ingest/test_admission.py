"""Limits of requests and of events, counted in a real Valkey."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest
import redis.asyncio
from pydantic import SecretStr

from ingest.admission import UNCHECKED, Admissions, Refusal
from runtime.client_address import client_of
from runtime.clock import SystemClock
from runtime.quota import quota_key, seconds_left
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.config import DomainConfig
from tests.unit.runtime.clocks import JumpingClock

DOMAIN = DomainConfig(
    domainId="dom_1", orgId="org_1", host="shop.example", revision=1, syncTokenSha256=""
)
OTHER = DOMAIN.model_copy(update={"domain_id": "dom_2", "host": "other.example"})
CLIENT = "203.0.113.7"

type_of_limits = Callable[..., Admissions]


@pytest.fixture
def limits(redis_client: redis.asyncio.Redis) -> type_of_limits:
    def make(most: int = 120) -> Admissions:
        return Admissions(redis_client, SystemClock(), requests_per_minute=most)

    return make


async def used(client: redis.asyncio.Redis) -> int:
    found = await client.get(quota_key("org_1", SystemClock().now_ms()))
    return int(found or 0)


async def test_two_processes_let_exactly_so_many_through(limits: type_of_limits) -> None:
    doors = limits(), limits()
    found = await asyncio.gather(
        *(doors[number % 2].admit(DOMAIN, CLIENT, events=1) for number in range(130))
    )
    assert Counter(admission.refusal for admission in found) == {None: 120, Refusal.RATE: 10}
    assert sorted(a.remaining for a in found if a.refusal is None) == list(range(120))


async def test_a_refusal_says_when_to_come_again(limits: type_of_limits) -> None:
    door = limits(1)
    first, second = [await door.admit(DOMAIN, CLIENT, events=0) for _ in range(2)]
    assert (first.limit, first.remaining) == (1, 0)
    assert second.refusal is Refusal.RATE
    assert 58 <= second.reset_seconds <= 60
    known = door.flood(DOMAIN, CLIENT)
    assert known is not None
    assert known.refusal is Refusal.RATE
    assert 58 <= known.reset_seconds <= 60


async def test_the_window_slides(limits: type_of_limits, redis_client: redis.asyncio.Redis) -> None:
    """A request older than a minute counts no more; one of a moment ago does."""
    door = limits(2)
    await door.admit(DOMAIN, CLIENT, events=0)
    (key,) = await redis_client.keys("rate:*")
    now = int(str(await redis_client.lindex(key, 0)))
    await redis_client.delete(key)
    await redis_client.rpush(key, now - 1_000, now - 61_000)
    assert (await door.admit(DOMAIN, CLIENT, events=0)).refusal is None
    assert (await door.admit(DOMAIN, CLIENT, events=0)).refusal is Refusal.RATE
    assert 0 < await redis_client.ttl(key) <= 60


@pytest.mark.parametrize("gone", [1, 15, 16, 17, 32, 100])
async def test_however_many_requests_have_left_the_window(
    limits: type_of_limits, redis_client: redis.asyncio.Redis, gone: int
) -> None:
    door = limits(120)
    await door.admit(DOMAIN, CLIENT, events=0)
    (key,) = await redis_client.keys("rate:*")
    now = int(str(await redis_client.lindex(key, 0)))
    await redis_client.rpush(key, now - 30_000, *[now - 60_500] * gone)
    found = await door.admit(DOMAIN, CLIENT, events=0)
    assert (found.remaining, found.reset_seconds) == (117, 30)
    assert await redis_client.llen(key) == 3


async def test_clients_and_domains_do_not_share_a_limit(limits: type_of_limits) -> None:
    door = limits(1)
    asked = [(DOMAIN, CLIENT), (DOMAIN, "203.0.113.8"), (OTHER, CLIENT), (DOMAIN, None)]
    found = [await door.admit(domain, client, events=0) for domain, client in asked]
    assert [admission.refusal for admission in found] == [None] * 4


async def test_no_limit_at_all(limits: type_of_limits) -> None:
    free = limits(0)
    limited = limits(1)
    for _ in range(3):
        assert (await free.admit(DOMAIN, CLIENT, events=0)).refusal is None
        unlimited = await limited.admit(DOMAIN, CLIENT, events=0, is_limited=False)
        assert unlimited.refusal is None


async def test_the_quota_is_exact_and_shared_by_an_organisations_domains(
    limits: type_of_limits, redis_client: redis.asyncio.Redis
) -> None:
    door, change = limits(), {"monthly_events": 10}
    one, two = DOMAIN.model_copy(update=change), OTHER.model_copy(update=change)
    found = await asyncio.gather(
        *(door.admit(one if number % 2 else two, CLIENT, events=1) for number in range(13))
    )
    assert Counter(a.refusal for a in found) == {None: 10, Refusal.QUOTA: 3}
    assert [a.counted for a in found] == [a.refusal is None for a in found]
    assert await used(redis_client) == 10


async def test_a_request_that_exceeds_the_quota_counts_nothing(
    limits: type_of_limits, redis_client: redis.asyncio.Redis
) -> None:
    door, domain = limits(), DOMAIN.model_copy(update={"monthly_events": 10})
    assert (await door.admit(domain, CLIENT, events=8)).counted
    assert (await door.admit(domain, CLIENT, events=3)).refusal is Refusal.QUOTA
    assert await used(redis_client) == 8
    assert (await door.admit(domain, CLIENT, events=2)).refusal is None
    # Nothing is left: not even what costs nothing comes in.
    assert (await door.admit(domain, CLIENT, events=0)).refusal is Refusal.QUOTA


async def test_a_refused_request_is_not_counted_as_events(
    limits: type_of_limits, redis_client: redis.asyncio.Redis
) -> None:
    door = limits(1)
    await door.admit(DOMAIN, CLIENT, events=5)
    await door.admit(DOMAIN, CLIENT, events=7)
    assert await used(redis_client) == 5


async def test_events_that_were_not_stored_are_given_back(
    limits: type_of_limits, redis_client: redis.asyncio.Redis
) -> None:
    door, domain = limits(1), DOMAIN.model_copy(update={"monthly_events": 5})
    await door.admit(domain, CLIENT, events=5)
    await door.give_back(domain, 5)
    assert await used(redis_client) == 0
    assert await redis_client.ttl(quota_key("org_1", SystemClock().now_ms())) > 0
    await door.give_back(domain, 0)
    assert await used(redis_client) == 0


async def test_without_redis_everybody_comes_in() -> None:
    nobody = connect(RedisSettings(url=SecretStr("redis://127.0.0.1:1/0")))
    clock = JumpingClock()
    door = Admissions(nobody, clock, requests_per_minute=1)
    domain = DOMAIN.model_copy(update={"monthly_events": 0})
    try:
        assert [await door.admit(domain, CLIENT, events=1) for _ in range(3)] == [UNCHECKED] * 3
        await door.give_back(domain, 1)
    finally:
        await nobody.aclose()


async def test_redis_is_asked_again_after_a_moment(redis_client: redis.asyncio.Redis) -> None:
    clock = JumpingClock()
    door = Admissions(redis_client, clock, requests_per_minute=1)
    await redis_client.set(f"rate:dom_1:{CLIENT}", "not a list, so that the script fails")
    assert await door.admit(DOMAIN, CLIENT, events=0) == UNCHECKED
    await redis_client.flushall()
    assert await door.admit(DOMAIN, CLIENT, events=0) == UNCHECKED, "nobody waits so soon"
    await clock.sleep(1.1)
    assert (await door.admit(DOMAIN, CLIENT, events=0)).limit == 1


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("nonsense", "unknown"),
        (None, "unknown"),
    ],
)
def test_who_is_one_client(address: str | None, client: str) -> None:
    assert client_of(address) == client


@pytest.mark.parametrize(
    ("now_ms", "seconds"),
    [
        (1_767_225_600_000, 31 * 86_400 + 1),  # 2026-01-01
        (1_798_761_599_000, 2),  # the last second of 2026
        (1_770_000_000_000, (28 - 2 + 1) * 86_400 - (2 * 3600 + 40 * 60) + 1),
    ],
)
def test_how_long_a_month_still_is(now_ms: int, seconds: int) -> None:
    assert seconds_left(now_ms) == seconds
