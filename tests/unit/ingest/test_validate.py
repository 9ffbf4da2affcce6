"""A body of ``POST /v1/events``: what is taken, what is left out, what is refused and how."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.validate import AcceptedRequest, InvalidPayloadError, read_request
from schemas.event import Event
from schemas.limits import MAX_BODY_BYTES, MAX_EVENTS_PER_REQUEST, MAX_USER_AGENT_CHARS
from streams.decode import decode
from tests import strategies

PURCHASE: dict[str, Any] = {
    "eventId": "e-1",
    "eventName": "Purchase",
    "eventTime": 1767225600,
    "userData": {"email": "ada@example.com"},
    "customData": {"currency": "EUR", "value": 49.99, "orderId": "T-1"},
}


def read(
    body: Any, *, strict: bool = False, ip: str | None = None, agent: str | None = None
) -> AcceptedRequest:
    text = body if isinstance(body, bytes) else orjson.dumps(body)
    return read_request(text, strict=strict, ip_address=ip, user_agent=agent)


def one(strict: bool = False, **changes: Any) -> AcceptedRequest:
    """The purchase with changes; ``...`` takes a key away."""
    event = {key: value for key, value in (PURCHASE | changes).items() if value is not ...}
    return read({"events": [event]}, strict=strict)


def in_the_log(accepted: AcceptedRequest, index: int = 0) -> Event:
    """An accepted event as the next stage reads it."""
    envelope = {"domainId": "d", "door": "events", "requestId": "r", "receivedAt": 1}
    event = decode(orjson.dumps(envelope | {"event": accepted.events[index].document})).event
    assert event is not None
    return event


UNKNOWN = [
    ({"extra": 1}, "events[0].extra"),
    ({"userData": {"mail": "x"}}, "events[0].userData.mail"),
    ({"customData": {"total": 1}}, "events[0].customData.total"),
    ({"consent": {"ads": True}}, "events[0].consent.ads"),
    ({"customData": {"contents": [{}, {"sku": 1}]}}, "events[0].customData.contents[1].sku"),
]


@pytest.mark.parametrize(("changes", "path"), UNKNOWN)
def test_unknown_keys_are_left_out_and_named(changes: dict[str, Any], path: str) -> None:
    accepted = one(**changes)
    assert accepted.unknown_keys == [path]
    assert accepted.warnings() == [f"{path}: unknown key, left out"]
    assert path.rpartition(".")[2] not in orjson.dumps(accepted.events[0].document).decode()


@pytest.mark.parametrize(("changes", "path"), UNKNOWN)
def test_a_strict_domain_refuses_them_by_name(changes: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidPayloadError, match="strict") as refusal:
        one(strict=True, **changes)
    assert refusal.value.field == path


def test_unknown_keys_beside_the_events_are_named() -> None:
    assert read({"events": [PURCHASE], "shop": 1}).unknown_keys == ["shop"]


def test_many_unknown_keys_are_counted_rather_than_listed() -> None:
    accepted = read({"events": [PURCHASE | {f"key{n}": n for n in range(30)}]})
    warnings = accepted.warnings()
    assert len(warnings) == 21
    assert warnings[-1] == "10 more unknown keys, left out"


REFUSED = [
    ({"eventName": "Buy"}, "eventName", "Input should be 'PageVisit'"),
    ({"eventName": ...}, "eventName", "Field required"),
    ({"eventTime": ...}, "eventTime", "Field required"),
    ({"eventTime": "2026-01-01"}, "eventTime", "Unix time in seconds"),
    ({"eventTime": True}, "eventTime", "must be a number"),
    ({"eventTime": 5}, "eventTime", "after 2001"),
    ({"eventTime": 1e18}, "eventTime", "seconds or milliseconds"),
    ({"eventId": "x" * 201}, "eventId", "at most 200"),
    ({"eventId": ["x"]}, "eventId", "valid string"),
    ({"eventId": 1.5}, "eventId", "valid string"),
    ({"actionSource": "web"}, "actionSource", "Input should be 'website'"),
    ({"eventSourceUrl": "x" * 4097}, "eventSourceUrl", "at most 4096"),
    ({"userData": None}, "userData", "valid dict"),
    ({"userData": []}, "userData", "valid dict"),
    ({"userData": {"email": {}}}, "userData.email", "valid string"),
    ({"userData": {"email": "x" * 321}}, "userData.email", "at most 320"),
    ({"userData": {"fbclid": "x" * 1025}}, "userData.fbclid", "at most 1024"),
    ({"customData": {"currency": "euro"}}, "customData.currency", "ISO 4217"),
    ({"customData": {"value": -1}}, "customData.value", "greater than or equal to 0"),
    ({"customData": {"value": 10**13}}, "customData.value", "less than or equal"),
    ({"customData": {"value": "12,50"}}, "customData.value", "an amount such as 49.99"),
    ({"customData": {"value": "NaN"}}, "customData.value", "an amount such as 49.99"),
    ({"customData": {"value": True}}, "customData.value", "Decimal input"),
    ({"customData": {"value": "1.0000001"}}, "customData.value", "6 decimal places"),
    ({"customData": {"numItems": 1.5}}, "customData.numItems", "valid integer"),
    ({"customData": {"contents": {}}}, "customData.contents", "valid tuple"),
    ({"customData": {"contents": [[]]}}, "customData.contents[0]", "valid dict"),
    ({"customData": {"contents": [{}] * 501}}, "customData.contents", "at most 500"),
    (
        {"customData": {"contents": [{}, {"quantity": -1}]}},
        "customData.contents[1].quantity",
        "greater than or equal to 0",
    ),
    ({"consent": {"marketing": "no"}}, "consent.marketing", "valid boolean"),
]


@pytest.mark.parametrize(("changes", "field", "message"), REFUSED)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidPayloadError, match=message) as refusal:
        one(**changes)
    assert refusal.value.field == f"events[0].{field}"


def test_the_field_names_the_event_that_is_bad() -> None:
    with pytest.raises(InvalidPayloadError) as refusal:
        read({"events": [PURCHASE, PURCHASE | {"eventName": "Buy"}]})
    assert refusal.value.field == "events[1].eventName"


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        (b"", "not JSON", None),
        (b"{", "not JSON", None),
        (b"\xff\xfe", "not JSON", None),
        (b'{"events":[NaN]}', "not JSON", None),
        (b'{"events":[1e999]}', "not JSON", None),
        (b'{"events":["\\ud800"]}', "not JSON", None),
        (b"[" * 2000 + b"]" * 2000, "not JSON", None),
        ([PURCHASE], "must be an object", None),
        ("text", "must be an object", None),
        ({}, "at least one event", "events"),
        ({"events": []}, "at least one event", "events"),
        ({"events": PURCHASE}, "at least one event", "events"),
        ({"events": [1]}, "must be an object", "events[0]"),
        ({"events": [[PURCHASE]]}, "must be an object", "events[0]"),
        ({"events": [PURCHASE] * (MAX_EVENTS_PER_REQUEST + 1)}, "101 events; at most 100", "events"),
        (b" " * (MAX_BODY_BYTES + 1), "exceeds 100 KB", None),
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused(body: Any, message: str, field: str | None) -> None:
    with pytest.raises(InvalidPayloadError, match=message) as refusal:
        read(body)
    assert refusal.value.field == field


def test_a_number_beyond_any_size_is_refused() -> None:
    body = b'{"events":[{"eventName":"Lead","eventTime":' + b"9" * 400 + b"}]}"
    with pytest.raises(InvalidPayloadError):
        read(body)
    with pytest.raises(InvalidPayloadError, match="seconds or milliseconds"):
        read(body.replace(b"9" * 400, b"9" * 40))


def test_a_body_at_the_limits_is_taken() -> None:
    small = {"eventName": "Lead", "eventTime": 1767225600}
    body = orjson.dumps({"events": [small] * MAX_EVENTS_PER_REQUEST})
    assert len(read(body.ljust(MAX_BODY_BYTES)).events) == MAX_EVENTS_PER_REQUEST


@pytest.mark.parametrize("depth", [260, 600, 1000])
@pytest.mark.parametrize(
    "place",
    ['"eventName":%s', '"customData":{"contents":%s}', '"userData":%s', '"x":%s,"eventId":%s'],
)
def test_deep_nesting_is_refused_and_breaks_nothing(place: str, depth: int) -> None:
    nest = "[" * depth + "]" * depth
    body = '{"events":[{"eventName":"Purchase",' + place.replace("%s", nest) + "}]}"
    with pytest.raises(InvalidPayloadError):
        read(body.encode())


def test_a_purchase_is_named_by_its_order() -> None:
    assert one(eventId=...).events[0].event_id == "T-1-Purchase"
    assert one(eventId=" ").events[0].event_id == "T-1-Purchase"
    numbered = one(eventId=None, customData={"orderId": 12})
    assert numbered.events[0].event_id == "12-Purchase"


@pytest.mark.parametrize(
    "changes",
    [
        {"eventName": "Lead"},
        {"customData": {}},
        {"customData": {"orderId": "  "}},
        {"customData": {"orderId": "x" * 200}},
    ],
)
def test_without_an_order_the_same_event_has_the_same_id(changes: dict[str, Any]) -> None:
    ids = [one(eventId=..., **changes).events[0].event_id for _ in range(2)]
    other = one(eventId=..., **changes, eventTime=1767225601).events[0].event_id
    assert len(ids[0]) == 32
    assert ids == [ids[0]] * 2
    assert other != ids[0]


def test_the_order_of_keys_makes_no_other_event() -> None:
    lead: dict[str, Any] = {"eventName": "Lead", "eventTime": 1767225600, "userData": {}}
    turned = dict(reversed(lead.items()))
    accepted = read({"events": [lead, turned]})
    assert accepted.events[0].event_id == accepted.events[1].event_id


def test_the_address_of_the_client_makes_no_other_event() -> None:
    lead = {"eventName": "Lead", "eventTime": 1767225600}
    here, there = (read({"events": [lead]}, ip=ip) for ip in ("192.0.2.1", "192.0.2.2"))
    assert here.events[0].event_id == there.events[0].event_id


@pytest.mark.parametrize("given_user", [{}, {"ipAddress": "", "userAgent": " "}])
def test_address_and_agent_of_the_client_stand_in(given_user: dict[str, str]) -> None:
    body = {"events": [PURCHASE | {"userData": given_user}]}
    user = in_the_log(read(body, ip="192.0.2.1", agent="Shop/1")).user_data
    assert (user.ip_address, user.user_agent) == ("192.0.2.1", "Shop/1")


def test_address_and_agent_of_the_event_stay() -> None:
    mine = {"ipAddress": "198.51.100.9", "userAgent": "Mine"}
    accepted = read({"events": [PURCHASE | {"userData": mine}]}, ip="192.0.2.1", agent="Shop/1")
    assert accepted.events[0].document["userData"] == mine


@pytest.mark.parametrize(
    ("source", "filled"), [("app", True), ("physical_store", False), ("phone_call", False)]
)
def test_the_address_of_a_till_is_not_the_customers(source: str, filled: bool) -> None:
    body = {"events": [PURCHASE | {"actionSource": source}]}
    accepted = read(body, ip="192.0.2.1", agent="Till/1")
    assert ("ipAddress" in accepted.events[0].document["userData"]) is filled
    assert not accepted.events[0].is_browser


@pytest.mark.parametrize(
    ("user", "address", "agent"),
    [
        ({}, "192.0.2.1", "Shop/1"),
        ({"ipAddress": "198.51.100.9", "userAgent": "Mine"}, "198.51.100.9", "Mine"),
    ],
)
def test_an_event_is_judged_by_the_client_that_it_names(
    user: dict[str, str], address: str, agent: str
) -> None:
    body = {"events": [PURCHASE | {"userData": user}]}
    (event,) = read(body, ip="192.0.2.1", agent="Shop/1").events
    assert (event.address, event.user_agent, event.is_browser) == (address, agent, True)


@pytest.mark.parametrize("agent", ["x" * 5000, "caf\udce9/1.0"])
def test_any_agent_header_leaves_an_event_that_can_be_read(agent: str) -> None:
    found = in_the_log(read({"events": [PURCHASE]}, agent=agent)).user_data.user_agent
    assert found is not None
    assert 0 < len(found) <= MAX_USER_AGENT_CHARS


def test_numbers_pass_for_ids() -> None:
    accepted = one(
        eventId=7,
        userData={"externalId": 42, "phone": 4915112345678},
        customData={"orderId": 9, "contents": [{"id": 3}]},
    )
    event = in_the_log(accepted)
    assert accepted.events[0].event_id == event.event_id == "7"
    assert (event.user_data.external_id, event.user_data.phone) == ("42", "4915112345678")
    assert (event.custom_data.order_id, event.custom_data.contents[0].id) == ("9", "3")


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.sampled_from(["", " ", "Purchase", "Lead", "EUR", "12.50", "1e3", "0x1", "1_0"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["id", "price", "contents", "x"]), inner, max_size=3),
    ),
    max_leaves=6,
)


def somehow(known: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object that has some of the known keys, each with a fitting value or with any at all."""
    return st.fixed_dictionaries(
        {}, optional={key: st.one_of(st.just(value), anything) for key, value in known.items()}
    )


