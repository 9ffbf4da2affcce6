"""A file of events on its way to the gateway."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from capistream import send
from capistream.send import bring_to_now, in_requests, read_events, read_file, send_events
from ingest.gateway import create_app
from runtime.clock import SystemClock
from runtime.errors import CapistreamError
from schemas.limits import MAX_BODY_BYTES, MAX_EVENTS_PER_REQUEST
from tests.unit.ingest.test_gateway import OPEN, TOKEN, Door, settings
from tests.unit.runtime.clocks import JumpingClock

A, B = {"eventId": "a"}, {"eventId": "b"}


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (b'{"events":[{"eventId":"a"},{"eventId":"b"}]}', [A, B]),
        (b'[{"eventId":"a"},{"eventId":"b"}]', [A, B]),
        (b'{"eventId":"a"}', [A]),
        (b'{"eventId":"a"}\n\n{"eventId":"b"}\r\n', [A, B]),
        (b'{"events":[]}', []),
        (b"", []),
    ],
)
def test_every_form_of_file(text: bytes, events: list[Any]) -> None:
    assert read_events(text) == events


@pytest.mark.parametrize(
    "text", [b"5", b'"x"', b"[1]", b'{"events":5}', b"1\n2", b'{"events":[[]]}']
)
def test_what_holds_no_events_is_told(text: bytes) -> None:
    with pytest.raises(CapistreamError, match="the file must hold"):
        read_events(text)


@pytest.mark.parametrize("text", [b"{", b'{"a":1}\n{', b"\xff", b"eventId,eventName"])
def test_what_is_no_json_is_told(text: bytes) -> None:
    with pytest.raises(CapistreamError, match="not JSON"):
        read_events(text)


small = st.fixed_dictionaries({"eventId": st.text(max_size=5)})
large = st.integers(1, MAX_BODY_BYTES // 3).map(lambda size: {"eventId": "x" * size})


@given(st.lists(st.one_of(small, large), max_size=12), st.integers(1, 40))
def test_requests_keep_to_the_limits_and_lose_nothing(
    some: list[dict[str, Any]], times: int
) -> None:
    events = some * times
    bodies = list(in_requests(events))
    assert all(len(body) <= MAX_BODY_BYTES for body in bodies)
    parts = [orjson.loads(body)["events"] for body in bodies]
    assert all(1 <= len(part) <= MAX_EVENTS_PER_REQUEST for part in parts)
    assert [event for part in parts for event in part] == events


def test_requests_are_no_more_than_needed() -> None:
    assert len(list(in_requests([A] * 250))) == 3


def test_an_event_too_large_for_any_request_takes_no_other_with_it() -> None:
    bodies = list(in_requests([A, {"eventId": "x" * MAX_BODY_BYTES}, B]))
    assert [len(orjson.loads(body)["events"]) for body in bodies] == [1, 1, 1]


def test_the_newest_event_becomes_of_now_and_the_others_keep_their_distance() -> None:
    events: list[dict[str, Any]] = [
        {"eventTime": 1000},
        {"eventTime": 1060, "eventId": "x"},
        {"eventTime": None},
        {},
    ]
    assert bring_to_now(events, 5000) == [
        {"eventTime": 4940},
        {"eventTime": 5000, "eventId": "x"},
        {"eventTime": None},
        {},
    ]
    assert events[0] == {"eventTime": 1000}


def test_milliseconds_and_fractions_keep_their_distance_too() -> None:
    events: list[dict[str, Any]] = [
        {"eventTime": 1767225600000},
        {"eventTime": 1767225630.5},
        {"eventTime": 1767225660},
    ]
    moved = bring_to_now(events, 1795000000)
    assert [event["eventTime"] for event in moved] == [1794999940, 1794999970.5, 1795000000]


def test_a_file_is_read_or_the_reason_told(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(b"[]")
    assert read_file(str(path)) == b"[]"
    with pytest.raises(CapistreamError, match=r"nothing\.json cannot be read: No such file"):
        read_file(str(tmp_path / "nothing.json"))


async def test_a_gateway_that_asks_to_come_later_is_asked_again_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one has no Kafka, and says so each time."""
    monkeypatch.setattr(send, "BUSY_SECONDS", 5.0)
    clock = JumpingClock()
    async with TestClient(TestServer(create_app(settings(tmp_path), SystemClock()))) as client:
        Door(client).configure(OPEN)
        lead = {"eventName": "Lead", "eventTime": 1767225600}
        url = str(client.make_url("")).rstrip("/")
        with pytest.raises(CapistreamError, match="503 unavailable"):
            await send_events([lead], url=url, host="shop.example", token=TOKEN, clock=clock)
    assert clock.slept == [2, 2, 2]
