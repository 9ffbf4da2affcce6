"""The pure steps: decode, dedupe, enrich, route, fan out."""

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.registry import PLATFORMS
from schemas.delivery import Delivery
from schemas.outcome import Reason, Skip
from schemas.wire import SCHEMA_VERSION
from streams.decode import UndecodableError, decode
from streams.dedupe import claim_key, first_source, source_token
from streams.enrich import enrich
from streams.fan_out import fan_out
from streams.route import route
from tests.unit.streams.road import (
    RECEIVED_AT,
    domain,
    envelope,
    event,
    outcomes,
    raw,
    sent,
)  # fmt: skip

if TYPE_CHECKING:
    from platforms.base import Platform

CANARY = "canary@example.com"


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (None, "no value"),
        (b"", "value: "),
        (CANARY.encode(), "value: "),
        (b"\xff" + CANARY.encode(), "value: "),
        (orjson.dumps(CANARY), "value: "),
        (orjson.dumps({"event": CANARY}), "schemaVersion|domainId"),
        (orjson.dumps(envelope(eventName=CANARY)), r"event\.eventName: "),
        (orjson.dumps(envelope(eventTime=CANARY)), r"event\.eventTime: "),
        (orjson.dumps(envelope(userData=CANARY)), r"event\.userData: "),
        (orjson.dumps(envelope(userData={"email": CANARY * 50})), r"event\.userData\.email: "),
        (orjson.dumps(envelope(customData={"currency": CANARY})), r"customData\.currency: "),
        (orjson.dumps(envelope(customData={"value": CANARY})), r"customData\.value: "),
        (orjson.dumps(envelope() | {"schemaVersion": SCHEMA_VERSION + 1}), "schemaVersion: "),
    ],
)
def test_what_cannot_be_decoded_is_told_without_quoting_it(value: bytes | None, where: str) -> None:
    with pytest.raises(UndecodableError, match=where) as error:
        decode(value)
    assert "canary" not in str(error.value)


def test_what_the_gateway_wrote_is_decoded() -> None:
    assert decode(orjson.dumps(envelope())) == raw()


@pytest.mark.parametrize(
    ("holder", "first"),
    [
        (None, None),
        ("raw-events-3-7", None),
        ("raw-events-3-6", "raw-events-3-6"),
        ("raw-events-3-77", "raw-events-3-77"),
        ("replay-events-3-7", "replay-events-3-7"),
    ],
)
def test_the_copy_that_holds_the_claim_counts(holder: str | None, first: str | None) -> None:
    assert first_source(source_token("raw-events", 3, 7), holder) == first


def test_a_claim_is_of_one_domain_name_and_id() -> None:
    keys = {
        claim_key(raw()),
        claim_key(raw(eventId="o-2")),
        claim_key(raw(eventName="Lead")),
        claim_key(raw(eventName="Custom")),
        claim_key(raw(eventName="Custom", customEventName="A")),
        claim_key(raw(eventName="Custom", customEventName="B")),
        claim_key(raw().model_copy(update={"domain_id": "dom_2"})),
    }
    assert len(keys) == 7


def test_a_claim_does_not_look_at_the_rest() -> None:
    other = raw(
        RECEIVED_AT + 5, eventTime=1767225601, customEventName="x", userData={}, testEventCode="T"
    )
    assert claim_key(other) == claim_key(raw())


@given(st.lists(st.text("ab1", min_size=1, max_size=2), min_size=3, max_size=5), st.data())
def test_two_custom_events_never_share_a_claim(parts: list[str], data: st.DataObject) -> None:
    """Whatever separates name and id in the key may be a part of either."""

    def key(names: int) -> str:
        name, event_id = ":".join(parts[:names]), ":".join(parts[names:])
        return claim_key(raw(eventName="Custom", customEventName=name, eventId=event_id))

    split = st.integers(1, len(parts) - 1)
    one, other = data.draw(split), data.draw(split)
    assert (key(one) == key(other)) == (one == other)


