"""Events of one contact, through the stage and a Valkey."""

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as NoRedisError

from runtime.clock import SystemClock
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.outcome import Reason
from streams.claims import Claims
from streams.memory import MAX_TOUCHES, Memory
from streams.remember import contacts_of
from streams.touches import REMEMBERED_MS
from tests.unit.runtime.clocks import JumpingClock
from tests.unit.streams.road import (
    Consumed,
    event,
    outcomes,
    sent,
    stage,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

from tests.unit.streams.contacts import ORDER, PREFIX, WHO, at, buy, payloads, purchase, shop, visit


@pytest.mark.parametrize(
    "who", [WHO, {"externalId": "canary_cust_42"}, {"email": "CANARY.ada@example.com "}]
)
async def test_a_purchase_is_given_the_clicks_of_its_contact(
    redis_client: "Redis", who: dict[str, str]
) -> None:
    known = at(redis_client)
    await known.work([visit(0, 0, ttclid="T0", fbclid="F0"), visit(1, 10, ttclid="T1")])
    assert await buy(known, purchase(2, 20, who)) == ("fb.1.1767225600000.F0", "T1")
    assert await buy(known, purchase(3, 5, who)) == ("fb.1.1767225600000.F0", "T0")
    assert await buy(known, purchase(4, -5, who)) == (None, None)


async def test_a_click_is_of_the_time_when_it_was_first_told(redis_client: "Redis") -> None:
    known = at(redis_client)
    await known.work([visit(0, 0, ttclid="T0"), visit(1, 10, ttclid="T1")])
    await known.work([visit(2, 20, ttclid="T0"), visit(3, 5, ttclid="T1")])
    assert await buy(known, purchase(4, 30)) == (None, "T1")
    assert await buy(known, purchase(5, 7)) == (None, "T0")


async def test_within_one_batch_too(redis_client: "Redis") -> None:
    records = await at(redis_client).work([visit(0, ttclid="T0"), purchase(1)])
    assert [p["user"].get("ttclid") for p in payloads(records, "tiktok")] == ["T0", "T0"]


async def test_another_contact_and_another_shop_are_told_nothing(redis_client: "Redis") -> None:
    known = at(redis_client, shop(), shop(domainId="dom_2", host="other.example"))
    await known.work([visit(0, ttclid="T0")])
    assert await buy(known, purchase(1, who={"email": "bob@example.com"})) == (None, None)
    assert await buy(known, purchase(2, around={"domainId": "dom_2"})) == (None, None)


async def test_a_shop_that_did_not_ask_for_it_remembers_nobody(redis_client: "Redis") -> None:
    known = at(redis_client, shop(rememberContacts=False))
    await known.work([visit(0, ttclid="T0")])
    assert await redis_client.keys(PREFIX + "contact:*") == []
    assert await buy(known, purchase(1)) == (None, None)


async def test_an_event_with_any_click_id_of_its_own_is_left_as_it_is(
    redis_client: "Redis",
) -> None:
    known = at(redis_client)
    await known.work([visit(0, ttclid="T0", fbclid="F0")])
    assert await buy(known, purchase(1, 9, WHO | {"epik": "E1"})) == (None, None)


async def test_without_consent_nothing_is_left_and_nothing_looked_up(
    redis_client: "Redis",
) -> None:
    known = at(redis_client)
    no: dict[str, Any] = {"consent": {"marketing": False}}
    await known.work([purchase(0, 0, WHO | {"ttclid": "T0", "fbclid": "F0"}, **no)])
    assert await redis_client.keys(PREFIX + "[^d]*") == []
    await known.work([visit(1, 1, ttclid="T1")])
    skipped = outcomes(await known.work([purchase(2, 2, **no)]))
    assert {o.reason for o in skipped} == {Reason.NO_CONSENT}


async def test_only_the_copy_that_counts_leaves_a_touch(redis_client: "Redis") -> None:
    known = at(redis_client)
    first = purchase(0, 0, {"email": "bob@example.com"}, eventId="same")
    copy = purchase(1, 1, WHO | {"ttclid": "T1"}, eventId="same")
    program = purchase(2, 2, WHO | {"ttclid": "T2"}, {"withheld": "bot"})
    await known.work([first, copy, program])
    assert await redis_client.keys(PREFIX + "contact:*") == []


def test_a_contact_is_the_same_hashed_or_plain() -> None:
    plain = {"externalId": " Cust_42 ", "email": "Ada@Example.com "}
    hashed = {
        "externalId": hashlib.sha256(b"Cust_42").hexdigest().upper(),
        "email": hashlib.sha256(b"ada@example.com").hexdigest(),
    }
    names = contacts_of(event(userData=plain).user_data)
    assert names == contacts_of(event(userData=hashed).user_data)
    assert len(names) == 2
    assert contacts_of(event(userData={"email": "nobody"}).user_data) == ()


async def test_the_first_touch_and_the_latest_are_kept(redis_client: "Redis") -> None:
    known = at(redis_client)
    await known.work([visit(n, n, ttclid=f"T{n}") for n in range(30)])
    names = contacts_of(event(userData=WHO).user_data)
    found = await Memory(redis_client, SystemClock(), PREFIX).touches("dom_1", names)
    for touches in found.values():
        kept = sorted(int(touch.clicks["ttclid"][1:]) for touch in touches)
        assert kept == [0, *range(31 - MAX_TOUCHES, 30)]
    assert len(found) == 2
    for key in await redis_client.keys(PREFIX + "contact:*"):
        assert REMEMBERED_MS - 60_000 < await redis_client.pttl(key) <= REMEMBERED_MS


async def test_what_does_not_count_any_more_is_dropped(redis_client: "Redis") -> None:
    known, days = at(redis_client), REMEMBERED_MS // 1000
    await known.work([visit(0, 0, ttclid="T0"), visit(1, 9, ttclid="T1")])
    await known.work([visit(2, days + 5, ttclid="T2")])
    for key in await redis_client.keys(PREFIX + "contact:*"):
        assert await redis_client.hlen(key) == 2


async def test_no_person_can_be_read_in_redis(redis_client: "Redis") -> None:
    person = WHO | {"phone": "+49 171 55501234", "firstName": "Canaryada", "ttclid": "T0"}
    pages: dict[str, Any] = {
        "eventSourceUrl": "https://shop.example/canary_cust_42?utm_term=canary.ada@example.com",
        "referrerUrl": "https://mail.example/inbox/canary.ada%40example.com",
        "customData": {"orderId": "canary-order", "value": 1, "currency": "EUR"},
    }
    known = at(redis_client)
    await known.work([purchase(0, 0, person | {"fbclid": "F0"}, **pages), purchase(1, 1)])
    keys = [str(key) for key in await redis_client.keys("*")]
    assert {key.split(":")[0] for key in keys} == {
        "test.dedupe", "test.contact", "test.click", "test.consent",
    }  # fmt: skip
    for key in keys:
        kind = await redis_client.type(key)
        value = await (redis_client.hgetall if kind == "hash" else redis_client.get)(key)
        told = f"{key} {value!s}".lower()
        for secret in ("canary", "@", "%40", "55501234", "f0f0"):
            assert secret not in told, (key, secret)


async def test_a_batch_is_one_round_trip_and_nothing_more_for_whom_nothing_is_asked(
    redis_client: "Redis",
) -> None:
    known = at(redis_client)
    await known.work([visit(0, ttclid="T0"), purchase(1, customData=ORDER)])
    await redis_client.config_resetstat()
    await known.work([visit(n, ttclid=f"T{n}") for n in range(2, 40)])
    stats = await redis_client.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] == 2
    await redis_client.config_resetstat()
    await at(redis_client, shop(rememberContacts=False)).work([visit(50, ttclid="T")])
    stats = await redis_client.info("commandstats")
    assert {name for name in stats if name.startswith("cmdstat_h")} <= {"cmdstat_hello"}


