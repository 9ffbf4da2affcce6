"""The rules that a merchant gives a destination."""

import hashlib
import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.delivery import Delivery
from schemas.event import ActionSource
from schemas.outcome import Reason, Skip
from schemas.raw_event import RawEvent
from streams.decode import decode
from streams.enrich import enrich
from streams.fan_out import fan_out
from streams.remember import Recalled
from streams.route import route, route_block
from tests.unit.streams.road import EVENT, domain, envelope, event, outcomes, raw, raw_blocks, sent

ROW = {"id": "dst_1", "platform": "meta", "account": "1", "sealed": "s"}
ITEMS = [{"id": "a", "price": "10.10", "quantity": 2}, {"id": "b", "price": 5}]
PERCENTS = st.floats(0, 100)


def destination(**rules: Any) -> Destination:
    return Destination.model_validate(ROW | rules)


def decide(rules: dict[str, Any], **changes: Any) -> dict[str, Any] | Skip:
    target = destination(**rules)
    return route(raw(**changes), event(**changes), target, PLATFORMS.get(target.platform))


def decide_block(target: Destination, event_id: str = "o-1") -> dict[str, Any] | Skip:
    received = raw_blocks({"meta": {"event_name": "Purchase"}}, eventId=event_id)
    assert received.blocks is not None
    return route_block(received, received.blocks, target, PLATFORMS["meta"])


def person(country: str | None) -> dict[str, Any]:
    return {**EVENT["userData"], "country": country}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("rules", "changes", "reason"),
    [
        ({"excludedSources": ["email"]}, {"actionSource": "email"}, Reason.SOURCE_EXCLUDED),
        ({"excludedSources": ["email", "website"]}, {}, Reason.SOURCE_EXCLUDED),
        ({"consentRequired": True}, {}, Reason.NO_CONSENT),
        ({"consentRequired": True}, {"consent": {}}, Reason.NO_CONSENT),
        ({"consentRequired": True}, {"consent": {"limitedDataUse": False}}, Reason.NO_CONSENT),
        ({"consentRequired": True}, {"consent": {"marketing": False}}, Reason.NO_CONSENT),
        ({"samplePercent": 0}, {}, Reason.SAMPLED_OUT),
        ({"value": "none"}, {}, Reason.MISSING_VALUE),
        ({"value": "subtotal"}, {}, Reason.MISSING_VALUE),
    ],
)
def test_why_a_rule_holds_an_event_back(
    rules: dict[str, Any], changes: dict[str, Any], reason: Reason
) -> None:
    decision = decide(rules, **changes)
    assert isinstance(decision, Skip)
    assert decision.reason is reason
    assert decision.detail


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        ({"excludedSources": [s for s in ActionSource if s != "website"]}, {}),
        ({"consentRequired": True}, {"consent": {"marketing": True}}),
        ({"samplePercent": 100}, {}),
        ({"excludedCountries": ["DE"]}, {}),
    ],
)
def test_what_a_rule_lets_through(rules: dict[str, Any], changes: dict[str, Any]) -> None:
    assert decide(rules, **changes) == decide({}, **changes)


@pytest.mark.parametrize("told", ["DE", "de", "DEU", "Germany", sha256("de"), sha256("de").upper()])
def test_a_country_is_excluded_in_every_spelling(told: str) -> None:
    decision = decide({"excludedCountries": ["fr", "DE"]}, userData=person(told))
    assert isinstance(decision, Skip)
    assert decision.reason is Reason.COUNTRY_EXCLUDED
    assert isinstance(decide({"excludedCountries": ["fr", "at"]}, userData=person(told)), dict)


def test_the_united_kingdom_is_excluded_by_both_its_codes() -> None:
    for code in ("GB", "UK"):
        decision = decide({"excludedCountries": [code]}, userData=person("uk"))
        assert isinstance(decision, Skip)


@pytest.mark.parametrize("told", [None, "Atlantis", "not-a-hash", "f" * 64])
def test_a_country_that_nobody_can_read_is_not_excluded(told: str | None) -> None:
    everywhere = {"excludedCountries": ["DE", "FR", "US"]}
    assert isinstance(decide(everywhere, userData=person(told)), dict)


def test_what_was_stated_is_what_the_shop_sent() -> None:
    """Neither the way through Kafka nor what is filled in makes a statement of a default."""
    target = destination(consentRequired=True)
    shop = domain(defaultCurrency="EUR", defaultCountry="DE")
    for consent, is_sent in (({}, False), ({"marketing": True}, True)):
        received = decode(orjson.dumps(envelope(consent=consent)))
        assert received.event is not None
        enriched = enrich(received.event, shop)
        decision = route(received, enriched, target, PLATFORMS["meta"])
        assert isinstance(decision, dict) is is_sent
        # What was stated with the order stands for a refund that states nothing.
        of_order = Recalled(consent=event(consent={"marketing": True}).consent)
        enriched = enrich(received.event, shop, of_order)
        assert isinstance(route(received, enriched, target, PLATFORMS["meta"]), dict)


def test_what_was_not_stated_is_told_apart_from_what_was_refused() -> None:
    silent = decide({"consentRequired": True})
    refused = decide({"consentRequired": True}, consent={"marketing": False})
    assert isinstance(silent, Skip)
    assert isinstance(refused, Skip)
    assert "not stated" in silent.detail
    assert "not stated" not in refused.detail


