"""What lies on ``audit`` is told apart by its kind."""

import pytest

from audit.read import read_outcome
from schemas.alert import Alert, AlertKind
from schemas.audit import read_told
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind
from schemas.raw_event import RawEvent
from schemas.routing import Routing, routing_record

OUTCOME = Delivery("dom", "dst", "meta", "o-1", "Purchase", 1, 2, "s").outcome_record(
    OutcomeKind.DELIVERED, at=3
)
ALERT = Alert(
    alertId="a",
    alert=AlertKind.MISCONFIGURED,
    domainId="dom",
    destinationId="dst",
    platform="meta",
    at=1,
).to_record()
ROUTING = routing_record(
    RawEvent.model_validate(
        {
            "domainId": "dom",
            "door": "events",
            "requestId": "r",
            "receivedAt": 2,
            "event": {"eventId": "o-1", "eventName": "Purchase", "eventTime": 1_767_225_600},
        }
    ),
    [("dst", "meta")],
    source="s",
    at=3,
)


def test_each_kind_is_read_as_what_it_is() -> None:
    found = [read_told(record.value) for record in (OUTCOME, ALERT, ROUTING)]
    assert [type(one) for one in found] == [Outcome, Alert, Routing]
    assert {record.key for record in (OUTCOME, ALERT, ROUTING)} == {b"dom"}
    assert [read_outcome(record.value) is None for record in (OUTCOME, ALERT, ROUTING)] == [
        False,
        True,
        True,
    ]


def test_what_has_no_kind_is_an_outcome() -> None:
    value = (OUTCOME.value or b"").replace(b'"kind":"outcome",', b"")
    assert isinstance(read_told(value), Outcome)


@pytest.mark.parametrize("value", [None, b"", b"[]", b'{"kind":7}', b'{"kind":"weather"}'])
def test_what_is_nothing_of_ours_is_none(value: bytes | None) -> None:
    assert read_told(value) is None


def test_what_is_newer_is_none() -> None:
    for record in (OUTCOME, ALERT, ROUTING):
        value = (record.value or b"").replace(b'"schemaVersion":1', b'"schemaVersion":2')
        assert read_told(value) is None
