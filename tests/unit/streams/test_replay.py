"""What is driven again: to the destinations that were named, and with nothing else touched."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from schemas.dead_letter import DeadLetterReason
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind, Reason
from schemas.record import Record
from schemas.replay import Replay
from streams.claims import Claims
from streams.memory import Memory
from streams.worker import TooManyFailuresError
from tests.outcomes import outcome_of
from tests.unit.runtime.clocks import JumpingClock
from tests.unit.streams.road import (
    ClaimsInMemory,
    Consumed,
    QuotaInMemory,
    consumed,
    domain,
    outcomes,
    sent,
    stage,
)
from tests.unit.streams.test_stage import dead

AT_TWO = [
    {"id": "dst_1", "platform": "meta", "account": "1", "sealed": "s"},
    {"id": "dst_2", "platform": "tiktok", "account": "2", "sealed": "s"},
]
SHOP = domain(destinations=AT_TWO)


def again(record: Consumed, offset: int = 0, **asked: Any) -> Consumed:
    """A record of ``raw-events`` as it lies on ``replay-events``."""
    replay = Replay("rpl_1", f"{record.topic}-{record.partition}-{record.offset}", **asked)
    headers = [
        (name, bytes(value)) for name, value in replay.to_headers() if isinstance(value, bytes)
    ]
    return replace(record, topic="replay-events", partition=5, offset=offset, headers=headers)


def deliveries(records: Sequence[Record]) -> list[Delivery]:
    return [Delivery.from_headers(record.headers) for record in sent(records)]


async def test_a_replay_posts_what_was_posted_and_says_that_it_is_one() -> None:
    known = stage(SHOP)
    first = await known.work([consumed(7)])
    second = await known.replay([again(consumed(7), offset=3)])
    assert [(r.topic, r.key, r.value) for r in sent(second)] == [
        (r.topic, r.key, r.value) for r in sent(first)
    ]
    for before, after in zip(deliveries(first), deliveries(second), strict=True):
        assert (before.source, before.replay) == ("raw-events-3-7", None)
        assert after == before._replace(source="replay-events-5-3", replay="rpl_1")
        outcome = outcome_of(after.outcome_record(OutcomeKind.DELIVERED, at=1))
        assert outcome.replay_id == "rpl_1"
        assert outcome.outcome_id == after.name != before.name


async def test_it_claims_nothing_and_counts_nothing() -> None:
    claims, quota = ClaimsInMemory(), QuotaInMemory()
    known = stage(SHOP, claims=claims, quota=quota)
    records = await known.replay([again(consumed(7, {"counted": True})), again(consumed(7))])
    assert len(sent(records)) == 4
    assert not claims.held
    assert not quota.counts
    assert len(sent(await known.work([consumed(8)]))) == 2


async def test_it_goes_where_it_is_told() -> None:
    records = await stage(SHOP).replay([again(consumed(7), destination_ids=("dst_2",))])
    assert [one.destination_id for one in deliveries(records)] == ["dst_2"]
    assert not outcomes(records)


async def test_a_destination_that_is_gone_is_on_record() -> None:
    asked = again(consumed(7), destination_ids=("dst_2", "dst_8", "dst_9"))
    records = await stage(SHOP).replay([asked])
    assert [one.destination_id for one in deliveries(records)] == ["dst_2"]
    found = outcomes(records)
    assert [(o.destination_id, o.platform) for o in found] == [("dst_8", None), ("dst_9", None)]
    assert {(o.outcome, o.reason, o.replay_id) for o in found} == {
        (OutcomeKind.SKIPPED, Reason.DESTINATION_REMOVED, "rpl_1")
    }
    assert len({o.outcome_id for o in found}) == 2


@pytest.mark.parametrize("reason", [Reason.BOT, Reason.EXCLUDED])
async def test_what_is_withheld_stays_so_unless_it_is_told_otherwise(reason: Reason) -> None:
    withheld = consumed(7, {"withheld": reason})
    (outcome,) = outcomes(await stage(SHOP).replay([again(withheld)]))
    assert (outcome.reason, outcome.replay_id) == (reason, "rpl_1")
    assert len(sent(await stage(SHOP).replay([again(withheld, include_withheld=True)]))) == 2


async def test_a_skip_of_a_replay_says_so_too() -> None:
    refused = consumed(7, consent={"marketing": False})
    found = outcomes(await stage(SHOP).replay([again(refused)]))
    assert [(o.reason, o.replay_id) for o in found] == [(Reason.NO_CONSENT, "rpl_1")] * 2


async def test_a_dispatch_key_keeps_the_answer_that_it_has() -> None:
    keyed = consumed(7, {"dispatchKey": "purchase:2001"})
    made = deliveries(await stage(SHOP).replay([again(keyed)]))
    assert [one.dispatch_key for one in made] == [None, None]


async def test_poison_is_buried_and_too_much_of_it_stops() -> None:
    known = stage(SHOP, max_failures_in_a_row=2)
    nameless = replace(again(consumed(7)), headers=[])
    records = await known.replay([nameless, again(consumed(8)), again(Consumed(9, b"{"))])
    assert [letter.reason for letter in dead(records)] == [DeadLetterReason.UNDECODABLE] * 2
    assert dead(records)[0].detail == "replay header 'schema-version' is missing"
    assert len(sent(records)) == 2
    with pytest.raises(TooManyFailuresError):
        await known.replay([nameless, nameless])


async def test_the_memory_answers_as_the_first_time_and_is_left_as_it_is(
    redis_client: Redis,
) -> None:
    clock = JumpingClock()
    shop = domain(destinations=AT_TWO[:1], rememberContacts=True)
    known = stage(shop, claims=Claims(redis_client, clock), memory=Memory(redis_client, clock))
    person = {"externalId": "customer-42", "userAgent": "Mozilla/5", "ipAddress": "203.0.113.7"}
    click = consumed(
        1, eventId="click", eventName="PageVisit", userData=person | {"fbclid": "IwAR-abc-123"}
    )
    order = consumed(2, eventId="order", userData=person)
    refused = consumed(3, eventId="ship", eventName="Lead", userData=person)
    first = await known.work([click, order, refused])
    kept = {key: await redis_client.dump(key) for key in await redis_client.keys()}
    second = await known.replay([again(record) for record in (click, order, refused)])
    assert [record.value for record in sent(second)] == [record.value for record in sent(first)]
    assert b"fb.1." in (sent(second)[1].value or b"")
    assert {key: await redis_client.dump(key) for key in await redis_client.keys()} == kept

    await redis_client.flushall()
    assert len(sent(await known.replay([again(click)]))) == 1
    assert not [key for key in await redis_client.keys() if str(key).startswith("contact:")]


async def test_an_order_keeps_its_consent_after_its_claim_is_forgotten(
    redis_client: Redis,
) -> None:
    clock = JumpingClock()
    known = stage(SHOP, claims=Claims(redis_client, clock), memory=Memory(redis_client, clock))
    paid = {"customData": {"orderId": "T-1", "currency": "EUR", "value": 1}}
    await known.work([consumed(1, eventId="a", consent={"marketing": False}, **paid)])
    later = consumed(2, eventId="b", eventName="Lead", **paid)
    assert not sent(await known.work([later]))
    await redis_client.delete(
        *[k for k in await redis_client.keys() if str(k).startswith("dedupe:")]
    )
    found = outcomes(await known.replay([again(later)]))
    assert [outcome.reason for outcome in found] == [Reason.NO_CONSENT] * 2
