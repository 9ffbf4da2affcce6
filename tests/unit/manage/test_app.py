"""What every answer of the management API has in common."""

from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from capistream.embedded import free_port
from manage.app import MAX_BODY_BYTES, create_app
from manage.auth_api import ROUTES, LogoutAnswer
from manage.routes import Access, Body, Call, Route
from manage.services import Services
from manage.sessions import COOKIE
from runtime import metrics
from runtime.database import Database
from tests.unit.manage.api import Client, error_of, log_in

SECRET = "canary-0123456789"


async def fail(_call: Call[None, None]) -> LogoutAnswer:
    raise ValueError(SECRET)


class ExactBody(Body):
    number: int | None = None
    switch: bool | None = None


async def take(_call: Call[ExactBody, None]) -> LogoutAnswer:
    return LogoutAnswer()


EXACT = Route("POST", "/v1/exact", "Takes", take, Access.ANYBODY, LogoutAnswer, body=ExactBody)
FAILING = Route("GET", "/v1/failing", "Fails", fail, Access.ANYBODY, LogoutAnswer)


@pytest.fixture
def routes() -> tuple[Route, ...]:
    return (*ROUTES, FAILING, EXACT)


async def test_every_answer_has_its_request_id(client: Client, services: Services) -> None:
    await log_in(client, services, "anna@shop.example")
    seen = set()
    for path, status in (
        ("/v1/auth/me", 200),
        ("/v1/nothing", 404),
        ("/v1/auth/callback", 401),
        ("/v1/auth/login", 405),
        ("/v1/failing", 500),
    ):
        response = await client.get(path)
        body = await response.json()
        assert (response.status, body["success"]) == (status, status == 200)
        assert body["requestId"] == response.headers["X-Request-Id"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        seen.add(body["requestId"])
    assert len(seen) == 5


async def test_another_method_is_named(client: Client) -> None:
    response = await client.get("/v1/auth/login")
    assert (await error_of(response))["code"] == "method_not_allowed"
    assert response.headers["Allow"] == "POST"


async def test_a_failure_of_ours_tells_nothing(client: Client) -> None:
    with capture_logs() as logs:
        response = await client.get("/v1/failing")
    found = await error_of(response)
    assert (found["status"], found["code"]) == (500, "internal_error")
    assert SECRET not in await response.text()
    assert [one["event"] for one in logs] == ["A request failed."]
    assert logs[0]["request_id"] == response.headers["X-Request-Id"]


async def test_a_body_has_its_limit(client: Client) -> None:
    headers = {"Content-Type": "application/json"}
    for size in (MAX_BODY_BYTES + 1, 3 * MAX_BODY_BYTES):
        response = await client.post("/v1/auth/login", data=b" " * size, headers=headers)
        found = await error_of(response)
        assert (found["status"], found["message"]) == (400, "the body is too large")


@pytest.mark.parametrize(
    ("body", "field"),
    [({"number": "1"}, "number"), ({"number": 1.0}, "number"), ({"number": True}, "number"),
     ({"switch": 1}, "switch"), ({"switch": "true"}, "switch"), ({"number": 1, "switch": True}, None)],
)  # fmt: skip
async def test_a_body_is_read_as_it_is_written(
    client: Client, body: dict[str, object], field: str | None
) -> None:
    response = await client.post("/v1/exact", json=body)
    if field is None:
        assert response.status == 200
    else:
        assert (await error_of(response))["field"] == field


async def test_a_database_that_is_away(services: Services) -> None:
    url = f"postgresql+asyncpg://shop:{SECRET}@127.0.0.1:{free_port()}/shop"
    away = replace(services, database=Database(url))
    async with TestClient(TestServer(create_app(away, ROUTES))) as client:
        with capture_logs() as logs:
            response = await client.get("/v1/auth/me", cookies={COOKIE: "a"})
        found = await error_of(response)
        assert (found["status"], found["code"]) == (503, "unavailable")
        assert response.headers["Retry-After"] == "5"
        assert SECRET not in await response.text() + str(logs)
        assert (await client.get("/health")).status == 200
    await away.database.close()


async def test_answers_are_counted(client: Client) -> None:
    def count(route: str, code: str) -> float:
        return float(metrics.HTTP_REQUESTS.labels(route, code)._value.get())

    ok, refused, none = (
        count("/health", "ok"),
        count("/v1/auth/me", "not_authenticated"),
        count("none", "not_found"),
    )
    for path in ("/health", "/v1/auth/me", "/v1/nothing"):
        await client.get(path)
    assert count("/health", "ok") == ok + 1
    assert count("/v1/auth/me", "not_authenticated") == refused + 1
    assert count("none", "not_found") == none + 1