def test_enrich_fills_what_the_domain_knows() -> None:
    shop = domain(defaultCurrency="eur", defaultCountry="DE")
    bare = event(eventSourceUrl=None, customData={"value": 5}, userData={"phone": "030 901820"})
    found = enrich(bare, shop)
    assert found.custom_data.currency == "EUR"
    assert found.event_source_url == "https://shop.example/"
    assert found.user_data.phone == "+4930901820"


@pytest.mark.parametrize("phone", ["+1 650 555 1212", "+49 30 901820"])
def test_enrich_leaves_a_phone_that_names_its_country(phone: str) -> None:
    """The platforms read it themselves: reading it here too would cost twice."""
    told = event(userData={"phone": phone})
    assert enrich(told, domain(defaultCountry="DE")).user_data.phone == phone


def test_enrich_overrules_nothing() -> None:
    full = event(
        customData={"value": 5, "currency": "USD"},
        userData={"phone": "+1 650 555 1212", "country": "US"},
    )
    assert enrich(full, domain(defaultCurrency="EUR", defaultCountry="DE")) == full


def test_enrich_gives_no_currency_to_what_has_no_price() -> None:
    bare = event(customData={"contents": [{"id": "1"}]})
    assert enrich(bare, domain(defaultCurrency="EUR")).custom_data.currency is None


def test_without_defaults_the_event_stays_as_it_is() -> None:
    assert enrich(event(), domain()) == event()


META = PLATFORMS["meta"]
AGE, AHEAD = META.LIMITS.max_age_seconds * 1000, META.LIMITS.max_ahead_seconds * 1000


def decide(
    received_at: int = RECEIVED_AT, destination: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any] | Skip:
    rows = [{"id": "d", "platform": "meta", "account": "1", "sealed": ""} | (destination or {})]
    (target,) = domain(destinations=rows).destinations
    received = raw(received_at, **changes)
    return route(received, event(**changes), target, PLATFORMS.get(target.platform))


@pytest.mark.parametrize(
    ("destination", "changes", "reason"),
    [
        ({"platform": "myspace"}, {}, Reason.UNKNOWN_PLATFORM),
        ({"enabled": False}, {}, Reason.DESTINATION_DISABLED),
        ({}, {"consent": {"marketing": False}}, Reason.NO_CONSENT),
        ({"events": {"Purchase": False}}, {}, Reason.EVENT_DISABLED),
        ({"events": {"Custom": False}}, {"eventName": "Custom"}, Reason.EVENT_DISABLED),
        (
            {"events": {"Club": False}},
            {"eventName": "Custom", "customEventName": "Club"},
            Reason.EVENT_DISABLED,
        ),
        ({}, {"eventTime": (RECEIVED_AT - AGE - 1) / 1000}, Reason.TOO_OLD),
        ({}, {"eventTime": (RECEIVED_AT + AHEAD + 1) / 1000}, Reason.IN_THE_FUTURE),
        ({}, {"userData": {}}, Reason.TOO_FEW_MATCH_KEYS),
    ],
)
def test_why_an_event_is_not_sent(
    destination: dict[str, Any], changes: dict[str, Any], reason: Reason
) -> None:
    decision = decide(destination=destination, **changes)
    assert isinstance(decision, Skip)
    assert decision.reason is reason
    assert decision.detail


@pytest.mark.parametrize(
    ("destination", "changes"),
    [
        ({}, {}),
        ({"events": {"Lead": False}}, {}),
        ({"events": {"Club": False}}, {"customEventName": "Club"}),
        (
            {"events": {"Custom": False, "Club": True}},
            {"eventName": "Custom", "customEventName": "Club"},
        ),
        ({}, {"eventTime": (RECEIVED_AT - AGE) / 1000}),
        ({}, {"eventTime": (RECEIVED_AT + AHEAD) / 1000}),
    ],
)
def test_what_is_sent(destination: dict[str, Any], changes: dict[str, Any]) -> None:
    assert isinstance(decide(destination=destination, **changes), dict)


def test_age_is_measured_against_the_moment_of_receipt() -> None:
    moment = 1_500_000_000_000  # long before the clock of whoever runs this
    assert isinstance(decide(moment, eventTime=moment), dict)


