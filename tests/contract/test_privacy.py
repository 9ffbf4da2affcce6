"""What leaves the house: hashes, not people; nothing without consent; the law's wishes on top."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms import mapping
from platforms.identity import Identifiers
from platforms.registry import PLATFORMS
from schemas.event import Event
from schemas.outcome import Reason, Skip
from schemas.raw_event import RawEvent
from schemas.topics import AUDIT
from streams.fan_out import fan_out
from streams.route import route
from tests.contract.stand_ins import destination
from tests.outcomes import outcomes_among
from tests.strategies import SHA256, destinations, events
from tests.unit.streams.road import domain

SLUGS: Final = sorted(PLATFORMS)
HASH: Final = re.compile(r"[0-9a-f]{64}")
PERSONAL: Final = (
    *("email", "phone", "first_name", "last_name"),
    *("date_of_birth", "postal_code", "external_id"),
)
LEAST_TELLING_CHARS: Final = 6
"""A shorter text may stand in a hash or a number by chance."""

# How each platform is told of limited data use: what is added to its payload, and nothing else; or
# why an event that asks for it stays here, where a platform cannot be told.
LIMITED: Final[dict[str, dict[str, Any] | Reason]] = {
    "meta": {
        "data_processing_options": ["LDU"],
        "data_processing_options_country": 0,
        "data_processing_options_state": 0,
    },
    "tiktok": {"limited_data_use": True},
    "pinterest": {"custom_data.opt_out_type": "LDP"},
    "snapchat": {"data_processing_options": ["LDU"]},
    "reddit": {
        "user.data_processing_options.modes": ["LDU"],
        "user.data_processing_options.country": "US",
        "user.data_processing_options.region": "US-CA",
    },
    "snackvideo": Reason.NO_CONSENT,
}
PLAIN: Final = (
    *("ipAddress", "userAgent", "fbc", "fbp", "fbclid", "ttclid", "ttp", "epik"),
    *("scClickId", "scCookie1", "rdtCid", "rdtUuid"),
)
every_platform = pytest.mark.parametrize("slug", SLUGS)


def _identifiers(slug: str) -> Identifiers:
    platform = PLATFORMS[slug]
    return [*getattr(platform, "IDENTIFIERS", ()), *getattr(platform, "_EXTERNAL_ID", ())]


def _person(payload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = payload.get("user") or payload.get("user_data") or {}
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _writings(raw: str) -> set[str]:
    """A raw identifier as it may have been written on the way."""
    bare = re.sub(r"[\W_]", "", raw.lower())
    written = {raw, raw.strip(), raw.lower().strip(), bare, re.sub(r"\D", "", raw)}
    return {text for text in written if len(text) >= LEAST_TELLING_CHARS}


def _lead(user: dict[str, str]) -> Event:
    fixed = {"eventId": "e1", "eventName": "Lead", "eventTime": 1_795_176_000}
    page = {"eventSourceUrl": "https://shop.example/"}
    return Event.model_validate(fixed | page | {"userData": user})


@every_platform
@given(data=st.data())
def test_a_hashed_field_holds_nothing_else(slug: str, data: st.DataObject) -> None:
    payload = PLATFORMS[slug].payload(data.draw(events()), data.draw(destinations(slug)))
    if isinstance(payload, Skip):
        return
    for key, _, _ in _identifiers(slug):
        held = _person(payload).get(key, [])
        for each in held if isinstance(held, list) else [held]:
            assert HASH.fullmatch(each), key


@every_platform
@given(data=st.data())
def test_no_raw_identifier_is_sent_under_any_name(slug: str, data: st.DataObject) -> None:
    event = data.draw(events())
    payload = PLATFORMS[slug].payload(event, data.draw(destinations(slug)))
    if isinstance(payload, Skip):
        return
    user = event.user_data
    hidden = {text for name in PERSONAL for text in _writings(getattr(user, name) or "")}
    hidden -= {SHA256}
    plain = {text for name, text in user if text and name not in PERSONAL}
    hidden = {text for text in hidden if not any(text.lower() in p.lower() for p in plain)}
    for path, leaf in _leaves(_person(payload)):
        shown = str(leaf).lower()
        assert not [text for text in hidden if text.lower() in shown], path


@every_platform
def test_an_identifier_of_nothing_is_left_out(slug: str) -> None:
    nothing = dict.fromkeys(("firstName", "lastName", "city", "state", "postalCode"), "-")
    who = {"email": "@", "phone": "+", "country": "?", "kwaiClickId": "K1"}
    browser = {"ipAddress": "203.0.113.7", "userAgent": "Mozilla/5.0"}
    payload = PLATFORMS[slug].payload(_lead(nothing | who | browser), destination(slug))
    assert isinstance(payload, dict)
    assert not [leaf for _, leaf in _leaves(_person(payload)) if HASH.search(str(leaf))]


@every_platform
def test_a_hash_is_never_sent_as_an_ip_agent_or_click_id(slug: str) -> None:
    known = {"email": "ada@example.com", "kwaiClickId": "K1"}
    hashed = _lead(known | dict.fromkeys(PLAIN, SHA256))
    where = destination(slug)
    assert PLATFORMS[slug].payload(hashed, where) == PLATFORMS[slug].payload(_lead(known), where)


@every_platform
def test_limited_data_use_adds_its_flag_and_nothing_else(slug: str) -> None:
    user = {"email": "a@b.co", "state": "California", "country": "USA", "kwaiClickId": "K1"}
    event = _lead(user)
    free = PLATFORMS[slug].payload(event, destination(slug))
    limited = PLATFORMS[slug].payload(event, destination(slug, limitedDataUse=True))
    assert isinstance(free, dict)
    if isinstance(limited, Skip):
        assert limited.reason is LIMITED[slug]
        return
    told = dict(_leaves(limited))
    assert {path: told.pop(path) for path in told.keys() - dict(_leaves(free))} == LIMITED[slug]
    assert told == dict(_leaves(free))


@every_platform
@given(data=st.data())
def test_the_wish_may_come_with_the_event_or_the_destination(
    slug: str, data: st.DataObject
) -> None:
    event, where = data.draw(events()), data.draw(destinations(slug))
    wished = event.consent.model_copy(update={"limited_data_use": True})
    by_event = event.model_copy(update={"consent": wished})
    by_destination = where.model_copy(update={"limited_data_use": True})
    assert mapping.is_limited(by_event, where)
    assert PLATFORMS[slug].payload(by_event, where) == PLATFORMS[slug].payload(
        event, by_destination
    )


@every_platform
@given(event=events())
def test_without_consent_nothing_is_sent(slug: str, event: Event) -> None:
    withheld = event.consent.model_copy(update={"marketing": False})
    event = event.model_copy(update={"consent": withheld})
    received = {"domainId": "dom_1", "door": "events", "requestId": "r"}
    raw = RawEvent.model_validate(received | {"receivedAt": event.event_time, "event": event})
    skip = route(raw, event, destination(slug), PLATFORMS[slug])
    assert isinstance(skip, Skip)
    assert skip.reason is Reason.NO_CONSENT
    one = domain(destinations=[destination(slug).model_dump()])
    records = fan_out(raw, one, PLATFORMS, source="s", first=None, now_ms=event.event_time)
    assert {record.topic for record in records} == {AUDIT}
    assert len(outcomes_among(records)) == 1
