"""A body of ``POST /v1/pmw-events``: what is taken, under which name and id, what is refused."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.pmw import read_blocks
from ingest.validate import AcceptedRequest, InvalidPayloadError
from schemas.raw_event import Blocks, RawEvent
from streams.decode import decode

NOW = 1_767_225_600_123
META: dict[str, Any] = {
    "event_name": "AddToCart",
    "event_id": "pmw_k3j9x2m1q8w7e6r5",
    "action_source": "website",
    "event_time": 1767225600,
    "event_source_url": "https://shop.example/p/mug",
    "user_data": {
        "fbp": "fb.1.1767225600000.1234567890",
        "client_user_agent": "UA",
        "em": "a" * 64,
    },
    "custom_data": {"content_ids": ["SKU1"], "value": 12.5, "currency": "EUR"},
}
TIKTOK: dict[str, Any] = {"event": "AddToCart", "event_id": "tt-1", "event_time": 1767225601}


def read(body: Any, *, strict: bool = False, at: int = NOW) -> AcceptedRequest:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_blocks(
        text, strict=strict, received_at=at, ip_address="203.0.113.7", user_agent="UA"
    )


def in_the_log(accepted: AcceptedRequest) -> RawEvent:
    """An accepted event as the next stage reads it."""
    (event,) = accepted.events
    envelope = {"domainId": "d", "door": "pmw-events", "requestId": "r", "receivedAt": NOW}
    return decode(orjson.dumps(envelope | {event.form: event.document}))


def blocks_of(accepted: AcceptedRequest) -> Blocks:
    blocks = in_the_log(accepted).blocks
    assert blocks is not None
    return blocks


def test_blocks_go_on_as_they_came() -> None:
    body = {"event": "add_to_cart", "facebook": META, "tiktok": TIKTOK, "product": {"id": 1}}
    accepted = read(body)
    blocks = blocks_of(accepted)
    assert blocks.by_platform == {"meta": META, "tiktok": TIKTOK}
    assert (blocks.event_name, blocks.event_id) == ("AddToCart", "pmw_k3j9x2m1q8w7e6r5")
    assert blocks.event_time == 1_767_225_600_000
    assert accepted.unknown_keys == []
    assert (accepted.events[0].address, accepted.events[0].user_agent) == ("203.0.113.7", "UA")
    assert accepted.events[0].is_browser


def test_meta_goes_by_both_its_names() -> None:
    assert blocks_of(read({"meta": META})).by_platform == {"meta": META}
    with pytest.raises(InvalidPayloadError, match="same platform") as refused:
        read({"meta": META, "facebook": META})
    assert refused.value.field == "facebook"


@pytest.mark.parametrize(
    ("named", "event_name"),
    [
        ("page_view", "PageVisit"),
        ("view_item", "ViewContent"),
        ("begin_checkout", "InitiateCheckout"),
        ("purchase", "Purchase"),
        ("login", "login"),
        (None, "AddToCart"),
    ],
)
def test_an_action_has_the_canonical_name_where_there_is_one(
    named: str | None, event_name: str
) -> None:
    assert blocks_of(read({"event": named, "facebook": META})).event_name == event_name


def test_a_custom_event_comes_without_time_and_source() -> None:
    block = {"event_name": "AddCompare", "event_id": "pmw_1", "user_data": {"fbp": "x"}}
    blocks = blocks_of(read({"facebook": block}))
    assert blocks.by_platform["meta"] == block | {
        "event_time": 1767225600,
        "action_source": "website",
    }
    assert (blocks.event_name, blocks.event_time // 1000) == ("AddCompare", 1767225600)


def test_without_an_id_the_same_action_of_the_same_moment_is_one_event() -> None:
    timed = {key: value for key, value in META.items() if key != "event_id"}
    turned = dict(reversed(timed.items()))
    first, again = (blocks_of(read({"facebook": b})).event_id for b in (timed, turned))
    assert first == again
    timeless = {"event_name": "ScrollDepth"}
    then, later = (blocks_of(read({"facebook": timeless}, at=at)) for at in (NOW, NOW + 5000))
    assert then.event_id != later.event_id


def test_any_block_may_bring_the_id() -> None:
    nameless = {key: value for key, value in META.items() if key != "event_id"}
    assert blocks_of(read({"facebook": nameless, "tiktok": TIKTOK})).event_id == "tt-1"


def test_the_time_is_that_of_a_block_that_has_one() -> None:
    timeless = {"event_name": "EVENT_PURCHASE", "clickid": "c"}
    assert blocks_of(read({"snackvideo": timeless})).event_time == NOW
    both = blocks_of(read({"snackvideo": timeless, "tiktok": TIKTOK}))
    assert both.event_time == 1_767_225_601_000


def test_unknown_platforms_are_left_out_and_named_or_refused() -> None:
    body = {"facebook": META, "openai": {"event": "x"}}
    assert read(body).unknown_keys == ["openai"]
    with pytest.raises(InvalidPayloadError, match="strict") as refused:
        read(body, strict=True)
    assert refused.value.field == "openai"


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (b"{", None, "not JSON"),
        ([], None, "must be an object"),
        ({}, None, "a block for one of"),
        ({"event": "add_to_cart", "facebook": None}, None, "a block for one of"),
        ({"event": 5, "facebook": META}, "event", "must be a name"),
        ({"event": " ", "facebook": META}, "event", "must be a name"),
        ({"event": "x" * 101, "facebook": META}, "event", "must be a name"),
        ({"facebook": [META]}, "facebook", "must be an object"),
        ({"facebook": {}}, "facebook.event_name", "name of the event"),
        ({"facebook": META | {"event_time": "soon"}}, "facebook.event_time", "Unix time"),
        ({"facebook": META | {"event_id": "x" * 201}}, "facebook.event_id", "at most 200"),
        ({"reddit": {"type": "PURCHASE"}}, "reddit.type", "must be an object"),
    ],
)
def test_what_is_wrong_is_named(body: Any, field: str | None, message: str) -> None:
    with pytest.raises(InvalidPayloadError, match=message) as refused:
        read(body)
    assert refused.value.field == field


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
SOME_BLOCK = st.dictionaries(
    st.sampled_from(["event_name", "event_id", "event_time", "event", "type", "user_data", "x"]),
    json,
    max_size=5,
) | st.just(META)


@given(
    st.dictionaries(
        st.sampled_from(["event", "facebook", "tiktok", "reddit", "pinterest", "snackvideo", "y"]),
        json | SOME_BLOCK,
        max_size=4,
    ),
    st.booleans(),
)
def test_any_json_is_refused_or_can_be_read_by_the_next_stage(body: Any, strict: bool) -> None:
    try:
        accepted = read(body, strict=strict)
    except InvalidPayloadError:
        return
    assert blocks_of(accepted).event_id == accepted.events[0].event_id


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_taken(body: bytes) -> None:
    with suppress(InvalidPayloadError):
        read(body)