ROWS = [
    {"id": f"dst_{slug}", "platform": slug, "account": "1", "sealed": "s"}
    for slug in (*PLATFORMS, "myspace")
]
SHOP = domain(destinations=[*ROWS, ROWS[0] | {"id": "dst_off", "enabled": False}])


def split(first: str | None = None, now_ms: int = 1, **changes: Any) -> Any:
    return fan_out(
        raw(**changes), SHOP, PLATFORMS, source="raw-events-3-7", first=first, now_ms=now_ms
    )


def test_every_destination_gets_one_record() -> None:
    records = split()
    delivered = {Delivery.from_headers(r.headers).destination_id for r in sent(records)}
    skipped = {o.destination_id: o.reason for o in outcomes(records)}
    assert skipped == {
        "dst_myspace": Reason.UNKNOWN_PLATFORM,
        "dst_off": Reason.DESTINATION_DISABLED,
    }
    assert delivered == {f"dst_{slug}" for slug in PLATFORMS}
    assert len(records) == 1 + len(SHOP.destinations)


def test_what_alone_fills_a_request_is_skipped() -> None:
    narrow = SimpleNamespace(**vars(PLATFORMS["meta"]))
    narrow.LIMITS = replace(narrow.LIMITS, max_body_bytes=1_400)
    shop = domain(destinations=[ROWS[0]])
    for words, fate in (("mug", None), ("mug " * 200, Reason.OVERSIZE)):
        records = fan_out(
            raw(customData={"currency": "EUR", "value": 1, "searchString": words[:1000]}),
            shop,
            {"meta": cast("Platform", narrow)},
            source="raw-events-0-0",
            first=None,
            now_ms=1,
        )
        assert [o.reason for o in outcomes(records)] == ([fate] if fate else [])


def test_a_repeat_is_told_for_every_destination_and_sent_to_none() -> None:
    records = split(first="raw-events-3-2")
    assert sent(records) == []
    found = outcomes(records)
    assert [o.destination_id for o in found] == [d.id for d in SHOP.destinations]
    assert {(o.outcome, o.reason, o.first_source) for o in found} == {
        ("duplicate", Reason.SAME_EVENT_ID, "raw-events-3-2")
    }


def test_a_replay_makes_the_same_bytes() -> None:
    assert sent(split()) == sent(split(now_ms=2))
    names = [[o.outcome_id for o in outcomes(split(now_ms=n))] for n in (1, 2)]
    assert names[0] == names[1]


def test_a_delivery_carries_what_its_outcome_will_tell() -> None:
    record = sent(split())[0]
    delivery = Delivery.from_headers(record.headers)
    assert record.key == b"dst_meta:o-1"
    assert (delivery.source, delivery.received_at) == ("raw-events-3-7", RECEIVED_AT)
    assert orjson.loads(record.value or b"")["event_id"] == "o-1"


TESTED = domain(destinations=[ROWS[0] | {"testEventCode": "THEIRS"}, ROWS[1]])


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        ("OWN", {"dst_meta": "OWN", "dst_tiktok": "OWN"}),
        (None, {"dst_meta": "THEIRS", "dst_tiktok": None}),
        (" ", {"dst_meta": "THEIRS", "dst_tiktok": None}),
    ],
)
def test_the_events_own_test_code_goes_before_the_destinations(
    own: str | None, theirs: dict[str, str | None]
) -> None:
    received = decode(orjson.dumps(envelope(testEventCode=own)))
    records = fan_out(received, TESTED, PLATFORMS, source="raw-events-3-7", first=None, now_ms=1)
    deliveries = [Delivery.from_headers(record.headers) for record in sent(records)]
    assert {one.destination_id: one.test_event_code for one in deliveries} == theirs


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"eventName": "Custom", "customEventName": "Club"}, "Club"),
        ({"eventName": "Custom"}, "Custom"),
        ({"customEventName": "Club"}, "Purchase"),
    ],
)
def test_an_outcome_names_the_event_as_the_merchant_knows_it(
    changes: dict[str, Any], name: str
) -> None:
    assert {o.event_name for o in outcomes(split(**changes))} == {name}
