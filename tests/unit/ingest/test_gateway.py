"""The gateway's own answers, while no Kafka is there."""

import asyncio
import gc
import gzip
import resource
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import brotli
import orjson
import pytest
import redis.asyncio
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from capistream.embedded import free_port
from ingest.context import FEED
from ingest.gateway import create_app
from ingest.guards import TOKEN_HEADER, host_of
from runtime.clock import SystemClock
from runtime.errors import ConfigError
from runtime.http_server import serving
from runtime.kafka import ConsumedRecord
from runtime.settings import (
    GatewaySettings,
    KafkaSettings,
    RedisSettings,
    Settings,
    TokenSettings,
)
from runtime.vault import DomainTokens
from schemas.config import Destination, DomainConfig, Subscription
from schemas.limits import MAX_BODY_BYTES
from schemas.topics import DOMAIN_CONFIGS

TOKENS = TokenSettings(secret=SecretStr("c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="))
TOKEN = DomainTokens(TOKENS).issue("dom_1", 1)
CLOSED = DomainConfig(
    domainId="dom_2",
    orgId="org",
    host="closed.example",
    revision=1,
    syncTokenSha256="",
    subscription=Subscription.INACTIVE,
)
OPEN = CLOSED.model_copy(
    update={"domain_id": "dom_1", "host": "shop.example", "subscription": Subscription.ACTIVE}
)
LEAD = b'{"events":[{"eventName":"Lead","eventTime":1767225600}]}'


@dataclass
class Door:
    """A client of the gateway."""

    client: TestClient[Any, Any]

    def configure(self, *domains: DomainConfig) -> None:
        """Let the gateway's feed read these configurations, as if Kafka had brought them."""
        assert self.client.app is not None
        for offset, domain in enumerate(domains):
            value = domain.model_dump_json().encode()
            key = domain.domain_id.encode()
            record = ConsumedRecord(DOMAIN_CONFIGS, 0, offset, key, value, ())
            self.client.app[FEED]._apply(record)
        self.client.app[FEED]._caught_up.set()

    async def post(self, body: bytes, **headers: str) -> tuple[int, Any, Any]:
        """Status, body and headers; JSON, as shop.example with its token unless told otherwise."""
        own = {"Host": "shop.example", TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post("/v1/events", data=body, headers=own | given) as answer:
            return answer.status, await answer.json(), answer.headers

    async def call(self, method: str, path: str) -> tuple[int, Any, Any]:
        """Status, body and headers."""
        async with self.client.request(method, path) as answer:
            return answer.status, await answer.json(), answer.headers


def settings(tmp_path: Path, tokens: TokenSettings = TOKENS) -> Settings:
    return Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
        redis=RedisSettings(url=SecretStr("redis://127.0.0.1:1/0")),
        tokens=tokens,
        gateway=GatewaySettings(delivery_timeout_seconds=0.1),
    )


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with TestClient(TestServer(create_app(settings(tmp_path), SystemClock()))) as client:
        yield Door(client)


def assert_refusal(found: tuple[int, Any, Any], status: int, code: str) -> dict[str, str]:
    """Check the one form that every refusal has; answers its error."""
    answered, body, headers = found
    assert (answered, body["error"]["code"]) == (status, code)
    assert body.keys() == {"success", "error", "requestId"}
    assert body["success"] is False
    assert body["error"].keys() <= {"code", "message", "field"}
    assert body["error"]["message"]
    assert headers["X-Request-Id"] == body["requestId"]
    assert headers["Content-Type"].startswith("application/json")
    error: dict[str, str] = body["error"]
    return error


def test_without_a_token_secret_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CAPISTREAM_TOKENS__SECRET"):
        create_app(settings(tmp_path, TokenSettings()), SystemClock())


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("shop.example", "shop.example"),
        ("Shop.Example:8080", "shop.example"),
        (" shop.example. ", "shop.example"),
        ("shop.example.:443", "shop.example"),
        ("127.0.0.1:8080", "127.0.0.1"),
        ("[2001:DB8::1]:8080", "[2001:db8::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ],
)
def test_host_of(header: str, host: str) -> None:
    assert host_of(header) == host


