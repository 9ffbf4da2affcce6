"""A batch of raw events goes through the stage: nothing is lost, nobody is taken down."""

import ast
import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as NoRedisError

from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.event import Event
from schemas.outcome import Skip
from schemas.record import Record
from schemas.topics import DEAD_LETTERS
from streams import worker
from streams.claims import Claims
from streams.worker import Stage, TooManyFailuresError
from tests.unit.runtime.clocks import JumpingClock
from tests.unit.streams.road import (
    ClaimsInMemory,
    Consumed,
    QuotaInMemory,
    consumed,
    outcomes,
    sent,
    stage,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis


def dead(records: Sequence[Record]) -> list[DeadLetter]:
    return [
        DeadLetter.from_record(r.key, r.value, r.headers)
        for r in records
        if r.topic == DEAD_LETTERS
    ]


def event_ids(records: Sequence[Record]) -> list[str]:
    return [Delivery.from_headers(r.headers).event_id for r in sent(records)]


async def test_a_poison_record_leaves_its_neighbours_alone() -> None:
    poison = Consumed(1, b"\xff{", headers=[("trace", b"\x00\xff"), ("none", None)])
    records = await stage().work([consumed(0, eventId="a"), poison, consumed(2, eventId="b")])
    assert event_ids(records) == ["a", "b"]
    (letter,) = dead(records)
    assert letter.reason is DeadLetterReason.UNDECODABLE
    assert (letter.value, letter.key) == (poison.value, poison.key)
    assert (letter.topic, letter.partition, letter.offset) == ("raw-events", 3, 1)
    assert letter.origin_headers == (("trace", b"\x00\xff"), ("none", None))


async def test_an_unknown_domain_is_no_reason_to_lose_an_event() -> None:
    known = stage()
    stray = consumed(0)
    stray.value = (stray.value or b"").replace(b"dom_1", b"dom_9")
    records = await known.work([stray, consumed(1)])
    (letter,) = dead(records)
    assert letter.reason is DeadLetterReason.UNKNOWN_DOMAIN
    assert letter.value == stray.value
    assert event_ids(records) == ["o-1"]


async def test_an_unknown_domain_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []

    async def never(domain_id: str, _: float) -> None:
        waited.append(domain_id)

    known = stage()
    monkeypatch.setattr(known._feed, "wait_for", never)
    value = (consumed(0).value or b"").replace(b"dom_1", b"dom_9")
    for start in (0, 10):
        batch = [Consumed(offset, value) for offset in range(start, start + 10)]
        assert len(dead(await known.work(batch))) == 10
    assert waited == ["dom_9"]


async def test_domains_of_one_batch_are_waited_for_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = stage(unknown_domain_wait_seconds=10)
    waits: list[float] = []

    async def never(_: str, seconds: float) -> None:
        waits.append(seconds)
        await known._clock.sleep(seconds)

    monkeypatch.setattr(known._feed, "wait_for", never)
    value = consumed(0).value or b""
    batch = [Consumed(n, value.replace(b"dom_1", b"dom_%d" % (n + 2))) for n in range(3)]
    assert len(dead(await known.work(batch))) == 3
    assert waits == [10, 0, 0]


class Fragile:
    """Meta, but for one event that its mapping has a mistake for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(PLATFORMS["pinterest"], name)

    def payload(self, event: Event, destination: Destination) -> dict[str, Any] | Skip:
        if event.event_id == "fragile":
            raise KeyError("canary@example.com")
        return PLATFORMS["pinterest"].payload(event, destination)


async def test_a_mistake_in_a_mapping_costs_one_event_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PLATFORMS, "meta", Fragile())
    counted = {"counted": True}
    batch = [consumed(n, counted, eventId=name) for n, name in enumerate(["a", "fragile", "b"])]
    quota = QuotaInMemory()
    records = await stage(quota=quota).work(batch)
    assert event_ids(records) == ["a", "b"]
    (letter,) = dead(records)
    assert (letter.reason, letter.value) == (DeadLetterReason.FAILED_TRANSFORM, batch[1].value)
    assert letter.detail == "KeyError in a transform"
    assert list(quota.counts.values()) == [-1]


def poisoned(*offsets: int) -> list[Consumed]:
    return [Consumed(offset, b"{") for offset in offsets]


async def test_too_many_in_a_row_is_this_release_not_the_events() -> None:
    known = stage(max_failures_in_a_row=3)
    assert len(await known.work(poisoned(0, 1, 2))) == 3
    with pytest.raises(TooManyFailuresError, match="raw-events-3-3"):
        await known.work(poisoned(3))


async def test_a_good_record_between_them_breaks_the_row() -> None:
    known = stage(max_failures_in_a_row=2)
    batch = [*poisoned(0, 1), consumed(2), *poisoned(3, 4), consumed(5), *poisoned(6, 7)]
    assert len(dead(await known.work(batch))) == 6


async def test_an_empty_batch_is_nothing() -> None:
    assert await stage().work([]) == []


names = st.sampled_from(["a", "b", "c"])
runs = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=8)


@given(st.lists(names, min_size=1, max_size=12), runs)
def test_whatever_is_worked_again_the_first_copy_alone_goes_through(
    log: list[str], runs: list[tuple[int, int]]
) -> None:
    """Workers come and go: each starts anywhere in what was worked, and works batches of any
    size; the claims stay. Of each id, the copy that was accepted first goes through, every time."""
    first = {name: log.index(name) for name in log}

    async def work() -> None:
        claims = ClaimsInMemory()
        reached = 0
        for start, size in [*runs, (0, len(log))]:
            begin = min(start, reached)
            worker_of_now: Stage = stage(claims=claims)
            batch = [consumed(n, eventId=log[n]) for n in range(begin, min(begin + size, len(log)))]
            records = await worker_of_now.work(batch)
            reached = max(reached, begin + len(batch))
            passed = [Delivery.from_headers(r.headers).source for r in sent(records)]
            assert passed == [
                f"raw-events-3-{record.offset}"
                for record in batch
                if record.offset == first[log[record.offset]]
            ]
            repeats = [o for o in outcomes(records) if o.outcome == "duplicate"]
            assert len(repeats) == len(batch) - len(passed)
            assert all(o.first_source == f"raw-events-3-{first[o.event_id]}" for o in repeats)

    asyncio.run(work())


async def test_the_same_place_of_another_partition_is_another_copy() -> None:
    known = stage()
    here, there = consumed(7), replace(consumed(7), partition=4)
    assert len(sent(await known.work([here]))) == 1
    (repeat,) = outcomes(await known.work([there]))
    assert repeat.first_source == "raw-events-3-7"


async def test_claims_wait_for_redis() -> None:
    calls: list[tuple[list[str], list[Any]]] = []

    async def script(keys: list[str], args: list[Any]) -> list[str | None]:
        calls.append((keys, args))
        if len(calls) < 3:
            raise NoRedisError("refused")
        return ["raw-events-0-1", None]

    client = cast("Redis", SimpleNamespace(register_script=lambda _: script))
    clock = JumpingClock()
    claims = Claims(client, clock, "test.")
    assert await claims.take([("k1", "t1", 60), ("k2", "t2", 5)]) == ["raw-events-0-1", None]
    assert await claims.take([]) == []
    assert len(clock.slept) == 2
    assert calls == [(["test.k1", "test.k2"], ["t1", 60_000, "t2", 5_000])] * 3


def test_no_agent_is_without_its_guard() -> None:
    """Faust acknowledges what an agent raised over, so every agent goes through ``_or_stop``."""
    tree = ast.parse(inspect.getsource(worker))
    registered = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Call)
        and isinstance(node.func.func, ast.Attribute)
        and node.func.func.attr == "agent"
    ]
    mentioned = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "agent"]
    assert len(registered) == len(mentioned) == 1
    (body,) = registered[0].args
    assert isinstance(body, ast.Call)
    assert isinstance(body.func, ast.Name)
    assert body.func.id == "_or_stop"


async def test_the_guard_stops_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(worker, "stop_at_once", lambda: stopped.append(True))

    async def failing(_: Any) -> None:
        raise KeyError("mistake")

    await worker._or_stop(failing)(None)
    assert stopped == [True]