nearly_events = somehow(PURCHASE | {"consent": {}, "customEventName": "x"}).flatmap(
    lambda event: st.one_of(
        st.just(PURCHASE | event),
        somehow({"value": 1, "numItems": 1, "contents": [{}], "orderId": "1"}).map(
            lambda custom: PURCHASE | event | {"customData": custom}
        ),
    )
)
bodies = st.one_of(
    st.fixed_dictionaries({"events": st.lists(nearly_events, min_size=1, max_size=2)}),
    anything.map(lambda value: {"events": [value]}),
    anything,
)


@given(bodies, st.booleans())
def test_any_json_is_refused_or_can_be_read_by_the_next_stage(body: Any, strict: bool) -> None:
    try:
        accepted = read(body, strict=strict, ip="192.0.2.1", agent="Shop/1")
    except InvalidPayloadError:
        return
    for index, event in enumerate(accepted.events):
        assert in_the_log(accepted, index).event_id == event.event_id


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_taken(body: bytes) -> None:
    with pytest.raises(InvalidPayloadError):
        read(body)


@given(strategies.events())
def test_an_event_comes_through_as_it_is(event: Any) -> None:
    accepted = read(b'{"events":[' + event.model_dump_json(exclude_none=True).encode() + b"]}")
    assert accepted.unknown_keys == []
    assert in_the_log(accepted) == event
