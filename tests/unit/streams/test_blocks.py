"""Events in the platforms' own words, events that go to nobody, and the shop's own name for both."""

from typing import Any

import orjson
import pytest

from platforms.registry import PLATFORMS
from schemas.delivery import Delivery
from schemas.event import EventName
from schemas.outcome import Reason, Skip
from schemas.raw_event import RawEvent
from schemas.record import Record
from streams.dedupe import claim_key
from streams.fan_out import fan_out
from streams.route import route_block
from tests.unit.streams.road import RECEIVED_AT, domain, outcomes, raw, raw_blocks, sent

META = PLATFORMS["meta"]
AGE, AHEAD = META.LIMITS.max_age_seconds * 1000, META.LIMITS.max_ahead_seconds * 1000
BLOCK: dict[str, Any] = {
    "event_name": "Purchase",
    "event_time": 1767225600,
    "user_data": {"em": ["0" * 64]},
    "ours_alone": {"nested": [1, 2.5, None, "ä"]},
}
ROWS = [
    {"id": f"dst_{slug}", "platform": slug, "account": "1", "sealed": "s"}
    for slug in ("meta", "tiktok", "myspace")
]


def decide(destination: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any] | Skip:
    (target,) = domain(destinations=[ROWS[0] | (destination or {})]).destinations
    received = raw_blocks(changes.pop("by_platform", {"meta": BLOCK}), **changes)
    assert received.blocks is not None
    return route_block(received, received.blocks, target, PLATFORMS.get(target.platform))


def split(received: RawEvent, first: str | None = None, *, now_ms: int = 1) -> list[Record]:
    shop = domain(destinations=ROWS)
    return fan_out(received, shop, PLATFORMS, source="raw-events-3-7", first=first, now_ms=now_ms)


@pytest.mark.parametrize(
    ("destination", "changes", "reason"),
    [
        ({"platform": "myspace"}, {}, Reason.UNKNOWN_PLATFORM),
        ({"enabled": False}, {}, Reason.DESTINATION_DISABLED),
        ({"events": {"Purchase": False}}, {}, Reason.EVENT_DISABLED),
        ({"events": {"Club": False}}, {"eventName": "Club"}, Reason.EVENT_DISABLED),
        ({"events": {"Custom": False}}, {"eventName": "Club"}, Reason.EVENT_DISABLED),
        ({}, {"eventTime": RECEIVED_AT - AGE - 1}, Reason.TOO_OLD),
        ({}, {"eventTime": RECEIVED_AT + AHEAD + 1}, Reason.IN_THE_FUTURE),
        ({}, {"by_platform": {"tiktok": BLOCK}}, Reason.NO_BLOCK),
    ],
)
def test_why_a_block_is_not_sent(
    destination: dict[str, Any], changes: dict[str, Any], reason: Reason
) -> None:
    decision = decide(destination, **changes)
    assert isinstance(decision, Skip)
    assert decision.reason is reason
    assert decision.detail


@pytest.mark.parametrize(
    ("destination", "changes"),
    [
        ({}, {}),
        ({"events": {"Lead": False}}, {}),
        ({"events": {"Custom": False, "Club": True}}, {"eventName": "Club"}),
        ({"eventNames": {"Purchase": "Bought"}, "limitedDataUse": True}, {}),
        ({}, {"eventTime": RECEIVED_AT - AGE}),
        ({}, {"eventTime": RECEIVED_AT + AHEAD}),
        ({}, {"by_platform": {"meta": {}}}),
    ],
)
def test_a_block_is_sent_as_it_is(destination: dict[str, Any], changes: dict[str, Any]) -> None:
    assert decide(destination, **changes) == changes.get("by_platform", {"meta": BLOCK})["meta"]


