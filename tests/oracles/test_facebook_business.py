"""Meta's own Python library builds the same events, and every difference is known.

``facebook_business`` is what Meta tells shops to use, but it does not do all that Meta's pages ask
for: those win. ``DIFFERENCES`` lists each case in which we write something else, with the reason;
a difference that no row explains fails, and so does a row that explains nothing any more. Lists of
identifiers are compared as sets, because the library shuffles them.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from facebook_business.adobjects.serverside.action_source import ActionSource
from facebook_business.adobjects.serverside.content import Content
from facebook_business.adobjects.serverside.custom_data import CustomData
from facebook_business.adobjects.serverside.event import Event as TheirEvent
from facebook_business.adobjects.serverside.gender import Gender
from facebook_business.adobjects.serverside.normalize import Normalize
from facebook_business.adobjects.serverside.user_data import UserData as TheirUserData
from hypothesis import given
from hypothesis import strategies as st

from platforms import meta
from schemas.event import Event, UserData
from tests.golden.storefront import destination
from tests.oracles.differences import DIFFERENCES, PERSON, REFUSED, Case, Difference, digest
from tests.strategies import events

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "meta"
GENDERS: Final = {"f": Gender.FEMALE, "female": Gender.FEMALE, "male": Gender.MALE}


def _is_refused(key: str, raw: str) -> bool:
    try:
        Normalize.normalize_field(key, raw)
    except (TypeError, ValueError):
        return True
    return False


def _their_user(user: UserData) -> tuple[dict[str, Any], dict[str, str]]:
    """What the library makes of a person, and the fields that it raises an error for."""
    arguments: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for key, (attribute, argument) in PERSON.items():
        raw = getattr(user, attribute)
        if raw and _is_refused(key, raw):
            refused[key] = REFUSED
        else:
            arguments[argument] = raw
    theirs = TheirUserData(
        **arguments,
        gender=GENDERS.get((user.gender or "").lower()),
        external_id=user.external_id,
        client_ip_address=user.ip_address,
        client_user_agent=user.user_agent,
        fbc=user.fbc,
        fbp=user.fbp,
    )
    return theirs.normalize(), refused


def _theirs(event: Event, name: str, *, limited: bool) -> dict[str, Any]:
    data = event.custom_data
    contents = [
        Content(
            product_id=line.id,
            quantity=line.quantity,
            item_price=None if line.price is None else float(line.price),
            title=line.name,
            brand=line.brand,
            category=line.category,
        )
        for line in data.contents
    ]
    custom = CustomData(
        value=None if data.value is None else float(data.value),
        currency=data.currency,
        content_name=data.content_name,
        content_category=data.content_category,
        content_ids=[line.id for line in data.contents if line.id] or None,
        contents=contents or None,
        content_type=data.content_type,
        order_id=data.order_id,
        num_items=data.num_items,
        search_string=data.search_string,
    )
    limits = {
        "data_processing_options": ["LDU"],
        "data_processing_options_country": 0,
        "data_processing_options_state": 0,
    }
    theirs = TheirEvent(
        event_name=name,
        event_time=event.event_time // 1000,
        event_id=event.event_id,
        event_source_url=event.event_source_url,
        referrer_url=event.referrer_url,
        action_source=ActionSource(event.action_source.value),
        custom_data=custom,
        user_data=TheirUserData(),
        **(limits if limited else {}),
    ).normalize()
    known, refused = _their_user(event.user_data)
    return {**theirs, "user_data": known | refused}


def _flat(payload: dict[str, Any]) -> dict[str, Any]:
    """Fields by path; an identifier's list of one is that one."""
    fields = {key: value for key, value in payload.items() if not isinstance(value, dict)}
    for part in ("user_data", "custom_data"):
        for key, value in payload.get(part, {}).items():
            is_identifier = part == "user_data" and isinstance(value, list)
            fields[f"{part}.{key}"] = value[0] if is_identifier else value
    return fields


def _raw(event: Event, key: str) -> str:
    plain = {"client_ip_address": "ip_address", "client_user_agent": "user_agent"}
    name = key.removeprefix("user_data.")
    attribute = PERSON[name][0] if name in PERSON else plain.get(name, name)
    return getattr(event.user_data, attribute, None) or ""


def _cases(event: Event) -> Iterator[tuple[str, Case]]:
    """Every field in which the two differ."""
    limited = event.consent.limited_data_use
    payload = meta.payload(event, destination("meta"))
    if not isinstance(payload, dict):
        return
    ours = _flat(payload)
    # The names of events are the shop's choice with their library.
    theirs = _flat(_theirs(event, ours["event_name"], limited=limited))
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            yield key, Case(event, _raw(event, key), theirs.get(key), ours.get(key))


def _explanations(key: str, case: Case) -> list[Difference]:
    return [row for row in DIFFERENCES if key in row.keys.split() and row.explains(case)]


def _check(event: Event) -> None:
    for key, case in _cases(event):
        assert _explanations(key, case), f"{key}: {case}"


@pytest.fixture(autouse=True, scope="module")
def _no_network() -> Iterator[None]:
    def refuse(*_: object) -> None:
        raise AssertionError("the library went to the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@given(event=events())
def test_any_event_is_theirs_but_for_the_known_differences(event: Event) -> None:
    _check(event)


@pytest.mark.parametrize(
    "file", [pytest.param(file, id=file.name) for file in sorted(GOLDEN.glob("*.event.json"))]
)
def test_the_golden_events_are_theirs_too(file: Path) -> None:
    _check(Event.model_validate(json.loads(file.read_text())))


def test_a_plain_event_is_theirs_to_the_letter() -> None:
    assert list(_cases(_plain())) == []


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: f"{row.keys.split()[0]}: {row.why}")
def test_each_difference_is_one(row: Difference) -> None:
    found = dict(_cases(_plain(**row.example)))
    assert row in _explanations(row.keys.split()[0], found[row.keys.split()[0]])


@given(st.sampled_from(DIFFERENCES))
def test_no_row_explains_a_wrongdigest(row: Difference) -> None:
    """An explanation that takes anything would hide the next mistake."""
    key = row.keys.split()[0]
    case = dict(_cases(_plain(**row.example)))[key]
    wrong = Case(case.event, case.raw, case.theirs, digest("somebody else"))
    assert _explanations(key, wrong) == []


def _plain(**changes: Any) -> Event:
    """An event that both write alike, with changes: an event's own or a person's (camelCase)."""
    own = {key: changes.pop(key) for key in ("customData", "eventName") if key in changes}
    user = {
        "email": " Ada@Example.com ",
        "gender": "F",
        "ipAddress": "8.8.8.8",
        "userAgent": "Mozilla/5.0",
        "fbp": "fb.1.1795170000000.42",
    }
    fixed = {
        "eventId": "e1",
        "eventName": "ViewContent",
        "eventTime": 1_795_176_000,
        "eventSourceUrl": "https://shop.example/",
        "userData": user | changes,
    }
    return Event.model_validate(fixed | own)