@settings(max_examples=20)
@given(st.uuids().map(str), PERCENTS)
def test_a_sample_is_of_the_size_that_was_asked_for(salt: str, percent: float) -> None:
    target, number = destination(samplePercent=percent), 1000
    kept = sum(isinstance(decide_block(target, f"{salt}-{n}"), dict) for n in range(number))
    share = percent / 100
    spread = 6 * math.sqrt(number * share * (1 - share))
    assert abs(kept - number * share) <= spread + 1


@given(st.text(min_size=1, max_size=200), PERCENTS, PERCENTS)
def test_who_is_in_a_sample_is_in_every_larger_one(event_id: str, one: float, other: float) -> None:
    smaller, larger = (destination(samplePercent=p) for p in sorted((one, other)))
    if isinstance(decide_block(smaller, event_id), dict):
        assert isinstance(decide_block(larger, event_id), dict)


@given(st.text("abc0-", min_size=1, max_size=20), PERCENTS)
def test_a_sample_holds_for_copies_and_for_both_sorts_of_events(
    event_id: str, percent: float
) -> None:
    rules = {"samplePercent": percent}
    first = decide(rules, eventId=event_id)
    copy = decide(rules, eventId=event_id, userData=person("DE"), eventName="Lead")
    block = decide_block(destination(**rules), event_id)
    assert len({isinstance(decision, Skip) for decision in (first, copy, block)}) == 1


def test_destinations_draw_samples_of_their_own() -> None:
    halves = [destination(id=name, samplePercent=50) for name in ("dst_1", "dst_2")]
    drawn = {
        tuple(isinstance(decide_block(half, str(number)), dict) for half in halves)
        for number in range(50)
    }
    assert len(drawn) == 4


@pytest.mark.parametrize(
    "rules",
    [
        {"value": "none"},
        {"value": "fixed", "fixedValue": 1},
        {"excludedCountries": ["DE"]},
        {"excludedSources": ["website"]},
        {"consentRequired": True},
    ],
)
def test_a_rule_that_would_look_into_a_block_leaves_it_alone(rules: dict[str, Any]) -> None:
    assert decide_block(destination(**rules)) == {"event_name": "Purchase"}


def split(received: RawEvent, *rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Destination → its payload, or the reason why it has none."""
    shop = domain(
        destinations=[ROW | {"id": f"d{n}"} | row for n, row in enumerate(rows)], **changes
    )
    records = fan_out(received, shop, PLATFORMS, source="raw-events-0-0", first=None, now_ms=1)
    payloads = {
        Delivery.from_headers(r.headers).destination_id: orjson.loads(r.value or b"")
        for r in sent(records)
    }
    reasons = {str(o.destination_id): o.reason for o in outcomes(records)}
    return {**payloads, **reasons}


def test_destinations_of_one_platform_have_rules_of_their_own() -> None:
    custom = {"currency": "EUR", "value": "49.99", "contents": ITEMS}
    found = split(
        raw(customData=custom, userData=person("DE")),
        {},
        {"value": "subtotal", "limitedDataUse": True},
        {"value": "fixed", "fixedValue": "5.00", "eventNames": {"Purchase": "Sale"}},
        {"events": {"Purchase": False}},
        {"excludedCountries": ["DE"]},
        {"samplePercent": 0},
        {"platform": "myspace", "value": "none"},
        {"advancedMatching": False},
    )
    worth = {k: v["custom_data"]["value"] for k, v in found.items() if isinstance(v, dict)}
    assert worth == {"d0": 49.99, "d1": 25.2, "d2": 5, "d7": 49.99}
    assert found["d1"]["data_processing_options"] == ["LDU"]
    assert "data_processing_options" not in found["d0"]
    assert found["d2"]["event_name"] == "Sale"
    assert "em" in found["d0"]["user_data"]
    assert "em" not in found["d7"]["user_data"]
    assert {k: v for k, v in found.items() if not isinstance(v, dict)} == {
        "d3": Reason.EVENT_DISABLED,
        "d4": Reason.COUNTRY_EXCLUDED,
        "d5": Reason.SAMPLED_OUT,
        "d6": Reason.UNKNOWN_PLATFORM,
    }


@pytest.mark.parametrize("slug", PLATFORMS)
def test_a_rule_of_value_holds_at_every_platform(slug: str) -> None:
    custom = {"currency": "EUR", "value": "49.99", "contents": ITEMS}
    cart = raw(eventName="AddToCart", customData=custom)
    (total, subtotal, fixed, nothing) = split(
        cart,
        {"platform": slug},
        {"platform": slug, "value": "subtotal"},
        {"platform": slug, "value": "fixed", "fixedValue": "7.77"},
        {"platform": slug, "value": "none"},
    ).values()
    for payload, amount in ((total, "49.99"), (subtotal, "25.2"), (fixed, "7.77")):
        assert amount in str(payload)
        assert "EUR" in str(payload)
    for trace in ("EUR", "49.99", "25.2", "10.1"):
        assert trace not in str(nothing)


def test_a_fixed_value_is_in_the_currency_of_the_domain_when_the_event_has_none() -> None:
    lead = raw(eventName="Lead", customData={})
    row = {"value": "fixed", "fixedValue": 20}
    assert split(lead, row, defaultCurrency="USD")["d0"]["custom_data"] == {
        "value": 20,
        "currency": "USD",
    }
    assert "custom_data" not in split(lead, row)["d0"]
    purchase = raw(customData={"value": 3})
    assert split(purchase, row)["d0"] is Reason.MISSING_CURRENCY