async def test_health_needs_no_kafka(door: Door) -> None:
    assert (await door.call("GET", "/health"))[:2] == (200, {"status": "ok"})


async def test_metrics_are_told(door: Door) -> None:
    async with door.client.get("/metrics") as answer:
        assert answer.status == 200
        assert "capistream_events_accepted_total" in await answer.text()


async def test_unknown_routes_and_methods(door: Door) -> None:
    assert_refusal(await door.call("GET", "/v2/events"), 404, "not_found")
    found = await door.call("GET", "/v1/events")
    assert_refusal(found, 405, "method_not_allowed")
    assert found[2]["Allow"] == "OPTIONS,POST"


async def test_before_the_configuration_is_read_a_shop_is_told_to_come_again(door: Door) -> None:
    found = await door.post(LEAD)
    assert_refusal(found, 503, "unavailable")
    assert found[2]["Retry-After"] == "2"


async def test_what_kafka_does_not_acknowledge_is_no_success(door: Door) -> None:
    door.configure(OPEN)
    found = await door.post(LEAD)
    assert_refusal(found, 503, "unavailable")
    assert found[2]["Retry-After"] == "2"


async def test_a_plan_that_ended(door: Door) -> None:
    door.configure(CLOSED)
    assert_refusal(await door.post(LEAD, Host="closed.example"), 403, "subscription_inactive")


@pytest.mark.parametrize("token", ["", "x", "ü" * 64, TOKEN[:-1], TOKEN.upper()])
async def test_a_wrong_token(door: Door, token: str) -> None:
    door.configure(OPEN)
    error = assert_refusal(await door.post(LEAD, X_SSP_Token=token), 401, "invalid_token")
    assert TOKEN not in error["message"]


async def test_a_token_that_is_no_text(door: Door) -> None:
    door.configure(OPEN)
    port = door.client.port
    assert port is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /v1/events HTTP/1.1\r\nHost: shop.example\r\nX-SSP-Token: caf\xe9\r\n"
    writer.write(head + b"Connection: close\r\nContent-Length: 0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("body", "headers", "message", "field"),
    [
        (LEAD, {"Content_Type": "application/xml"}, "send application/json", "Content-Type"),
        (b"{", {}, "not JSON", None),
        (b'{"events":[{}]}', {}, "Field required", "events[0].eventName"),
        (b" " * (MAX_BODY_BYTES + 1), {}, "exceeds 100 KB", None),
        (b" " * (3 * MAX_BODY_BYTES), {}, "exceeds 100 KB", None),
        (gzip.compress(b" " * 10**7), {"Content_Encoding": "gzip"}, "exceeds 100 KB", None),
        (brotli.compress(b" " * 10**7), {"Content_Encoding": "br"}, "exceeds 100 KB", None),
    ],
    ids=["media type", "no JSON", "no event", "over", "far over", "gzip over", "br over"],
)
async def test_a_body_that_cannot_be_taken(
    door: Door, body: bytes, headers: dict[str, str], message: str, field: str | None
) -> None:
    door.configure(OPEN)
    error = assert_refusal(await door.post(body, **headers), 400, "invalid_payload")
    assert message in error["message"]
    assert error.get("field") == field


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
async def test_a_body_that_does_not_unpack_is_the_senders_mistake(door: Door, coding: str) -> None:
    door.configure(OPEN)
    found = await door.post(LEAD, Content_Encoding=coding)
    assert_refusal(found, 400, "invalid_payload")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(LEAD), {"Content_Encoding": "gzip"}),
        (brotli.compress(LEAD), {"Content_Encoding": "br"}),
        (LEAD, {"Content_Type": "text/plain;charset=UTF-8"}),
    ],
    ids=["gzip", "br", "beacon"],
)
async def test_packed_bodies_and_beacons_are_understood(
    door: Door, body: bytes, headers: dict[str, str]
) -> None:
    """As far as Kafka, which is not there."""
    door.configure(OPEN)
    assert_refusal(await door.post(body, **headers), 503, "unavailable")


