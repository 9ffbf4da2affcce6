"""Logging in by a magic link, on each of the databases."""

import asyncio
import stat
from collections.abc import Callable
from http.cookies import Morsel

import pytest
from aiohttp import ClientResponse
from sqlalchemy import func, select
from structlog.testing import capture_logs

from manage import sessions
from manage.mail import MAILS_FILE
from manage.services import Services
from manage.tables import LoginLink, Role, Session, User
from runtime.settings import ManageSettings
from tests.unit.manage.api import (
    Client,
    NewClient,
    add_organisation,
    error_of,
    links,
    log_in,
    mails,
)
from tests.unit.runtime.clocks import JumpingClock

ANNA = "anna@shop.example"
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


async def ask(client: Client, email: str = ANNA) -> ClientResponse:
    return await client.post("/v1/auth/login", json={"email": email})


async def link(client: Client, services: Services, email: str = ANNA) -> str:
    assert (await ask(client, email)).status == 200
    return links(services)[-1]


async def count(services: Services, table: type[User | Session | LoginLink]) -> int:
    async with services.database.reading() as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


def cookie_of(response: ClientResponse) -> Morsel[str]:
    return response.cookies[sessions.COOKIE]


async def test_a_link_is_mailed_and_makes_nobody_a_user(client: Client, services: Services) -> None:
    response = await ask(client, " Anna@SHOP.example")
    body = await response.json()
    assert (response.status, body["success"], body["expiresInSeconds"]) == (200, True, 900)
    (mail,) = mails(services)
    assert mail.startswith(f"To: {ANNA}\nSubject: Your login link\n")
    assert f"{services.public_url}/v1/auth/callback?token=" in mail
    mode = stat.S_IMODE((services.settings.data_dir / MAILS_FILE).stat().st_mode)
    assert mode == 0o600
    assert await count(services, User) == 0


async def test_the_answer_is_the_same_for_whoever_is_known(
    new_client: NewClient, services: Services
) -> None:
    await log_in(await new_client(), services, ANNA)
    stranger = await new_client()
    known, unknown = await ask(stranger), await ask(stranger, "new@shop.example")
    bodies = [{**await one.json(), "requestId": ""} for one in (known, unknown)]
    assert bodies[0] == bodies[1]
    names = [set(one.headers) for one in (known, unknown)]
    assert (known.status, names[0]) == (unknown.status, names[1])


@pytest.mark.parametrize(
    "email",
    ["", "anna", "anna@", "@shop.example", "anna@shop", "a b@shop.example", "Anna <anna@shop.example>",
     "anna@shop.example\nBcc: all@shop.example", "x" * 65 + "@shop.example", "änna@shop.example"],
)  # fmt: skip
async def test_what_is_no_address_is_refused(
    client: Client, services: Services, email: str
) -> None:
    found = await error_of(await ask(client, email))
    assert (found["status"], found["code"], found["field"]) == (400, "invalid_payload", "email")
    assert mails(services) == []


async def test_an_address_has_one_spelling(client: Client, services: Services) -> None:
    await ask(client, "Anna@bücher.example")
    assert mails(services)[0].startswith("To: anna@xn--bcher-kva.example\n")


async def test_one_client_does_not_mail_everybody(client: Client, services: Services) -> None:
    asked = [(await ask(client, f"a{number}@shop.example")).status for number in range(61)]
    assert asked == [200] * 60 + [429]
    assert len(mails(services)) == 60
    # Whom a proxy that nobody trusts speaks for is its own claim.
    told = {"X-Forwarded-For": "203.0.113.9"}
    body = {"email": "b@shop.example"}
    assert (await client.post("/v1/auth/login", json=body, headers=told)).status == 429


@pytest.mark.parametrize("is_known", [True, False])
async def test_five_links_an_hour(
    new_client: NewClient, services: Services, is_known: bool
) -> None:
    client = await new_client()
    if is_known:
        await log_in(await new_client(), services, ANNA)
    for spelling in (ANNA, "ANNA@shop.example", ANNA, "anna@SHOP.EXAMPLE", ANNA):
        assert (await ask(client, spelling)).status == 200
    response = await ask(client)
    found = await error_of(response)
    assert (found["status"], found["code"]) == (429, "rate_limited")
    assert 3500 < int(response.headers["Retry-After"]) <= 3600
    assert (await ask(client, "ben@shop.example")).status == 200
    assert len(mails(services)) == 6
    # None of them is worth less for those that were asked for later.
    for path in links(services)[:5]:
        assert (await client.get(path)).status == 200


async def test_a_link_logs_in(client: Client, services: Services, clock: JumpingClock) -> None:
    response = await client.get(await link(client, services))
    body = await response.json()
    assert (response.status, body["user"]["email"]) == (200, ANNA)
    assert (body["organisation"], body["organisations"]) == (None, [])
    me = await client.get("/v1/auth/me")
    told = {**await me.json(), "requestId": body["requestId"]}
    assert (me.status, told) == (200, body)
    async with services.database.reading() as session:
        user = (await session.scalars(select(User))).one()
    assert (user.id, user.last_login_at) == (body["user"]["id"], clock.ms)
    assert user.created_at == body["user"]["createdAt"] == clock.ms