async def test_memory_waits_for_redis(
    redis_client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real, calls = JumpingClock(), redis_client.pipeline, 0

    def pipeline(**options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise NoRedisError("refused")
        return real(**options)

    monkeypatch.setattr(redis_client, "pipeline", pipeline)
    claims, memory = Claims(redis_client, clock), Memory(redis_client, clock)
    known = stage(shop(), claims=claims, memory=memory)
    assert len(sent(await known.work([visit(0, ttclid="T0")]))) == 2
    assert len(clock.slept) == 2


async def test_a_contact_is_shown_and_forgotten_by_any_of_its_names(
    redis_client: "Redis",
) -> None:
    known, memory = at(redis_client), Memory(redis_client, SystemClock(), PREFIX)
    email, both = {"email": WHO["email"]}, contacts_of(event(userData=WHO).user_data)
    await known.work([visit(0, 0, email, ttclid="T0"), visit(1, 1, ttclid="T0")])
    await known.work([visit(2, 2, {"email": "bob@example.com"}, ttclid="T2")])
    (name,) = contacts_of(event(userData=email).user_data)
    assert set(await memory.touches("dom_1", [name])) == set(both)
    assert await memory.forget("dom_2", [name]) == 0
    assert await memory.forget("dom_1", [name]) == 2
    assert await memory.touches("dom_1", both) == {}
    assert await memory.forget("dom_1", [name]) == 0
    assert len(await redis_client.keys(PREFIX + "contact:*")) == 1


steps = st.lists(
    st.tuples(st.sampled_from(["click", "buy"]), st.sampled_from("ab"), st.integers(0, 6)),
    min_size=1,
    max_size=10,
)
runs = st.lists(st.tuples(st.integers(0, 10), st.integers(1, 5)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(steps, runs)
def test_whatever_is_worked_again_is_told_what_it_was_told(
    valkey: RedisSettings, log: list[tuple[str, str, int]], runs: list[tuple[int, int]]
) -> None:
    """Whatever the order in which events were received, and wherever workers start again: a record
    is given the latest click of its contact that lies before it, in time and in the log."""

    def record(offset: int) -> Consumed:
        kind, name, seconds = log[offset]
        who = {"externalId": f"customer-{name}", "ipAddress": "8.8.8.8"}
        if kind == "click":
            return visit(offset, seconds, who, ttclid=f"T{offset}")
        return purchase(offset, seconds, who, customData=ORDER | {"orderId": f"o-{offset}"})

    def expected(offset: int) -> str | None:
        kind, name, seconds = log[offset]
        if kind == "click":
            return f"T{offset}"
        before = [
            (then, n)
            for n, (other, contact, then) in enumerate(log[:offset])
            if (other, contact) == ("click", name) and then <= seconds
        ]
        return f"T{max(before)[1]}" if before else None

    async def work() -> None:
        client = connect(valkey)
        await client.flushall()
        reached = 0
        for start, size in [(0, 3), *runs, (0, len(log)), (0, len(log))]:
            begin = min(start, reached)
            offsets = range(begin, min(begin + size, len(log)))
            records = await at(client).work([record(n) for n in offsets])
            reached = max(reached, offsets.stop)
            told = [p["user"].get("ttclid") for p in payloads(records, "tiktok")]
            assert told == [expected(n) for n in offsets]
        await client.aclose()

    asyncio.run(work())
