"""What goes wrong: bad input, dead processes, a log that does not answer."""

import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from confluent_kafka import Producer
from typing_extensions import override

from tests.integration.system import PLATFORMS, Shop, System, eventually, everywhere, purchase

Start = Callable[..., System]


def of_shop(system: System, shop: Shop) -> list[Any]:
    """The raw events of a shop."""
    return [m for m in system.records("raw-events") if shop.domain_id.encode() in m.key()]


@pytest.fixture(scope="module")
def shop(system: System) -> Shop:
    """A shop that the gateway knows."""
    made = system.make_shop("faults")
    made.let_in(purchase("known"))
    return made


def bad_requests() -> Iterator[Any]:
    """(name, headers to change, body, status, code, field)."""
    good = json.dumps({"events": [purchase("x")]}).encode()

    def events(*changed: dict[str, Any]) -> bytes:
        return json.dumps({"events": changed}).encode()

    def case(
        name: str,
        *,
        body: bytes = good,
        headers: dict[str, str] | None = None,
        status: int = 400,
        code: str = "invalid_payload",
        field: str | None = None,
    ) -> Any:
        return pytest.param(headers or {}, body, status, code, field, id=name)

    yield case("malformed-json", body=b'{"events":[')
    yield case("not-an-object", body=b"[]")
    yield case("empty-events", body=b'{"events":[]}', field="events")
    yield case("events-no-list", body=b'{"events":{}}', field="events")
    yield case("over-100-kb", body=b'{"events":[' + b" " * 103_000 + good[11:])
    yield case("wrong-content-type", headers={"Content-Type": "text/csv"}, field="Content-Type")
    yield case("missing-token", headers={"X-SSP-Token": ""}, status=401, code="invalid_token")
    yield case("wrong-token", headers={"X-SSP-Token": "0" * 64}, status=401, code="invalid_token")
    yield case(
        "unknown-host", headers={"Host": "other.example"}, status=404, code="domain_not_configured"
    )
    yield case(
        "wrong-type",
        body=events(purchase("a"), purchase("b", eventTime="yesterday")),
        field="events[1].eventTime",
    )
    yield case(
        "second-event-is-bad",
        body=events(purchase("a"), purchase("b", customData={"value": "much"})),
        field="events[1].customData.value",
    )
    yield case("unknown-event", body=events(purchase("a", eventName="Bought")), field="events[0].eventName")  # fmt: skip


@pytest.mark.parametrize(("headers", "body", "status", "code", "field"), list(bad_requests()))
def test_bad_input_is_refused_and_leaves_no_record(
    system: System,
    shop: Shop,
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
    field: str | None,
) -> None:
    before = len(of_shop(system, shop))
    answer = system.request("/v1/events", body, shop.headers() | headers)
    assert answer.status == status, answer.body
    assert answer.body["success"] is False
    assert answer.body["error"]["code"] == code
    assert answer.body["error"]["message"]
    assert answer.body["error"].get("field") == field
    assert answer.body["requestId"] == answer.headers["X-Request-Id"]
    assert len(of_shop(system, shop)) == before


def test_unknown_keys_are_left_out_or_refused_by_name(system: System, shop: Shop) -> None:
    answer = shop.post(purchase("extra", pluginVersion="9", customData={"valeu": 1, "value": 2, "currency": "EUR"}))  # fmt: skip
    assert answer.status == 200
    assert sorted(answer.body["warnings"]) == [
        "events[0].customData.valeu: unknown key, left out",
        "events[0].pluginVersion: unknown key, left out",
    ]
    stored = next(
        json.loads(m.value()) for m in of_shop(system, shop) if m.key().endswith(b":extra")
    )
    assert "pluginVersion" not in stored["event"]

    strict = system.make_shop("strict", strict=True)
    answer = eventually(
        lambda: strict.post(purchase("s", pluginVersion="9")),
        within=10,
        until=lambda found: found.body["error"]["code"] != "domain_not_configured",
    )
    assert answer.status == 400
    assert answer.body["error"]["field"] == "events[0].pluginVersion"
    assert of_shop(system, strict) == []


def test_a_record_that_cannot_be_decoded_is_a_dead_letter_and_stops_nobody(
    system: System, shop: Shop
) -> None:
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    producer = Producer({"bootstrap.servers": system.description["kafka"]})
    for partition in range(12):
        producer.produce(
            f"{prefix}raw-events",
            b"\x00garbage\xff",
            b"a-key",
            partition=partition,
            headers=[("who", b"\x80\x81")],
        )
    assert producer.flush(10) == 0
    assert shop.post(purchase("after-garbage")).status == 200
    eventually(
        shop.fates, within=20, until=lambda found: everywhere(["after-garbage"]) <= found.keys()
    )
    letters = [m for m in system.records("dead-letters") if m.value() == b"\x00garbage\xff"]
    assert len(letters) == 12
    headers = dict(letters[0].headers())
    assert headers["reason"] == b"undecodable"
    assert headers["origin-topic"] == f"{prefix}raw-events".encode()
    assert headers["origin.who"] == b"\x80\x81"
    assert letters[0].key() == b"a-key"


