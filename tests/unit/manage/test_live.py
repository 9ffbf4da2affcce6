"""The live stream: who is shown what, for how long, and what becomes of those who are slow."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from sqlalchemy import delete, text, update

from manage import sessions
from manage.events_api import HEARTBEAT_SECONDS
from manage.events_api import ROUTES as EVENTS
from manage.live import QUEUE_OUTCOMES, STREAMS_PER_SESSION, LiveQuery, Subscription, logged
from manage.routes import Route
from manage.services import Services
from manage.tables import Membership, Role, Session
from schemas.delivery import Delivery
from schemas.event_log import LoggedDelivery, State
from schemas.outcome import Outcome, OutcomeKind
from tests.sse import Sent, blocks, next_of, until_end
from tests.unit.manage.api import (
    Client,
    NewClient,
    Person,
    add_organisation,
    error_of,
    log_in,
    log_in_owner,
)
from tests.unit.runtime.clocks import JumpingClock

PATH = "/v1/org/events/live"


def outcome(**changes: Any) -> Outcome:
    """An outcome of some delivery."""
    told: dict[str, Any] = {
        "outcomeId": "o1",
        "domainId": "dom_1",
        "destinationId": "dst_1",
        "platform": "meta",
        "eventId": "e1",
        "eventName": "Purchase",
        "eventTime": 1_767_225_600_000,
        "outcome": "delivered",
        "source": "raw-events-0-1",
        "receivedAt": 1_767_225_600_100,
        "at": 1_767_225_601_000,
    }
    return Outcome.model_validate(told | changes)


def shown(subscription: Subscription) -> list[LoggedDelivery]:
    return subscription.take()[1]


@pytest.mark.parametrize(
    ("query", "change"),
    [
        ({"domainId": "dom_1"}, {"domainId": "dom_2"}),
        ({"destinationId": "dst_1"}, {"destinationId": "dst_2"}),
        ({"destinationId": "dst_1"}, {"destinationId": None}),
        ({"platform": "meta"}, {"platform": "tiktok"}),
        ({"eventName": "Purchase"}, {"eventName": "Lead"}),
        ({"outcome": "delivered"}, {"outcome": "skipped"}),
    ],
)
def test_a_filter_shows_what_it_names(query: dict[str, Any], change: dict[str, Any]) -> None:
    subscription = Subscription({"dom_1", "dom_2"}, LiveQuery.model_validate(query))
    subscription.offer(logged(outcome(**change)))
    assert shown(subscription) == []
    subscription.offer(logged(outcome()))
    assert [one.event_id for one in shown(subscription)] == ["e1"]


def test_a_slow_client_loses_the_oldest_and_is_told_how_many() -> None:
    subscription = Subscription({"dom_1"}, LiveQuery())
    for number in range(QUEUE_OUTCOMES + 3):
        subscription.offer(logged(outcome(eventId=f"e{number}")))
    lost, told = subscription.take()
    assert lost == 3
    assert [one.event_id for one in told] == [f"e{n}" for n in range(3, QUEUE_OUTCOMES + 3)]
    subscription.offer(logged(outcome(eventId="later")))
    assert [one.event_id for one in shown(subscription)] == ["later"]


@pytest.mark.parametrize("replay", [None, "rpl_1"])
@pytest.mark.parametrize("kind", OutcomeKind)
def test_every_outcome_of_a_delivery_is_shown_under_its_one_id(
    kind: OutcomeKind, replay: str | None
) -> None:
    delivery = Delivery(
        domain_id="dom_1",
        destination_id="dst_1",
        platform="meta",
        event_id="e1",
        event_name="Purchase",
        event_time=1,
        received_at=2,
        source="replay-events-0-7",
        attempt=3,
        replay=replay,
    )
    record = delivery.outcome_record(kind, at=4)
    told = logged(Outcome.model_validate_json(record.value or b""))
    assert told.delivery_id == delivery.name
    assert told.outcome is State(kind)


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """One database is enough: nothing here depends on which."""
    path = shutil.copyfile(sqlite_template, tmp_path / "test.db")
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """What is served."""
    return EVENTS


@pytest.fixture
async def owner(client: Client, services: Services) -> Person:
    """Logged in at ``client``."""
    return await log_in_owner(client, services)


@pytest.fixture
async def stream(client: Client, owner: Person) -> AsyncIterator[ClientResponse]:
    """A stream that is open."""
    async with client.get(PATH) as response:
        yield response


async def is_over(response: ClientResponse, clock: JumpingClock) -> list[Sent]:
    """What comes until a stream ends, which it does at its next look at the session."""
    clock.ms += round(HEARTBEAT_SECONDS * 1000)
    return await until_end(blocks(response))


async def test_it_is_a_stream_that_nobody_keeps(stream: ClientResponse) -> None:
    assert stream.status == 200
    assert stream.content_type == "text/event-stream"
    assert stream.headers["Cache-Control"] == "no-store"
    assert stream.headers["X-Request-Id"]
    assert stream.headers["X-RateLimit-Limit"] == "10000"


async def test_a_silent_stream_says_that_it_is_there(
    stream: ClientResponse, clock: JumpingClock
) -> None:
    sent = blocks(stream)
    for _ in range(2):
        clock.ms += round(HEARTBEAT_SECONDS * 1000)
        await next_of(sent, "comment")


async def test_it_ends_with_the_session(
    stream: ClientResponse, services: Services, clock: JumpingClock
) -> None:
    async with services.database.changing.begin() as session:
        await session.execute(delete(Session))
    assert await is_over(stream, clock) == [Sent("end", {})]


async def test_it_ends_with_the_membership(
    stream: ClientResponse, owner: Person, services: Services, clock: JumpingClock
) -> None:
    async with services.database.changing.begin() as session:
        await session.execute(delete(Membership).where(Membership.user_id == owner.user_id))
    assert await is_over(stream, clock) == [Sent("end", {})]


async def test_it_ends_when_another_organisation_is_the_current_one(
    stream: ClientResponse, owner: Person, services: Services, clock: JumpingClock
) -> None:
    other = await add_organisation(services)
    async with services.database.changing.begin() as session:
        session.add(
            Membership(organisation_id=other, user_id=owner.user_id, role=Role.ADMIN, created_at=0)
        )
        await session.execute(update(Session).values(organisation_id=other))
    assert await is_over(stream, clock) == [Sent("end", {})]


async def test_it_ends_without_a_word_when_the_database_is_away(
    stream: ClientResponse, services: Services, clock: JumpingClock
) -> None:
    async with services.database.changing.begin() as session:
        await session.execute(text("ALTER TABLE sessions RENAME TO away"))
    assert await is_over(stream, clock) == []


async def test_it_ends_with_the_process(stream: ClientResponse, services: Services) -> None:
    await services.live.close()
    assert await until_end(blocks(stream), within=2) == []


async def test_nothing_is_opened_while_the_process_ends(
    client: Client, owner: Person, services: Services
) -> None:
    await services.live.close()
    async with client.get(PATH) as response:
        assert (await error_of(response))["code"] == "unavailable"
        assert response.headers["Retry-After"]


async def test_a_session_has_so_many_streams_and_no_more(
    client: Client, owner: Person, new_client: NewClient, services: Services
) -> None:
    streams = [await client.get(PATH) for _ in range(STREAMS_PER_SESSION)]
    assert {response.status for response in streams} == {200}
    async with client.get(PATH) as response:
        assert (await error_of(response))["code"] == "rate_limited"
        assert response.headers["Retry-After"]
    another = await new_client()
    await log_in(
        another,
        services,
        "other@shop.example",
        organisation_id=owner.organisation_id,
        role=Role.MEMBER,
    )
    async with another.get(PATH) as response:
        assert response.status == 200
    streams.pop().close()
    async with asyncio.timeout(5):
        while (again := await client.get(PATH)).status != 200:
            await asyncio.sleep(0.1)
    for response in (*streams, again):
        response.close()


async def test_nobody_else_is_let_in(client: Client) -> None:
    async with client.get(PATH) as response:
        assert (await error_of(response))["status"] == 401


@pytest.mark.parametrize("query", ["outcome=lost", "limit=3", "domainId="])
async def test_a_wrong_filter_is_refused(client: Client, owner: Person, query: str) -> None:
    async with client.get(f"{PATH}?{query}") as response:
        error = await error_of(response)
    assert (error["code"], error["field"]) == ("invalid_payload", query.partition("=")[0])


async def test_the_token_is_what_proves_it(client: Client, owner: Person) -> None:
    client.session.cookie_jar.clear()
    async with client.get(PATH, cookies={sessions.COOKIE: "x" * 43}) as response:
        assert response.status == 401