def test_each_destination_gets_its_platforms_block_or_is_told_why_not() -> None:
    records = split(raw_blocks({"meta": BLOCK, "reddit": {}}))
    (delivery,) = sent(records)
    assert delivery.topic == "deliveries.meta"
    assert orjson.loads(delivery.value or b"") == BLOCK
    assert {o.destination_id: o.reason for o in outcomes(records)} == {
        "dst_tiktok": Reason.NO_BLOCK,
        "dst_myspace": Reason.UNKNOWN_PLATFORM,
    }


def test_a_block_goes_out_under_the_test_code_of_its_destination() -> None:
    shop = domain(destinations=[ROWS[0] | {"testEventCode": "TEST1"}, ROWS[1]])
    received = raw_blocks({"meta": BLOCK, "tiktok": BLOCK})
    records = fan_out(received, shop, PLATFORMS, source="raw-events-3-7", first=None, now_ms=1)
    codes = [Delivery.from_headers(record.headers).test_event_code for record in sent(records)]
    assert codes == ["TEST1", None]


def test_a_block_that_alone_fills_a_request_is_skipped() -> None:
    room = META.LIMITS.max_payload_bytes - len(orjson.dumps({"x": ""}))
    for length, reasons in ((room, []), (room + 1, [Reason.OVERSIZE])):
        records = split(raw_blocks({"meta": {"x": "x" * length}}))
        found = [o.reason for o in outcomes(records) if o.destination_id == "dst_meta"]
        assert found == reasons


def test_a_repeat_in_blocks_is_told_for_every_destination() -> None:
    records = split(raw_blocks({"meta": BLOCK}), first="raw-events-3-2")
    assert sent(records) == []
    assert [o.reason for o in outcomes(records)] == [Reason.SAME_EVENT_ID] * len(ROWS)


def test_the_same_action_through_both_doors_is_one_event() -> None:
    for name in EventName:
        assert claim_key(raw_blocks({}, eventName=name)) == claim_key(raw(eventName=name))
    named = raw(eventName="Custom", customEventName="Club")
    assert claim_key(raw_blocks({}, eventName="Club")) == claim_key(named)
    assert claim_key(raw_blocks({}, eventName="Club", eventId="o-2")) != claim_key(named)


@pytest.mark.parametrize("reason", [Reason.BOT, Reason.EXCLUDED])
@pytest.mark.parametrize("first", [None, "raw-events-3-2"])
def test_what_is_withheld_has_one_outcome_for_the_whole_of_it(
    reason: Reason, first: str | None
) -> None:
    for received in (raw(), raw_blocks({"meta": BLOCK})):
        withheld = received.model_copy(update={"withheld": reason, "dispatch_key": "job-7"})
        records = split(withheld, first)
        assert sent(records) == []
        (outcome,) = outcomes(records)
        assert (outcome.outcome, outcome.reason) == ("skipped", reason)
        assert (outcome.destination_id, outcome.platform) == (None, None)
        assert (outcome.event_id, outcome.event_name) == ("o-1", "Purchase")
        assert (outcome.source, outcome.dispatch_key) == ("raw-events-3-7", "job-7")
        assert outcome.detail
        (again,) = outcomes(split(withheld, first, now_ms=2))
        assert again.outcome_id == outcome.outcome_id


def test_what_is_withheld_is_told_without_any_destination() -> None:
    withheld = raw().model_copy(update={"withheld": Reason.BOT})
    records = fan_out(withheld, domain(destinations=[]), {}, source="s", first=None, now_ms=1)
    (outcome,) = outcomes(records)
    assert "userData.userAgent" in (outcome.detail or "")


@pytest.mark.parametrize("key", [None, "job-7"])
def test_the_shops_own_name_is_in_every_record(key: str | None) -> None:
    received = raw().model_copy(update={"dispatch_key": key})
    records = split(received)
    carried = [Delivery.from_headers(r.headers).dispatch_key for r in sent(records)]
    told = [o.dispatch_key for o in (*outcomes(records), *outcomes(split(received, first="x-0-1")))]
    assert len(carried) == 2
    assert len(told) == 1 + len(ROWS)
    assert {*carried, *told} == {key}