async def test_a_beacon_names_its_token_in_the_address(door: Door) -> None:
    door.configure(OPEN)
    headers = {"Host": "shop.example", "Content-Type": "text/plain"}
    for token, status in ((TOKEN, 400), (TOKEN[:-1], 401), ("", 401)):
        path = f"/v1/events?token={token}"
        async with door.client.post(path, data=b"{", headers=headers) as answer:
            assert answer.status == status


async def test_a_strict_domain_says_what_it_does_not_know(door: Door) -> None:
    door.configure(OPEN.model_copy(update={"strict": True}))
    event = orjson.loads(LEAD)
    event["events"][0]["extra"] = 1
    error = assert_refusal(await door.post(orjson.dumps(event)), 400, "invalid_payload")
    assert error["field"] == "events[0].extra"


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("https://shop.example", True),
        ("https://www.shop.example", True),
        ("https://m.partner.example", True),
        ("http://shop.example", False),
        ("https://example", False),
        ("https://shop.example.evil.example", False),
        ("https://evilshop.example", False),
        ("null", False),
        ("https://[", False),
    ],
)
async def test_pages_of_the_storefront_may_send(door: Door, origin: str, headers: bool) -> None:
    door.configure(OPEN.model_copy(update={"allowed_origins": ("https://m.partner.example",)}))
    request = {"Host": "shop.example", "Origin": origin}
    async with door.client.options("/v1/events", headers=request) as answer:
        assert answer.status == 204
        assert ("Access-Control-Max-Age" in answer.headers) is headers
    status, _, told = await door.post(b"{", Origin=origin)
    assert status == 400
    assert told.get("Access-Control-Allow-Origin") == (origin if headers else None)
    assert (told.get("Vary") == "Origin") is headers


async def test_a_gateway_above_the_shop_serves_the_shop(door: Door) -> None:
    door.configure(OPEN.model_copy(update={"host": "ssp.shop.example"}))
    for origin, allowed in (("https://shop.example", True), ("https://example", False)):
        request = {"Host": "ssp.shop.example", "Origin": origin}
        async with door.client.options("/v1/events", headers=request) as answer:
            assert ("Access-Control-Allow-Origin" in answer.headers) is allowed


async def test_not_ready_without_kafka(door: Door) -> None:
    status, body, _ = await door.call("GET", "/ready")
    assert status == 503
    assert body == {
        "status": "not_ready",
        "parts": {"kafka": "unreachable", "redis": "unreachable", "configFeed": "reading"},
    }