async def test_the_cookie(client: Client, services: Services) -> None:
    response = await client.get(await link(client, services))
    (header,) = response.headers.getall("Set-Cookie")
    value = cookie_of(response).value
    assert len(value) == 43
    assert sorted(header.split("; ")) == [
        "HttpOnly",
        "Max-Age=2592000",
        "Path=/",
        "SameSite=Lax",
        f"sc_session={value}",
    ]
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_link_works_once(new_client: NewClient, services: Services) -> None:
    client, other = await new_client(), await new_client()
    path = await link(client, services)
    assert (await client.head(path)).status == 405  # a look at it is no use of it
    assert (await client.get(path)).status == 200
    response = await other.get(path)
    assert (await error_of(response))["code"] == "invalid_token"
    assert "Set-Cookie" not in response.headers
    assert await count(services, Session) == 1


async def test_wrong_used_and_old_links_are_told_apart_by_nobody(
    client: Client, services: Services, clock: JumpingClock
) -> None:
    used, late = await link(client, services), await link(client, services)
    await client.get(used)
    clock.ms += 15 * MINUTE_MS
    wrong = ["/v1/auth/callback", "/v1/auth/callback?token=wrong", "/v1/auth/callback?token=%C3%A9",
             "/v1/auth/callback?invite=wrong", used, late]  # fmt: skip
    answers = [await error_of(await client.get(path)) for path in wrong]
    assert all(one == answers[0] for one in answers)
    assert (answers[0]["status"], answers[0]["code"]) == (401, "invalid_token")


async def test_a_link_works_until_its_time_is_over(
    client: Client, services: Services, clock: JumpingClock
) -> None:
    path = await link(client, services)
    clock.ms += 15 * MINUTE_MS - 1
    assert (await client.get(path)).status == 200


async def test_of_two_who_open_a_link_at_once_one_is_logged_in(
    new_client: NewClient, services: Services
) -> None:
    clients = [await new_client() for _ in range(8)]
    path = await link(clients[0], services)
    answers = await asyncio.gather(*(one.get(path) for one in clients))
    assert sorted(one.status for one in answers) == [200] + [401] * 7
    assert await count(services, Session) == 1


async def test_two_links_of_somebody_new_opened_at_once_make_one_user(
    new_client: NewClient, services: Services
) -> None:
    clients = [await new_client() for _ in range(5)]
    paths = [await link(one, services) for one in clients]
    answers = await asyncio.gather(
        *(one.get(path) for one, path in zip(clients, paths, strict=True))
    )
    assert [one.status for one in answers] == [200] * 5
    assert await count(services, User) == 1


async def test_each_login_has_a_session_of_its_own(
    new_client: NewClient, services: Services
) -> None:
    client, phone = await new_client(), await new_client()
    first = cookie_of(await client.get(await link(client, services))).value
    await phone.get(await link(phone, services))
    second = cookie_of(await client.get(await link(client, services))).value
    assert first != second
    # What the browser had is worthless, what other browsers have is not.
    old = await new_client()
    assert (await old.get("/v1/auth/me", cookies={sessions.COOKIE: first})).status == 401
    assert (await old.get("/v1/auth/me", cookies={sessions.COOKIE: second})).status == 200
    assert (await phone.get("/v1/auth/me")).status == 200


async def test_the_organisation_joined_first_is_the_current_one_after_a_login(
    new_client: NewClient, services: Services, clock: JumpingClock
) -> None:
    ids = []
    for name in ("First", "Second"):
        organisation_id = await add_organisation(services, name)
        clock.ms += 1
        await log_in(
            await new_client(), services, ANNA, organisation_id=organisation_id, role=Role.MEMBER
        )
        ids.append(organisation_id)
    client = await new_client()
    body = await (await client.get(await link(client, services))).json()
    assert body["organisation"]["id"] == ids[0]
    assert [one["id"] for one in body["organisations"]] == ids


async def test_logging_out(new_client: NewClient, services: Services) -> None:
    client, other = await new_client(), await new_client()
    person = await log_in(client, services, ANNA)
    await log_in(other, services, ANNA)
    response = await client.post("/v1/auth/logout")
    assert response.status == 200
    assert (cookie_of(response).value, cookie_of(response)["max-age"]) == ("", "0")
    kept = {sessions.COOKIE: person.cookie}
    assert (await client.get("/v1/auth/me", cookies=kept)).status == 401
    assert (await other.get("/v1/auth/me")).status == 200
    assert (await client.post("/v1/auth/logout")).status == 200  # there is nothing left to end


async def test_nobody_is_logged_in_by_what_is_no_session(client: Client) -> None:
    for value in ("", "wrong", "a" * 5000):
        response = await client.get("/v1/auth/me", cookies={sessions.COOKIE: value})
        assert (await error_of(response))["code"] == "not_authenticated"


