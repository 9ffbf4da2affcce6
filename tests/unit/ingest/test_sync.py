"""The doors of a shop's server, as far as they need no Kafka."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis.asyncio
from aiohttp.test_utils import TestClient, TestServer

from ingest.gateway import create_app
from runtime.clock import SystemClock
from runtime.dispatches import Dispatches
from runtime.settings import RedisSettings
from runtime.vault import hash_sync_token
from schemas.outcome import Outcome, OutcomeKind, Reason
from tests.unit.ingest.test_gateway import CLOSED, LEAD, OPEN, Door, assert_refusal, settings

SYNC_TOKEN = "5f" * 24
SHOP = OPEN.model_copy(update={"sync_token_sha256": hash_sync_token(SYNC_TOKEN)})
PURCHASES = "/v1/sync/purchase-events"
STATUS = "/v1/sync/dispatch-status"


@pytest.fixture
async def shop(
    tmp_path: Path, valkey: RedisSettings, redis_client: redis.asyncio.Redis
) -> AsyncIterator[Door]:
    with_redis = settings(tmp_path).model_copy(update={"redis": valkey})
    async with TestClient(TestServer(create_app(with_redis, SystemClock()))) as client:
        door = Door(client)
        door.configure(SHOP, CLOSED)
        yield door


async def post(
    door: Door, path: str, body: Any, token: str | None = SYNC_TOKEN, host: str = "shop.example"
) -> tuple[int, Any, Any]:
    headers = {"Host": host, "Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with door.client.post(path, data=data, headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers


def outcome(**changes: Any) -> Outcome:
    return Outcome.model_validate(
        {
            "outcomeId": "o",
            "domainId": "dom_1",
            "destinationId": "dst_1",
            "platform": "meta",
            "eventId": "e-1",
            "eventName": "Purchase",
            "eventTime": 1,
            "outcome": OutcomeKind.DELIVERED,
            "source": "raw-events-0-0",
            "dispatchKey": "purchase:1",
            "receivedAt": 1,
            "at": 7,
        }
        | changes
    )


@pytest.mark.parametrize("path", [PURCHASES, STATUS])
async def test_only_the_sync_token_opens(shop: Door, path: str) -> None:
    domain_token = "0" * 64
    for token in (None, "", domain_token, SYNC_TOKEN[:-1]):
        assert_refusal(await post(shop, path, {}, token), 401, "invalid_token")
    assert_refusal(await post(shop, path, {}, host="closed.example"), 403, "subscription_inactive")
    assert_refusal(
        await post(shop, path, {}, token="f" * 48, host="no.example"), 404, "domain_not_configured"
    )


async def test_at_an_address_of_the_operators_the_token_tells_the_shop(shop: Door) -> None:
    status, body, _ = await post(shop, STATUS, {"dispatchKey": "k"}, host="manage.example")
    assert (status, body["dispatched"]) == (200, False)


@pytest.mark.parametrize("key", [None, "", " ", 5, "x" * 201, ["k"]])
@pytest.mark.parametrize("path", [PURCHASES, STATUS])
async def test_a_dispatch_needs_a_key(shop: Door, path: str, key: Any) -> None:
    body = orjson.loads(LEAD) | {"dispatchKey": key}
    error = assert_refusal(await post(shop, path, body), 400, "invalid_payload")
    assert error["field"] == "dispatchKey"


async def test_the_body_is_judged_like_any_other(shop: Door) -> None:
    body = {"dispatchKey": "purchase:1", "events": [{"eventName": "Purchase"}]}
    error = assert_refusal(await post(shop, PURCHASES, body), 400, "invalid_payload")
    assert error["field"] == "events[0].eventTime"


async def test_a_key_that_was_accepted_is_not_taken_again(
    shop: Door, redis_client: redis.asyncio.Redis
) -> None:
    """Kafka is not there, and nobody asks for it."""
    body = orjson.loads(LEAD) | {"dispatchKey": "purchase:1"}
    assert_refusal(await post(shop, PURCHASES, body), 503, "unavailable")
    await Dispatches(redis_client).accept("dom_1", "purchase:1", 1, ["e-1"])
    status, told, _ = await post(shop, PURCHASES, body)
    assert (status, told["alreadyAccepted"], told["eventIds"]) == (200, True, ["e-1"])
    assert await redis_client.keys("quota:*") == []


async def test_outcomes_without_the_mark_do_not_stand_for_all_events(
    shop: Door, redis_client: redis.asyncio.Redis
) -> None:
    await Dispatches(redis_client).note([outcome()])
    body = orjson.loads(LEAD) | {"dispatchKey": "purchase:1"}
    assert_refusal(await post(shop, PURCHASES, body), 503, "unavailable")
    _, told, _ = await post(shop, STATUS, {"dispatchKey": "purchase:1"})
    assert (told["dispatched"], told["acceptedAt"]) == (True, None)


async def test_what_became_of_it(shop: Door, redis_client: redis.asyncio.Redis) -> None:
    dispatches = Dispatches(redis_client)
    await dispatches.accept("dom_1", "purchase:1", 5, ["e-1"])
    _, told, _ = await post(shop, STATUS, {"dispatchKey": "purchase:1"})
    assert (told["dispatched"], told["acceptedAt"]) == (True, 5)
    assert (told["eventIds"], told["outcomes"]) == (["e-1"], [])
    await dispatches.note([outcome(outcome=OutcomeKind.SKIPPED, reason=Reason.TOO_OLD)])
    _, told, _ = await post(shop, STATUS, {"dispatchKey": "purchase:1"})
    assert told["outcomes"] == [
        {
            "eventId": "e-1",
            "destinationId": "dst_1",
            "platform": "meta",
            "outcome": "skipped",
            "reason": "too_old",
            "code": None,
            "at": 7,
        }
    ]
    _, other, _ = await post(shop, STATUS, {"dispatchKey": "purchase:2"})
    assert (other["dispatched"], other["outcomes"]) == (False, [])


async def test_without_redis_nobody_can_tell(tmp_path: Path) -> None:
    async with TestClient(TestServer(create_app(settings(tmp_path), SystemClock()))) as client:
        door = Door(client)
        door.configure(SHOP)
        found = await post(door, STATUS, {"dispatchKey": "purchase:1"})
        assert_refusal(found, 503, "unavailable")