async def test_more_requests_than_one_process_may_hold_come_again(tmp_path: Path) -> None:
    """The first request waits for a body that does not come; the second finds no room."""
    tight = settings(tmp_path).model_copy(
        update={"gateway": GatewaySettings(max_requests_in_flight=1, body_timeout_seconds=0.2)}
    )
    async with TestClient(TestServer(create_app(tight, SystemClock()))) as client:
        door = Door(client)
        door.configure(OPEN)
        sent = asyncio.Event()

        async def slow_body() -> AsyncIterator[bytes]:
            yield b'{"events":['
            sent.set()
            await asyncio.sleep(5)

        headers = {"Host": "shop.example", TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
        slow = asyncio.create_task(client.post("/v1/events", data=slow_body(), headers=headers))
        await sent.wait()
        await asyncio.sleep(0.05)
        error = assert_refusal(found := await door.post(LEAD), 503, "unavailable")
        assert "too many" in error["message"]
        assert int(found[2]["Retry-After"]) >= 1
        answer = await slow
        assert answer.status == 400
        assert "in time" in (await answer.json())["error"]["message"]


@pytest.mark.parametrize(
    ("coding", "bomb"),
    [("gzip", gzip.compress(b" " * 50_000_000)), ("br", brotli.compress(b" " * 200_000_000))],
    ids=["gzip", "br"],  # what is packed has the time in it
)
async def test_a_packed_body_is_measured_unpacked(door: Door, coding: str, bomb: bytes) -> None:
    door.configure(OPEN)
    assert len(bomb) < MAX_BODY_BYTES
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = await door.post(bomb, Content_Encoding=coding)
    assert "exceeds" in assert_refusal(found, 400, "invalid_payload")["message"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000, f"{grown} KB were taken to look into it"


async def test_a_connection_that_brings_no_request_is_closed(tmp_path: Path) -> None:
    shutdown = asyncio.Event()
    port = free_port()

    async def serve() -> None:
        application = create_app(settings(tmp_path), SystemClock())
        async with serving(application, "127.0.0.1", port, idle_timeout_seconds=0.3):
            await shutdown.wait()

    served = asyncio.create_task(serve())
    for first_bytes in (b"", b"GET /health HTTP/1.1\r\nHost: shop"):
        reader, writer = await _connected(port)
        writer.write(first_bytes)
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    shutdown.set()
    await served


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    for _ in range(200):
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    raise AssertionError("nobody serves")


@pytest.fixture
async def counting_door(
    tmp_path: Path, valkey: RedisSettings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Door]:
    """A gateway that counts requests, two a minute, but has no Kafka."""
    section = GatewaySettings(delivery_timeout_seconds=0.1, requests_per_minute=2)
    counting = settings(tmp_path).model_copy(update={"redis": valkey, "gateway": section})
    async with TestClient(TestServer(create_app(counting, SystemClock()))) as client:
        yield Door(client)


async def test_too_many_requests_of_one_client(counting_door: Door) -> None:
    counting_door.configure(OPEN)
    for left in ("1", "0"):
        status, _, headers = await counting_door.post(b"{")
        assert status == 400
        assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("2", left)
    for _ in range(2):
        status, body, headers = await counting_door.post(b"{")
        assert_refusal((status, body, headers), 429, "rate_limited")
        assert 55 <= int(headers["Retry-After"]) <= 60
        assert headers["X-RateLimit-Remaining"] == "0"
        assert headers["X-RateLimit-Reset"] == headers["Retry-After"]


async def test_what_is_wrong_is_told_in_the_order_of_the_guards(counting_door: Door) -> None:
    """Host, subscription, token, rate, quota, body: the first that does not hold."""
    spent = OPEN.model_copy(update={"monthly_events": 0})
    counting_door.configure(spent, CLOSED)
    bad: dict[str, str] = {TOKEN_HEADER.replace("-", "_"): "no"}
    assert_refusal(
        await counting_door.post(b"{", Host="no.example", **bad), 404, "domain_not_configured"
    )
    assert_refusal(
        await counting_door.post(b"{", Host="closed.example", **bad), 403, "subscription_inactive"
    )
    assert_refusal(await counting_door.post(b"{", **bad), 401, "invalid_token")
    for _ in range(2):
        status, body, headers = await counting_door.post(b"{")
        assert_refusal((status, body, headers), 429, "request_limit_exceeded")
        assert int(headers["Retry-After"]) > 0
    assert_refusal(await counting_door.post(b"{"), 429, "rate_limited")


async def test_what_is_not_stored_is_not_counted(
    counting_door: Door, redis_client: redis.asyncio.Redis
) -> None:
    destination = Destination(id="dst", platform="meta", account="1", sealed="")
    counting_door.configure(OPEN.model_copy(update={"destinations": (destination,)}))
    assert_refusal(await counting_door.post(LEAD, User_Agent="Mozilla/5.0"), 503, "unavailable")
    (key,) = await redis_client.keys("quota:*")
    assert await redis_client.get(key) == "0"


@pytest.mark.parametrize("body", [b"{", b'{"events":[{}]}', b" " * 2 * MAX_BODY_BYTES])
async def test_a_refusal_leaves_nothing_for_the_collector(door: Door, body: bytes) -> None:
    """A refusal that kept its frames would keep the body until the next look for garbage."""
    door.configure(OPEN)
    await door.post(body)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            assert_refusal(await door.post(body), 400, "invalid_payload")
        assert gc.collect() < 20
    finally:
        gc.enable()
