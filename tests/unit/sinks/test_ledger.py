"""What was worked is remembered, by its name and where it lay."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from runtime.redis import connect
from runtime.settings import RedisSettings
from sinks.ledger import Known, Ledger
from sinks.offsets import Position
from tests.unit.runtime.clocks import JumpingClock
from tests.unit.sinks.test_batcher import pending

if TYPE_CHECKING:
    from redis.asyncio import Redis

ELSEWHERE = Position(("deliveries.meta.retry.1", 0), 0, 1)


@pytest.fixture
def ledger(redis_client: "Redis") -> Ledger:
    return Ledger(redis_client, JumpingClock(), 600)


async def test_of_what_was_never_worked_nothing_is_known(ledger: Ledger) -> None:
    assert await ledger.ask([]) == []
    await ledger.note([], taken=True)
    assert await ledger.ask([pending(0), pending(1)]) == [Known.NOTHING, Known.NOTHING]


@pytest.mark.parametrize("taken", [True, False])
async def test_a_record_finds_itself_and_a_copy_the_other(ledger: Ledger, taken: bool) -> None:
    await ledger.note([pending(0), pending(1)], taken=taken)
    copy = dataclasses.replace(pending(1), position=ELSEWHERE, origins=())
    same = Known.TAKEN if taken else Known.NOTHING
    assert await ledger.ask([pending(0), copy, pending(2)]) == [same, Known.COPY, Known.NOTHING]


async def test_another_assignment_is_the_same_place(ledger: Ledger) -> None:
    await ledger.note([pending(0)], taken=True)
    again = dataclasses.replace(pending(0), position=Position(("deliveries.meta", 0), 0, 2))
    assert await ledger.ask([again]) == [Known.TAKEN]


async def test_it_is_kept_for_the_time_that_is_set(redis_client: "Redis", ledger: Ledger) -> None:
    await ledger.note([pending(0)], taken=True)
    assert await redis_client.keys() == ["sent:name-0"]
    assert 595 < await redis_client.ttl("sent:name-0") <= 600


async def test_prefixes_keep_systems_apart(redis_client: "Redis") -> None:
    clock = JumpingClock()
    await Ledger(redis_client, clock, 600, "a-").note([pending(0)], taken=True)
    assert await Ledger(redis_client, clock, 600, "a-").ask([pending(0)]) == [Known.TAKEN]
    assert await Ledger(redis_client, clock, 600, "b-").ask([pending(0)]) == [Known.NOTHING]


async def test_a_whole_batch_is_a_call_each_way(redis_client: "Redis", ledger: Ledger) -> None:
    async def calls() -> int:
        stats = await redis_client.info("commandstats")
        return sum(int(stats.get(f"cmdstat_{c}", {}).get("calls", 0)) for c in ("mget", "evalsha"))

    batch = [pending(n) for n in range(1000)]
    await ledger.note(batch[:1], taken=True)  # the script is there from now on
    before = await calls()
    await ledger.note(batch, taken=True)
    assert await ledger.ask(batch) == [Known.TAKEN] * 1000
    assert await calls() == before + 2


@pytest.fixture
async def broken() -> AsyncIterator[tuple[RedisSettings, list[None]]]:
    """Settings of a Redis that hangs up, and a list of how often it did."""
    calls: list[None] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(None)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield RedisSettings(url=SecretStr(f"redis://127.0.0.1:{port}/0")), calls


async def test_while_redis_is_away_nothing_is_known_and_it_is_left_alone_for_a_while(
    broken: tuple[RedisSettings, list[None]],
) -> None:
    settings, calls = broken
    clock = JumpingClock()
    client = connect(settings)
    ledger = Ledger(client, clock, 600)
    assert await ledger.ask([pending(0)]) == [Known.NOTHING]
    tried = len(calls)
    assert tried > 0
    await ledger.note([pending(0)], taken=True)
    assert await ledger.ask([pending(0)]) == [Known.NOTHING]
    assert len(calls) == tried
    await clock.sleep(5)
    await ledger.note([pending(0)], taken=True)
    assert len(calls) > tried
    await client.aclose()
