"""The two schemas that the benchmark compares judge alike."""

import json
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from benchmarks.load import purchase
from benchmarks.msgspec_events import decode
from benchmarks.validation import with_pydantic
from schemas.limits import MAX_EMAIL_CHARS, MAX_EVENT_ID_CHARS


def _body(section: str | None, changes: dict[str, Any]) -> bytes:
    event: dict[str, Any] = purchase("o-1")
    (event if section is None else event[section]).update(changes)
    return json.dumps({"events": [event]}).encode()


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        (None, {}),
        (None, {"eventId": 17}),
        (None, {"eventTime": 1767225600.25}),
        (None, {"eventTime": 1767225600250}),
        ("userData", {"phone": 4930123456, "gender": ""}),
        ("customData", {"value": "49.99", "currency": " eur ", "numItems": None}),
        ("customData", {"contents": []}),
    ],
)
def test_both_take(section: str | None, changes: dict[str, Any]) -> None:
    """What shops send."""
    body = _body(section, changes)
    assert len(decode(body)) == len(with_pydantic(body)) == 1


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        (None, {"eventId": ""}),
        (None, {"eventId": "x" * (MAX_EVENT_ID_CHARS + 1)}),
        (None, {"eventName": "Bought"}),
        (None, {"eventTime": "yesterday"}),
        (None, {"eventTime": 12}),
        (None, {"eventTime": 1e15}),
        (None, {"actionSource": "moon"}),
        (None, {"consent": {"marketing": "yes"}}),
        ("userData", {"email": "x" * (MAX_EMAIL_CHARS + 1)}),
        ("userData", {"fbp": 5}),
        ("customData", {"currency": "EURO"}),
        ("customData", {"value": -1}),
        ("customData", {"value": 1e13}),
        ("customData", {"value": "a lot"}),
        ("customData", {"value": "NaN"}),
        ("customData", {"value": "0.0000001"}),
        ("customData", {"numItems": -1}),
        ("customData", {"contents": [{"id": "SKU-1", "price": -1}]}),
    ],
)
def test_both_refuse(section: str | None, changes: dict[str, Any]) -> None:
    """Each rule of the schema, broken once."""
    body = _body(section, changes)
    with pytest.raises(msgspec.ValidationError):
        decode(body)
    with pytest.raises(ValidationError):
        with_pydantic(body)
