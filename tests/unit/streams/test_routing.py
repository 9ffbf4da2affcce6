"""Where an event goes is told once, whatever becomes of it."""

from typing import Any

import pytest

from platforms.registry import PLATFORMS
from schemas.outcome import Reason
from schemas.routing import Routing, routing_id
from streams.fan_out import fan_out
from tests.outcomes import routings_among
from tests.unit.streams.road import RECEIVED_AT, consumed, domain, raw, raw_blocks, sent, stage
from tests.unit.streams.test_replay import SHOP, again

ROWS = [
    {"id": "dst_meta", "platform": "meta", "account": "1", "sealed": "s"},
    {"id": "dst_tiktok", "platform": "tiktok", "account": "1", "sealed": "s", "enabled": False},
]


def routed(received: Any, first: str | None = None) -> Routing:
    """The routing of an event at a shop that has switched one of its two destinations off."""
    records = fan_out(
        received,
        domain(destinations=ROWS),
        PLATFORMS,
        source="raw-events-3-7",
        first=first,
        now_ms=RECEIVED_AT + 9,
    )
    (found,) = routings_among(records)
    return found


def test_it_names_the_destinations_that_get_the_event() -> None:
    received = raw(customData={"currency": "EUR", "value": 1, "orderId": "T-1"})
    told = routed(received.model_copy(update={"dispatch_key": "job-7"}))
    assert told == Routing.model_validate(
        {
            "routingId": routing_id("raw-events-3-7", RECEIVED_AT, None),
            "domainId": "dom_1",
            "eventId": "o-1",
            "eventName": "Purchase",
            "eventTime": 1_767_225_600_000,
            "orderId": "T-1",
            "door": "events",
            "source": "raw-events-3-7",
            "dispatchKey": "job-7",
            "receivedAt": RECEIVED_AT,
            "at": RECEIVED_AT + 9,
            "destinations": [{"destinationId": "dst_meta", "platform": "meta"}],
        }
    )


def test_a_repeat_goes_nowhere_and_names_the_copy_that_counts() -> None:
    told = routed(raw(), first="raw-events-3-2")
    assert (told.destinations, told.first_source) == ((), "raw-events-3-2")


def test_what_is_withheld_goes_nowhere() -> None:
    told = routed(raw().model_copy(update={"withheld": Reason.BOT}))
    assert (told.destinations, told.first_source) == ((), None)


async def test_a_replay_is_told_apart() -> None:
    (first,) = routings_among(await stage(SHOP).work([consumed(7)]))
    records = await stage(SHOP).replay([again(consumed(7), destination_ids=("dst_2",))])
    (told,) = routings_among(records)
    assert [one.destination_id for one in told.destinations] == ["dst_2"]
    assert told.replay_id == "rpl_1"
    assert told.name != first.name
    assert len(sent(records)) == 1


@pytest.mark.parametrize(
    ("blocks", "order_id"),
    [
        ({"meta": {"custom_data": {"order_id": "T-1"}}}, "T-1"),
        ({"meta": {"custom_data": {"order_id": 2001}}}, "2001"),
        ({"meta": {"custom_data": {"order_id": ""}}, "tiktok": {"properties": {"order_id": "T"}}}, "T"),
        ({"meta": {"custom_data": []}, "tiktok": {"properties": None}}, None),
        ({"meta": {"custom_data": {"order_id": ["T-1"]}}}, None),
        ({"meta": {"custom_data": {"order_id": True}}}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_the_order_of_blocks_is_what_a_platform_is_told(
    blocks: dict[str, Any], order_id: str | None
) -> None:
    assert routed(raw_blocks(blocks)).order_id == order_id
