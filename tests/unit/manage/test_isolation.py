"""Every route against everybody: no session, each role, pages of others, and other tenants' ids.

Written over the table of routes, so that a new route is in it by itself.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import orjson
import pytest

from audit.log import SqlEventLog
from manage import sessions
from manage.api import ROUTES
from manage.openapi import document
from manage.routes import Access, Route
from manage.services import Services
from manage.tables import Role
from runtime.database import Database
from schemas.outcome import OutcomeKind
from tests.unit.manage.api import Client
from tests.unit.manage.happened import Happening, open_log
from tests.unit.manage.tenants import CANARY, Tenant, add_tenant, belongings, set_role

DOCUMENT: Final = document(ROUTES)
MISSING: Final = "missing_3f9c2a41d0e87b65"
PLATFORM: Final = {"platform": "meta"}
"""Parts of paths that name nothing of anybody's."""
RANKS: Final = {
    None: Access.USER,
    Role.MEMBER: Access.MEMBER,
    Role.ADMIN: Access.ADMIN,
    Role.OWNER: Access.OWNER,
}
NEEDED: Final = {"/v1/org/members/{user_id}": Access.ADMIN}
"""More than the table says, where it is about others than oneself."""
CHANGING: Final = [route for route in ROUTES if route.method != "GET" and not route.bearer]


class Said(NamedTuple):
    """What a call came to."""

    status: int
    code: str | None
    text: str


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """All of them."""
    return ROUTES


@pytest.fixture
async def event_log(database: Database) -> SqlEventLog:
    """A real one."""
    return await open_log(database)


@pytest.fixture
async def ours(services: Services) -> Tenant:
    """The caller's organisation."""
    return await with_events(services, "ours")


@pytest.fixture
async def theirs(services: Services) -> Tenant:
    """Another one."""
    return await with_events(services, "theirs")


async def with_events(services: Services, name: str) -> Tenant:
    """A tenant, and what happened to two of its events."""
    tenant = await add_tenant(services, name)
    happening = Happening(
        services.database,
        tenant.domain_id,
        tenant.destination_id,
        at=services.clock.now_ms() - 3_600_000,
    )
    for event_id in (tenant.event_id, f"another-{tenant.event_id}"):
        source = await happening.accepted(event_id, orderId=tenant.order_id)
        told: dict[str, Any] = {
            "reason": "refused_by_platform",
            "detail": f"Said of {name}{CANARY}.",
        }
        await happening.became(event_id, source, OutcomeKind.REJECTED, **told)
    return tenant


async def cookie_of(services: Services, tenant: Tenant) -> str:
    """A new session of the tenant's member: some routes end the one that they are called with."""
    async with services.database.changing.begin() as session:
        return await sessions.start(session, tenant.user_id, tenant.org_id, services.clock.now_ms())


def names_in(route: Route) -> list[str]:
    """Of the ids in its path."""
    return [name for name in re.findall(r"{(\w+)}", route.path) if name not in PLATFORM]


def example_of(route: Route) -> dict[str, Any]:
    """A body that is right."""
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    body: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["example"]
    return body


