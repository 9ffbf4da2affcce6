"""A load of purchases on one port: many keep-alive connections, one request at a time on each.

It runs in a process of its own and does as little as it can for a request (fill in the event ids,
find the end of the answer), so that what is measured is the server. ``python -m benchmarks.load``.
"""

import argparse
import asyncio
import json
import statistics
import time
from itertools import count, islice
from typing import Final, cast

import uvloop
from typing_extensions import override

CONNECTIONS: Final = 64
HOST: Final = "shop.example"
TOKEN_HEADER: Final = "X-SSP-Token"  # noqa: S105 - a header's name
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0"

_END_OF_HEAD: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\nContent-Length: "


def purchase(event_id: str) -> dict[str, object]:
    """The purchase that the replaced API's page shows, of this moment and with an id."""
    return {
        "eventId": event_id,
        "eventName": "Purchase",
        "eventTime": int(time.time()),
        "eventSourceUrl": "https://yourshop.com/checkout/order-received/123/",
        "userData": {
            "email": "customer@example.com",
            "ipAddress": "203.0.113.42",
            "userAgent": AGENT,
            "fbc": "fb.1.1700000000.AbCdEf",
            "fbp": "fb.1.1700000000.1234567890",
        },
        "customData": {
            "currency": "USD",
            "value": 49.99,
            "orderId": "T-12345",
            "contents": [{"id": "SKU-001", "name": "Widget", "quantity": 1, "price": 49.99}],
            "numItems": 1,
        },
    }


def request_template(events: int, token: str) -> bytes:
    """A whole request as a ``%`` template that takes one number for each event."""
    # The ids begin with the moment, so that two runs on one log never send the same event.
    event_id = f"bench-{time.time_ns():x}-%012d"
    body = json.dumps({"events": [purchase(event_id)] * events}).encode()
    length = len(body % ((0,) * events))
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: {AGENT}\r\n"
        f"Content-Type: application/json\r\n{TOKEN_HEADER}: {token}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode() + body


class Load:
    """What all connections share: the requests to send, and what came of them."""

    def __init__(self, template: bytes, events: int) -> None:
        self._template = template
        self._events = events
        self._numbers = count()
        self.seconds: list[float] = []
        """Of each answered request, from its sending to the last byte of its answer."""
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_over = False

    def next_request(self) -> bytes:
        """A request with events that were never sent."""
        return self._template % tuple(islice(self._numbers, self._events))

    def fail(self, why: str) -> None:
        """End the run: a figure with failures in it says nothing."""
        if not self.failure.done():
            self.failure.set_result(why)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request outstanding."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._started = 0.0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def _send(self) -> None:
        self._started = time.perf_counter()
        self._transport.write(self._load.next_request())

    @override
    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(_END_OF_HEAD)
        if end >= 0:
            start = received.find(_LENGTH, 0, end) + len(_LENGTH)
            whole = end + len(_END_OF_HEAD) + int(received[start : start + 8].split(b"\r")[0])
            if len(received) >= whole:
                self._take_answer(received)
                return
        self._received = received

    def _take_answer(self, answer: bytes) -> None:
        self._received = b""
        if answer[9:12] != b"200":
            self._load.fail(answer.decode(errors="replace"))
        elif not self._load.is_over:
            self._load.seconds.append(time.perf_counter() - self._started)
            self._send()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.is_over:
            self._load.fail(f"the server closed a connection: {exc}")


async def press(port: int, events: int, token: str, seconds: float) -> dict[str, float]:
    """Load the port for that long.

    Raises ``SystemExit`` with the answer when one is not 200.
    """
    loop = asyncio.get_running_loop()
    load = Load(request_template(events, token), events)
    cpu = time.process_time()
    started = time.perf_counter()
    transports = [
        (await loop.create_connection(lambda: Connection(load), "127.0.0.1", port))[0]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.wait([load.failure], timeout=seconds)
    taken = time.perf_counter() - started
    cpu_share = (time.process_time() - cpu) / taken
    load.is_over = True
    for transport in transports:
        transport.abort()
    if load.failure.done():
        raise SystemExit(f"an answer that is not 200:\n{load.failure.result()}")
    percentiles = statistics.quantiles(load.seconds, n=100)
    return {
        "requests": len(load.seconds),
        "seconds": taken,
        "cpu_share": cpu_share,
        "p50_ms": percentiles[49] * 1000,
        "p99_ms": percentiles[98] * 1000,
    }


def main() -> None:
    """Read the options, press, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--events", type=int, default=1, help="in each request")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    print(json.dumps(uvloop.run(press(**vars(options)))))


if __name__ == "__main__":
    main()
