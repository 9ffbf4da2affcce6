"""Clicks and orders through the stage and a Valkey; what is asked of the memory, and what of replays."""

from typing import TYPE_CHECKING, Any

import pytest

from runtime.clock import SystemClock
from schemas.event import Consent
from schemas.outcome import Reason
from schemas.raw_event import RawEvent
from schemas.topics import DEAD_LETTERS
from streams import worker
from streams.claims import Claims
from streams.memory import Memory
from streams.remember import Answer, Question, ask, consent_text, read_consent, recalled
from streams.touches import REMEMBERED_MS
from tests.unit.streams.road import (
    RECEIVED_AT,
    Consumed,
    raw,
    raw_blocks,
    sent,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

from tests.unit.streams.contacts import ORDER, PREFIX, WHO, at, buy, payloads, purchase, shop, visit


def test_nothing_is_asked_for_what_goes_out_as_it_is_or_goes_nowhere() -> None:
    rich = raw(userData=WHO | {"fbclid": "F"}, customData=ORDER)
    assert ask(rich, shop(), "raw-events-3-1") is not None
    withheld = rich.model_copy(update={"withheld": Reason.BOT})
    assert ask(withheld, shop(), "raw-events-3-1") is None
    assert ask(raw_blocks({"meta": {}}), shop(), "raw-events-3-1") is None
    assert ask(raw(), shop(rememberContacts=False), "raw-events-3-1") is None


async def test_a_mistake_in_the_memory_costs_one_event_only(
    redis_client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    known = at(redis_client)
    await known.work([visit(0, ttclid="T0")])
    for key in await redis_client.keys(PREFIX + "contact:*"):
        await redis_client.hset(key, "digest", "of another release")
    other = {"email": "bob@example.com"}
    records = await known.work([purchase(1), purchase(2, 0, other), purchase(3, 0, other)])
    assert [r.topic for r in records].count(DEAD_LETTERS) == 1
    assert len(sent(records)) == 4

    def mistaken(event: RawEvent, *arguments: Any, **options: Any) -> Question | None:
        if event.said.event_id == "p-5":
            raise KeyError("mistake")
        return ask(event, *arguments, **options)

    monkeypatch.setattr(worker, "ask", mistaken)
    records = await known.work([purchase(4, 0, other), purchase(5, 0, other)])
    assert [r.topic for r in records].count(DEAD_LETTERS) == 1
    assert len(sent(records)) == 2


async def test_a_click_keeps_the_time_at_which_it_was_first_seen(redis_client: "Redis") -> None:
    known = at(redis_client, shop(rememberContacts=False))
    click = {"ipAddress": "8.8.8.8", "fbclid": "IwAR_b"}
    now, later = "fb.1.1767225600000.IwAR_b", 1767225650
    assert (await buy(known, purchase(0, 0, click)))[0] == now
    assert (await buy(known, purchase(1, 60, click, eventTime=later)))[0] == now
    assert (await buy(known, purchase(0, 0, click)))[0] == now
    own = click | {"fbc": "fb.1.1700000000000.IwAR_b"}
    assert (await buy(known, purchase(2, 60, own, eventTime=later)))[0] == own["fbc"]
    other = click | {"fbclid": "iwar_b"}
    assert (await buy(known, purchase(3, 60, other, eventTime=later)))[
        0
    ] == "fb.1.1767225650000.iwar_b"
    (key, _) = await redis_client.keys(PREFIX + "click:*")
    assert REMEMBERED_MS - 60_000 < await redis_client.pttl(key) <= REMEMBERED_MS


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("remember", [True, False])
async def test_the_consent_of_an_order_is_that_with_which_it_was_made(
    redis_client: "Redis", first: bool, remember: bool
) -> None:
    known = at(redis_client, shop(rememberContacts=remember))

    def copy(offset: int, marketing: bool, order: dict[str, Any] = ORDER) -> Consumed:
        consent = {"marketing": marketing, "limitedDataUse": marketing}
        who = WHO | {"fbclid": "F0", "ttclid": f"T{offset}"}
        return purchase(offset, offset, who, customData=order, consent=consent)

    for _ in range(2):  # redelivered, each finds what it found
        records = await known.work([copy(0, first), copy(1, not first)])
        assert len(sent(records)) == (2 if first else 0), "a refusal holds, of the order or its own"
        limited = [p.get("data_processing_options") for p in payloads(records, "meta")]
        assert limited == [["LDU"]] * len(limited)
    others = await known.work([copy(2, not first, ORDER | {"orderId": "T-2"})])
    assert len(sent(others)) == (0 if first else 2)
    # What is asked of a person now is not answered by an order: a refusal leaves no touch.
    touches = {field for key in await redis_client.keys(PREFIX + "contact:*")
               for field in await redis_client.hvals(key)}  # fmt: skip
    assert len(touches) == (1 if remember else 0)


@pytest.mark.parametrize(
    ("own", "order", "holds"),
    [
        ("-0", "-0", None),
        ("-0", "10", "10"),
        ("-0", "00", "00"),
        ("10", "-0", None),
        ("10", "00", "00"),  # a later consent does not send what was refused then
        ("00", "10", None),  # a refusal holds for the event that brings it
        ("00", "-0", None),
        ("-0", "-1", "-1"),
        ("11", "10", None),
        ("10", "01", "01"),
    ],
)
def test_which_consent_holds(own: str, order: str, holds: str | None) -> None:
    question = Question("raw-events-0-1", None, 1, 1, own, order="order")
    found = recalled(Answer(question, order, 0, ())).consent
    assert (None if found is None else consent_text(found)) == holds


async def test_a_replay_is_told_what_was_told_and_leaves_nothing(redis_client: "Redis") -> None:
    memory, claims = (
        Memory(redis_client, SystemClock(), PREFIX),
        Claims(redis_client, SystemClock()),
    )
    await at(redis_client).work([visit(0, 0, ttclid="T0"), visit(2, 0, ttclid="T2")])
    bought = raw(RECEIVED_AT + 9000, userData=WHO | {"fbclid": "F"}, customData=ORDER)
    visited = raw(RECEIVED_AT + 9000, userData=WHO)

    async def kept() -> set[tuple[str, int]]:
        keys = await redis_client.keys("*")
        hashes = [key for key in keys if await redis_client.type(key) == "hash"]
        return {(str(key), 0) for key in keys} | {
            (str(key), await redis_client.hlen(key)) for key in hashes
        }

    before = await kept()
    asked = [
        ask(event, shop(), f"raw-events-3-{n}", is_replay=True)
        for n, event in enumerate([visited, bought], 1)
    ]
    _, answers = await memory.recall(claims, [], [question for question in asked if question])
    told = [recalled(answers[f"raw-events-3-{n}"]) for n in (1, 2)]
    assert [(t.clicks, t.click_seen_at) for t in told] == [
        ({"ttclid": "T0"}, None), ({}, 1767225600000),
    ]  # fmt: skip
    assert await kept() == before


@pytest.mark.parametrize("said", [{}, {"limitedDataUse": True}, {"marketing": True}])
@pytest.mark.parametrize("marketing", [True, False])
def test_a_consent_is_read_as_it_was_kept(said: dict[str, bool], marketing: bool) -> None:
    consent = Consent.model_validate(said | ({"marketing": False} if not marketing else {}))
    found = read_consent(consent_text(consent))
    assert found == consent
    assert ("marketing" in found.model_fields_set) is ("marketing" in consent.model_fields_set)