@pytest.mark.chaos
def test_kill_9_of_streams_and_sinks_in_mid_flow_loses_nothing(start: Start) -> None:
    system = start(CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE="0")
    shop = system.make_shop("killed")
    shop.let_in(purchase("first"))
    dice = random.Random(7)
    accepted = ["first"]
    for number in range(400):
        event_id = f"k-{number}"
        if shop.post(purchase(event_id)).status == 200:
            accepted.append(event_id)
        if number in (80, 180, 280):
            system.kill("streams")
        if number in (130, 230, 330):
            system.kill("sinks")
        if dice.random() < 0.02:
            time.sleep(0.2)
    assert len(accepted) == 401
    fates = eventually(
        shop.fates, within=90, until=lambda found: found.keys() >= everywhere(accepted)
    )
    assert fates.keys() == everywhere(accepted)
    assert {fate for found in fates.values() for fate in found} == {"delivered"}
    assert all(len(found) == 1 for found in fates.values()), "an outcome has one name, once"
    _assert_dies_whole(system)


def _assert_dies_whole(system: System) -> None:
    """A stack that is killed outright takes its processes with it."""
    pids = json.loads((system.directory / "processes.json").read_text())["processes"].values()
    system.stop(signal.SIGKILL)
    eventually(
        lambda: [pid for pid in pids if _runs(pid)], within=30, until=lambda found: not found
    )


@pytest.mark.chaos
def test_a_log_that_does_not_answer_is_a_503_in_time(start: Start) -> None:
    system = start()
    shop = system.make_shop("silent")
    shop.let_in(purchase("before"))
    with _frozen(system):
        started = time.monotonic()
        answer = shop.post(purchase("during"))
        took = time.monotonic() - started
        assert system.request("/health").body == {"status": "ok"}
    assert answer.status == 503
    assert answer.body["error"]["code"] == "unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    assert took < 5.0
    shop.let_in(purchase("during"), within=30)
    wanted = everywhere(["before", "during"])
    eventually(
        lambda: {pair for pair, told in shop.fates().items() if "delivered" in told},
        within=60,
        until=lambda delivered: wanted <= delivered,
    )


@contextmanager
def _frozen(system: System) -> Iterator[None]:
    """The broker holds still: connections stay open and nothing answers."""
    pid = _broker_pid(system)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _broker_pid(system: System) -> int:
    port = int(system.description["kafka"].rpartition(":")[2])
    inodes = {
        line.split()[9]
        for line in _lines("/proc/net/tcp") + _lines("/proc/net/tcp6")
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    for entry in os.listdir("/proc"):
        if entry.isdigit() and _holds(int(entry), inodes):
            return int(entry)
    raise AssertionError(f"nobody listens on {port}")


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()[1:]


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return False
    return any(link == f"socket:[{inode}]" for inode in inodes for link in links)


def test_deliveries_go_to_a_server_of_ones_own(start: Start) -> None:
    with _listening() as (port, seen):
        url = f"http://127.0.0.1:{port}"
        system = start(
            **{f"CAPISTREAM_PLATFORMS__{slug.upper()}__BASE_URL": url for slug in PLATFORMS}
        )
        shop = system.make_shop("own")
        shop.let_in(purchase("mine"))
        paths = eventually(
            lambda: {path.partition("?")[0] for path, _ in seen},
            within=20,
            until=lambda found: len(found) == len(PLATFORMS),
        )
    assert paths == {
        "/v24.0/pixelown/events",
        "/open_api/v1.3/event/track/",
        "/v5/ad_accounts/pixelown/events",
        "/v3/pixelown/events",
        "/api/v3/pixels/pixelown/conversion_events",
        "/log/common/api",
    }
    assert all(b"mine" in body for _, body in seen)
    _assert_drains(system)


def _assert_drains(system: System) -> None:
    """SIGTERM ends everything in order, even while deliveries wait for a platform."""
    started = time.monotonic()
    assert system.stop() == 0
    assert time.monotonic() - started < 10
    with socket.socket() as probe:
        port = int(system.description["gateway"].rpartition(":")[2])
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert not (system.directory / "stack.json").exists()


@contextmanager
def _listening() -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """A server that takes everything and says nothing of use."""
    seen: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, body))
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        @override
        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _runs(pid: int) -> bool:
    try:
        return os.listdir(f"/proc/{pid}/fd") != []
    except OSError:
        return False