async def call(
    client: Client,
    route: Route,
    ids: Mapping[str, str] | None = None,
    *,
    cookie: str | None = None,
    query: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Said:
    """Call a route as a browser would; what no id is given for is missing."""
    known = dict.fromkeys(names_in(route), MISSING) | dict(ids or {}) | PLATFORM
    path = route.path.format(**{name: quote(value, safe="") for name, value in known.items()})
    sent = dict(headers or {})
    if cookie is not None:
        sent["Cookie"] = f"{sessions.COOKIE}={cookie}"
    data = None
    if route.body is not None:
        sent["Content-Type"] = "application/json"
        data = orjson.dumps(example_of(route) if body is None else body)
    client.session.cookie_jar.clear()
    async with client.request(route.method, path, params=query, data=data, headers=sent) as answer:
        if answer.content_type == "text/event-stream":
            answer.close()
            return Said(answer.status, None, "")
        text = await answer.text()
    return Said(answer.status, orjson.loads(text).get("error", {}).get("code"), text)


def wrong(route: Route, said: Said, **more: object) -> str:
    """One line of a list that should be empty."""
    told = " ".join(f"{name}={value}" for name, value in more.items())
    return f"{route.method} {route.path} {told}: {said.status} {said.text[:200]}"


async def test_without_a_session_only_what_is_open_is_open(client: Client) -> None:
    found = []
    for route in ROUTES:
        said = await call(client, route)
        if route.bearer:
            expected = said[:2] == (401, "invalid_token")
        elif route.access is Access.ANYBODY:
            expected = said.code not in ("not_authenticated", "forbidden")
        else:
            expected = said[:2] == (401, "not_authenticated")
        if not expected:
            found.append(wrong(route, said))
    assert found == []


@pytest.mark.parametrize("role", RANKS)
async def test_a_role_may_what_the_table_says_and_no_more(
    client: Client, services: Services, ours: Tenant, role: Role | None
) -> None:
    await set_role(services.database, ours, role)
    found = []
    for route in ROUTES:
        if route.bearer:
            continue
        said = await call(client, route, cookie=await cookie_of(services, ours))
        is_refused = said[:2] == (403, "forbidden")
        if (
            is_refused is (RANKS[role] >= NEEDED.get(route.path, route.access))
            or said.status >= 500
            or said.code == "not_authenticated"
        ):
            found.append(wrong(route, said))
    assert found == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_pages_of_others_change_nothing(
    client: Client, services: Services, ours: Tenant, headers: dict[str, str]
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    before = await belongings(services, ours)
    cookie = await cookie_of(services, ours)
    found = []
    for route in CHANGING:
        said = await call(client, route, ours.ids, cookie=cookie, headers=headers)
        if said[:2] != (403, "origin_not_allowed"):
            found.append(wrong(route, said))
    assert found == []
    assert await belongings(services, ours) == before


async def test_our_own_pages_may_change_something(
    client: Client, services: Services, ours: Tenant
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    headers = {"Origin": services.public_url, "Sec-Fetch-Site": "same-origin"}
    found = []
    for route in CHANGING:
        cookie = await cookie_of(services, ours)
        said = await call(client, route, cookie=cookie, headers=headers)
        if said.code == "origin_not_allowed":
            found.append(wrong(route, said))
    assert found == []


def paths_to(route: Route, ours: Tenant, theirs: Tenant) -> Iterator[dict[str, str]]:
    """The ids of every path that leads to what is theirs: all of it theirs, and each part of it by
    itself, any id of theirs in the place of ours."""
    names = names_in(route)
    if names:
        yield {name: theirs.ids[name] for name in names}
    for name, stolen in itertools.product(names, theirs.ids.values()):
        yield {each: ours.ids[each] for each in names} | {name: stolen}


async def test_the_ids_of_others_lead_nowhere(
    client: Client, services: Services, ours: Tenant, theirs: Tenant
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    before = await belongings(services, theirs)
    found = []
    tried = 0
    for route in ROUTES:
        for ids in paths_to(route, ours, theirs):
            said = await call(client, route, ids, cookie=await cookie_of(services, ours))
            tried += 1
            if said.status != 404 or f"theirs{CANARY}" in said.text:
                found.append(wrong(route, said, **ids))
    assert found == []
    assert tried > len(ROUTES)
    assert await belongings(services, theirs) == before


async def test_the_same_ids_lead_their_owner_there(
    client: Client, services: Services, theirs: Tenant
) -> None:
    await set_role(services.database, theirs, Role.OWNER)
    found = []
    for route in ROUTES:
        if route.method == "GET" and names_in(route):
            cookie = await cookie_of(services, theirs)
            said = await call(client, route, theirs.ids, cookie=cookie)
            if said.status != 200 or f"theirs{CANARY}" not in said.text:
                found.append(wrong(route, said))
    assert found == []


def texts_of(schema: Mapping[str, Any]) -> bool:
    """Whether a text may stand there."""
    kinds = [schema, *schema.get("anyOf", ())]
    return any(kind.get("type") == "string" for kind in kinds)


async def test_filters_show_nothing_of_others(
    client: Client, services: Services, ours: Tenant, theirs: Tenant
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    await set_role(services.database, theirs, Role.OWNER)
    stolen = [*theirs.ids.values(), theirs.order_id]
    stolen += await cursors_of(client, services, theirs)
    found = []
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or not texts_of(parameter["schema"]):
                continue
            for value in stolen:
                cookie = await cookie_of(services, ours)
                query = {parameter["name"]: value}
                said = await call(client, route, ours.ids, cookie=cookie, query=query)
                hints = [one for one in theirs.ids.values() if one in said.text]
                is_open = route.access is Access.ANYBODY
                allowed = (400, 401) if is_open else (200, 400)
                if said.status not in allowed or hints or f"theirs{CANARY}" in said.text:
                    found.append(wrong(route, said, **query))
    assert found == []


async def cursors_of(client: Client, services: Services, tenant: Tenant) -> list[str]:
    """One of each list that has pages."""
    found = []
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        if "cursor" in {parameter["name"] for parameter in operation.get("parameters", ())}:
            cookie = await cookie_of(services, tenant)
            said = await call(client, route, cookie=cookie, query={"limit": "1"})
            found.append(orjson.loads(said.text)["nextCursor"])
    assert len(found) > 1
    assert None not in found
    return found


async def test_the_ids_of_others_in_a_body_reach_nothing_of_theirs(
    client: Client, services: Services, ours: Tenant, theirs: Tenant
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    before = await belongings(services, theirs)
    found = []
    stolen = [theirs.org_id, theirs.user_id, theirs.invite_id]
    stolen += [theirs.domain_id, theirs.destination_id]
    for route in ROUTES:
        if route.body is None:
            continue
        body = example_of(route)
        for name, value in itertools.product(body, stolen):
            if not isinstance(body[name], str):
                continue
            bearer = {"Authorization": f"Bearer {ours.sync_token}"} if route.bearer else {}
            said = await call(
                client,
                route,
                ours.ids,
                cookie=None if route.bearer else await cookie_of(services, ours),
                body=body | {name: value},
                headers=bearer,
            )
            if said.status >= 500 or f"theirs{CANARY}" in said.text:
                found.append(wrong(route, said, **{name: value}))
    assert found == []
    assert await belongings(services, theirs) == before


async def test_a_text_that_no_database_keeps_is_refused_everywhere(
    client: Client, services: Services, ours: Tenant
) -> None:
    await set_role(services.database, ours, Role.OWNER)
    found = []
    for route in ROUTES:
        if route.bearer:
            continue
        nul: list[dict[str, Any]] = [{"ids": {name: "a\0b"}} for name in names_in(route)]
        if route.query is not None:
            fields = route.query.model_json_schema()["properties"]
            nul += [{"query": {name: "a\0b"}} for name in fields]
        if route.body is not None:
            nul += [{"body": {name: "a\0b"}} for name in example_of(route)]
        for change in nul:
            said = await call(client, route, cookie=await cookie_of(services, ours), **change)
            if said.status not in (400, 404):
                found.append(wrong(route, said, **change))
    assert found == []