async def test_a_session_lives_for_thirty_days_since_it_was_used(
    client: Client, services: Services, clock: JumpingClock
) -> None:
    person = await log_in(client, services, ANNA)
    clock.ms += HOUR_MS - 1
    assert "Set-Cookie" not in (await client.get("/v1/auth/me")).headers
    clock.ms += 1
    (header,) = (await client.get("/v1/auth/me")).headers.getall("Set-Cookie")
    assert f"sc_session={person.cookie}" in header
    assert "Max-Age=2592000" in header
    assert "Set-Cookie" not in (await client.get("/v1/auth/me")).headers
    clock.ms += 30 * DAY_MS - 1
    assert (await client.get("/v1/auth/me")).status == 200
    clock.ms += 30 * DAY_MS
    assert (await client.get("/v1/auth/me")).status == 401


async def test_what_is_over_is_swept(
    client: Client, services: Services, clock: JumpingClock
) -> None:
    await log_in(client, services, ANNA)
    await ask(client)
    clock.ms += 15 * MINUTE_MS
    await ask(client)
    await sessions.sweep(services)
    assert (await count(services, Session), await count(services, LoginLink)) == (1, 1)
    clock.ms += 30 * DAY_MS
    await sessions.sweep(services)
    assert (await count(services, Session), await count(services, LoginLink)) == (0, 0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:8090.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_pages_of_others_change_nothing(
    client: Client, services: Services, headers: dict[str, str]
) -> None:
    await log_in(client, services, ANNA)
    for path, body in (("/v1/auth/login", {"email": ANNA}), ("/v1/auth/logout", None)):
        response = await client.post(path, json=body, headers=headers)
        assert (await error_of(response))["code"] == "origin_not_allowed"
    assert mails(services) == []
    assert (await client.get("/v1/auth/me", headers=headers)).status == 200


async def test_pages_of_ours_do(client: Client, services: Services) -> None:
    headers = {"Origin": services.public_url, "Sec-Fetch-Site": "same-origin"}
    response = await client.post("/v1/auth/login", json={"email": ANNA}, headers=headers)
    assert response.status == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", None),
        (b"[]", None),
        (b"{}", "email"),
        (b'{"email": 5}', "email"),
        (b'{"email": null}', "email"),
        (b'{"email": "anna@shop.example", "more": 1}', "more"),
        (b'{"email": "anna\\u0000@shop.example"}', None),
        (b'{"email": "anna@shop.example", "a\\u0000": 1}', None),
        (b"\xff", None),
    ],
)
async def test_a_malformed_body_is_refused(client: Client, body: bytes, field: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/auth/login", data=body, headers=headers)
    found = await error_of(response)
    assert (found["status"], found["code"]) == (400, "invalid_payload")
    assert found.get("field") == field


async def test_a_form_is_no_body(client: Client) -> None:
    response = await client.post("/v1/auth/login", data={"email": ANNA})
    assert (await error_of(response))["status"] == 400


@pytest.mark.parametrize(
    "query", ["token=a&token=b", "token=%00", "more=1", "token=", "token=" + "a" * 201]
)
async def test_a_malformed_query_is_refused(client: Client, query: str) -> None:
    response = await client.get(f"/v1/auth/callback?{query}")
    assert (await error_of(response))["code"] == "invalid_payload"


async def test_no_token_is_readable_at_rest_or_logged(
    client: Client, services: Services, dump: Callable[[], bytes]
) -> None:
    with capture_logs() as logs:
        path = await link(client, services)
        cookie = cookie_of(await client.get(path)).value
        await client.get(path)
        await client.get("/v1/auth/me")
    token = path.partition("=")[2]
    kept = dump()
    assert ANNA.encode() in kept  # it is searched where they would be
    for secret in (token, cookie):
        assert secret.encode() not in kept
        assert secret not in str(logs)


class TestRequestsOfASession:
    """Few, so that a test reaches them."""

    @pytest.fixture
    def manage_settings(self) -> ManageSettings:
        return ManageSettings(development=True, requests_per_minute=3)

    async def test_each_session_has_its_own(
        self, new_client: NewClient, services: Services
    ) -> None:
        client, other = await new_client(), await new_client()
        await log_in(client, services, ANNA)
        await log_in(other, services, ANNA)
        for left in (2, 1, 0):
            response = await client.get("/v1/auth/me")
            assert response.status == 200
            assert response.headers["X-RateLimit-Limit"] == "3"
            assert response.headers["X-RateLimit-Remaining"] == str(left)
            assert 0 < int(response.headers["X-RateLimit-Reset"]) <= 60
        response = await client.get("/v1/auth/me")
        assert (await error_of(response))["code"] == "rate_limited"
        assert 0 < int(response.headers["Retry-After"]) <= 60
        assert response.headers["X-RateLimit-Remaining"] == "0"
        # Also of a route that is not open to them.
        assert (await client.get("/v1/org/actions")).status == 429
        assert (await other.get("/v1/auth/me")).status == 200
        # To log out is always possible, and nobody counts those who are not logged in.
        assert (await client.post("/v1/auth/logout")).status == 200
        for _ in range(4):
            assert (await client.get("/v1/auth/me")).status == 401
