"""What a shop's own server pushes, and what it is told, on each of the databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Final

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from sqlalchemy import select

from manage.domain_api import ROUTES as DOMAINS
from manage.routes import Route
from manage.services import Services
from manage.store import ById, NewDomain
from manage.sync_api import ROUTES as SYNC
from manage.tables import AdminAction, ConfigStatus, Role
from runtime.settings import ManageSettings, Settings
from tests.unit.manage.api import (
    Client,
    add_organisation,
    error_of,
    log_in,
    use,
)
from tests.unit.manage.name_server import NameServer, running_name_server
from tests.unit.manage.platform_sandbox import PlatformSandbox, running_sandbox
from tests.unit.runtime.clocks import JumpingClock

HOST: Final = "ssp.shop.example"
TARGET: Final = "proxy.capistream.example"
TOKEN: Final = "EAAcanary0123456789abcdef"
PUSH: Final[list[dict[str, Any]]] = [
    {"type": "facebook", "pixel_id": "1", "access_token": TOKEN, "test_event_code": "TEST1"},
    {"type": "tiktok", "pixel_id": "C1", "access_token": TOKEN, "test_event_code": "TEST2"},
    {"type": "pinterest", "tag_id": "2", "ad_account_id": "3", "access_token": TOKEN},
    {"type": "snapchat", "pixel_id": "u", "access_token": TOKEN, "advanced_matching": False},
    {"type": "reddit", "pixel_id": "a2_x", "access_token": TOKEN, "test_event_code": "t2"},
    {"type": "snackvideo", "pixel_id": "9", "access_token": TOKEN},
]
PLATFORMS: Final = ["meta", "tiktok", "pinterest", "snapchat", "reddit", "snackvideo"]


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    """One whose zone is empty."""
    async with running_name_server() as server:
        yield server


@pytest.fixture
def manage_settings(name_server: NameServer) -> ManageSettings:
    """Shops may lie on loopback."""
    return ManageSettings(
        development=True,
        cname_target=TARGET,
        dns_resolver=name_server.address,
        callback_networks=(ip_network("127.0.0.0/8"),),
    )


@pytest.fixture
async def sandbox(clock: JumpingClock) -> AsyncIterator[PlatformSandbox]:
    """In the place of the platforms."""
    async with running_sandbox(clock) as running:
        yield running


@pytest.fixture
def settings(settings: Settings, sandbox: PlatformSandbox) -> Settings:
    """With the sandbox."""
    return settings.model_copy(update={"platforms": sandbox.endpoints})


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """Those of shops, and those of people beside them."""
    return (*SYNC, *DOMAINS)


@pytest.fixture
async def domain(services: Services) -> NewDomain:
    """One of an organisation on the plan Pro."""
    organisation_id = await add_organisation(services, plan="pro")
    return await services.store.add_domain(HOST, organisation_id, {})


@pytest.fixture
def push(client: Client, domain: NewDomain) -> Callable[..., Any]:
    """Pushes these destinations with the sync token."""

    async def pushing(*destinations: dict[str, Any], token: str = domain.sync_token) -> Any:
        response = await client.post(
            "/v1/sync/domain-config",
            json={"destinations": destinations},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert response.status == 200, await response.text()
        return await response.json()

    return pushing


async def test_a_push_of_every_platform(
    push: Callable[..., Any], services: Services, domain: NewDomain, sandbox: PlatformSandbox
) -> None:
    answer = await push(*PUSH)
    assert answer.pop("requestId")
    results = answer.pop("destination_results")
    assert answer == {
        "success": True,
        "domain_id": domain.domain_id,
        "proxy_hostname": HOST,
        "domain_token": domain.domain_token,
        "routing_status": "pending_dns",
        "config_status": "synced",
        "plan_name": "Pro",
        "subscription_status": "active",
        "usage_percent": 0,
        "billable_this_period": 0,
        "monthly_request_limit": 500_000,
        "quota_exceeded": False,
    }
    assert [one["type"] for one in results] == [one["type"] for one in PUSH]
    assert all(one["ok"] and one["error"] == "" and one["status_code"] for one in results)
    (config,) = await services.store.configs()
    assert config.revision == 2
    assert sorted(d.platform for d in config.destinations) == sorted(PLATFORMS)
    by_platform = {d.platform: d for d in config.destinations}
    assert by_platform["pinterest"].account == "3"
    assert by_platform["meta"].test_event_code == "TEST1"
    assert not by_platform["snapchat"].advanced_matching
    assert by_platform["meta"].advanced_matching
    which = ById(config.org_id, config.domain_id)
    _, pinterest = await services.store.credentials(which, by_platform["pinterest"].id)
    assert pinterest.reveal() == {"ad_account_id": "3", "pixel_id": "2", "access_token": TOKEN}
    live = [e for e in sandbox.received()["events"] if e["accepted"] and not e["testEventCode"]]
    assert live == []


async def test_one_bad_token_stops_nobody_else(
    push: Callable[..., Any], services: Services, sandbox: PlatformSandbox
) -> None:
    sandbox.order("reddit", kind="reset")
    pushed = [
        one | ({"access_token": "expired-0123456789"} if one["type"] == "tiktok" else {})
        for one in PUSH
    ]
    answer = await push(*pushed)
    assert answer["config_status"] == "sync_error"
    results = {one.pop("type"): one for one in answer["destination_results"]}
    assert [name for name, one in results.items() if not one["ok"]] == ["tiktok", "reddit"]
    assert results["tiktok"]["status_code"] == 401
    assert results["tiktok"]["error"] == (
        "TikTok refuses these credentials: 40102: Access token has expired"
    )
    assert results["reddit"]["status_code"] is None
    assert results["facebook"] == {"ok": True, "status_code": 400, "error": ""}
    (config,) = await services.store.configs()
    assert len(config.destinations) == len(PUSH)
    (row,) = await services.store.domains()
    kept = {d.platform: (d.check_ok, d.check_status, d.check_error) for d in row.destinations}
    assert kept["tiktok"] == (False, 401, results["tiktok"]["error"])
    assert kept["meta"] == (True, 400, None)
    assert (row.config_status, row.synced_at) == (
        ConfigStatus.SYNC_ERROR,
        services.clock.now_ms(),
    )
    assert (await push(*PUSH))["config_status"] == "synced"


async def test_all_credentials_are_tried_at_once(
    push: Callable[..., Any], sandbox: PlatformSandbox
) -> None:
    for slug in PLATFORMS:
        sandbox.order(slug, kind="slow", seconds=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await push(*PUSH)
    assert all(one["ok"] for one in answer["destination_results"])
    assert 1 <= loop.time() - began < 4


async def test_a_push_is_the_whole_truth(
    push: Callable[..., Any], services: Services, domain: NewDomain
) -> None:
    await services.store.set_destination(
        HOST, "meta", {"pixel_id": "by-hand", "access_token": TOKEN}
    )
    first = await services.store.set_destination(
        HOST, "meta", {"pixel_id": "1", "access_token": "older"}, {"events": {"Search": False}}
    )
    await push(PUSH[0], PUSH[1])
    (config,) = await services.store.configs()
    kept, new = sorted(config.destinations, key=lambda d: d.platform)
    assert (kept.platform, kept.account) == ("meta", "1")
    assert (new.platform, new.account) == ("tiktok", "C1")
    assert (kept.id, kept.events) == (first.destination.id, {"Search": False})
    _, opened = await services.store.credentials(HOST, kept.id)
    assert opened.reveal()["access_token"] == TOKEN
    await push(PUSH[1])
    (config,) = await services.store.configs()
    assert [d.platform for d in config.destinations] == ["tiktok"]
    await push()
    (config,) = await services.store.configs()
    assert config.destinations == ()


async def test_the_same_push_again_changes_nothing(
    push: Callable[..., Any], services: Services
) -> None:
    await push(*PUSH)
    before = await services.store.configs()
    services.clock.ms += 60_000  # type: ignore[attr-defined]
    await push(*reversed(PUSH))
    assert await services.store.configs() == before
    (row,) = await services.store.domains()
    assert row.synced_at == services.clock.now_ms()
    async with services.database.reading() as session:
        pushes = await session.scalars(
            select(AdminAction).where(AdminAction.action == "config.push")
        )
        assert [row.actor for row in pushes] == ["sync"]
    for change in (
        {"access_token": "newer"},
        {"test_event_code": "T9"},
        {"advanced_matching": False},
    ):
        await push(PUSH[0] | change, *PUSH[1:])
        (after,) = await services.store.configs()
        assert after.revision == before[0].revision + 1
        before = [after]


async def test_a_switch_of_the_dashboard_outlives_a_push(
    push: Callable[..., Any], services: Services
) -> None:
    await push(PUSH[0])
    (config,) = await services.store.configs()
    await services.store.set_rules(HOST, config.destinations[0].id, {"enabled": False})
    await push(PUSH[0])
    (config,) = await services.store.configs()
    assert not config.destinations[0].enabled


@pytest.mark.parametrize(
    ("one", "said"),
    [
        ({"type": "openai", "access_token": TOKEN}, "platform: 'openai' is not one of meta"),
        (PUSH[0] | {"test_event_cod": "x"}, "test_event_cod: Extra inputs"),
        (PUSH[0] | {"tag_id": "x"}, "tag_id: Extra inputs"),
        (PUSH[0] | {"pixel_id": "../x"}, "pixel_id: "),
        (PUSH[0] | {"pixel_id": None}, "pixel_id: Field required"),
        (PUSH[0] | {"access_token": "a b"}, "access_token: must not contain blanks"),
        (PUSH[0] | {"access_token": ""}, "access_token: must be"),
    ],
)
async def test_what_cannot_be_taken_is_told_and_stops_nobody_else(
    push: Callable[..., Any], services: Services, one: dict[str, Any], said: str
) -> None:
    answer = await push(one, PUSH[1])
    bad, good = answer["destination_results"]
    assert (bad["type"], bad["ok"], bad["status_code"]) == (one["type"], False, None)
    assert bad["error"].startswith(said)
    assert TOKEN not in bad["error"]
    assert good["ok"]
    assert answer["config_status"] == "sync_error"
    (config,) = await services.store.configs()
    assert [d.platform for d in config.destinations] == ["tiktok"]


async def test_what_cannot_be_taken_leaves_its_account_as_it_was(
    push: Callable[..., Any], services: Services
) -> None:
    await push(*PUSH)
    before = await services.store.configs()
    answer = await push(PUSH[0] | {"access_token": "a b"}, *PUSH[1:])
    assert not answer["destination_results"][0]["ok"]
    assert await services.store.configs() == before
    twice = await push(*PUSH, PUSH[0] | {"access_token": "another"})
    assert [one["ok"] for one in twice["destination_results"]] == [True] * 6 + [False]
    assert "twice" in twice["destination_results"][-1]["error"]
    assert await services.store.configs() == before


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "destinations"),
        ({"destinations": {}}, "destinations"),
        ({"destinations": [], "x": 1}, "x"),
        ({"destinations": [7]}, "destinations[0]"),
        ({"destinations": [PUSH[0], {"type": "tiktok"}]}, "destinations[1].access_token"),
        ({"destinations": [{"access_token": TOKEN}]}, "destinations[0].type"),
        ({"destinations": [PUSH[0] | {"access_token": [TOKEN]}]}, "destinations[0].access_token"),
        (
            {"destinations": [PUSH[0] | {"advanced_matching": "yes"}]},
            "destinations[0].advanced_matching",
        ),
        ({"destinations": [PUSH[0]] * 51}, "destinations"),
    ],
)
async def test_a_malformed_push_names_its_field_and_changes_nothing(
    client: Client, domain: NewDomain, services: Services, body: dict[str, Any], named: str
) -> None:
    headers = {"Authorization": f"Bearer {domain.sync_token}"}
    response = await client.post("/v1/sync/domain-config", json=body, headers=headers)
    error = await error_of(response)
    assert (error["status"], error["code"], error["field"]) == (400, "invalid_payload", named)
    assert TOKEN not in await response.text()
    assert await services.store.configs() == [domain.config]


@pytest.mark.parametrize("path", ["domain-config", "register-callback"])
async def test_who_is_not_the_shop(
    client: Client, domain: NewDomain, services: Services, path: str
) -> None:
    made = await services.store.regenerate_sync_token(HOST)
    for header in (
        None,
        "",
        "Bearer ",
        "Bearer wrong",
        f"Basic {made.token}",
        made.token,
        f"Bearer {domain.sync_token}",
        f"Bearer {domain.domain_token}",
        "Bearer \xfc",
    ):
        headers = {} if header is None else {"Authorization": header}
        response = await client.post(f"/v1/sync/{path}", json={"destinations": 7}, headers=headers)
        error = await error_of(response)
        assert (error["status"], error["code"]) == (401, "invalid_token")


async def test_a_deleted_domain_has_no_shop(
    client: Client, domain: NewDomain, services: Services
) -> None:
    await services.store.delete_domain(HOST)
    headers = {"Authorization": f"Bearer {domain.sync_token}"}
    response = await client.post("/v1/sync/domain-config", json={}, headers=headers)
    assert response.status == 401


async def test_a_shop_that_pushes_without_end(client: Client, domain: NewDomain) -> None:
    headers = {"Authorization": f"Bearer {domain.sync_token}"}
    statuses = [
        (await client.post("/v1/sync/domain-config", json={}, headers=headers)).status
        for _ in range(31)
    ]
    assert statuses == [400] * 30 + [429]


async def test_usage_is_that_of_the_organisation_deleted_domains_too(
    push: Callable[..., Any], services: Services, domain: NewDomain
) -> None:
    other = await services.store.add_domain("old.example", domain.config.org_id, {})
    await services.store.delete_domain("old.example")
    await use(services, domain.domain_id, 300_000, accepted=400_000)
    await use(services, other.domain_id, 99_999)
    answer = await push()
    assert answer["billable_this_period"] == 399_999
    assert (answer["usage_percent"], answer["quota_exceeded"]) == (79, False)
    await services.store.set_domain(HOST, {"monthlyEvents": 200_000})
    answer = await push()
    assert (answer["monthly_request_limit"], answer["quota_exceeded"]) == (200_000, True)
    await services.store.set_domain(HOST, {"monthlyEvents": 900_000})
    assert (await push())["monthly_request_limit"] == 500_000


async def test_a_plan_without_limits(client: Client, services: Services) -> None:
    added = await services.store.add_domain("free.example", "Own", {})
    await use(services, added.domain_id, 9)
    response = await client.post(
        "/v1/sync/domain-config",
        json={"destinations": []},
        headers={"Authorization": f"Bearer {added.sync_token}"},
    )
    answer = await response.json()
    assert answer["monthly_request_limit"] is None
    assert (answer["usage_percent"], answer["quota_exceeded"]) == (0, False)
    assert (answer["plan_name"], answer["billable_this_period"]) == ("Unlimited", 9)


async def test_a_push_mends_the_routing_status(
    push: Callable[..., Any], services: Services, name_server: NameServer
) -> None:
    assert (await push())["routing_status"] == "pending_dns"
    name_server.zone = {(HOST, "CNAME"): [f"{TARGET}."]}
    assert (await push())["routing_status"] == "active"
    await services.store.set_disabled(HOST, disabled=True)
    answer = await push()
    assert (answer["routing_status"], answer["subscription_status"]) == ("disabled", "active")


async def test_a_name_server_that_is_away_stops_no_push(
    push: Callable[..., Any], name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manage.dns_check.TIMEOUT_SECONDS", 0.2)
    name_server.is_silent = True
    assert (await push(PUSH[0]))["config_status"] == "synced"


# Callbacks


@dataclass
class Shop:
    """A shop's server that is called back."""

    url: str = ""
    status: int = 200
    calls: list[tuple[str, Any]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """As it likes."""
        self.calls.append((request.headers["Authorization"], await request.json()))
        return web.Response(status=self.status, text="<b>the shop's own words</b>")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """One that listens on loopback."""
    made = Shop()
    app = web.Application()
    app.router.add_post("/wp-json/resync", made.answer)
    server = TestServer(app)
    await server.start_server()
    made.url = str(server.make_url("/wp-json/resync"))
    yield made
    await server.close()


@pytest.fixture
def register(client: Client, domain: NewDomain) -> Callable[..., Any]:
    """Says where the shop is called back."""

    async def registering(**body: Any) -> Any:
        headers = {"Authorization": f"Bearer {domain.sync_token}"}
        return await client.post("/v1/sync/register-callback", json=body, headers=headers)

    return registering


@pytest.fixture
async def owner(client: Client, services: Services, domain: NewDomain) -> None:
    """Somebody who may ask for a resync."""
    await log_in(
        client,
        services,
        "owner@shop.example",
        organisation_id=domain.config.org_id,
        role=Role.OWNER,
    )


async def test_a_resync_reaches_the_shop(
    register: Callable[..., Any],
    client: Client,
    owner: None,
    domain: NewDomain,
    shop: Shop,
    services: Services,
    dump: Callable[[], bytes],
) -> None:
    response = await register(callback_url=shop.url, callback_token="shop-canary-token")
    assert response.status == 200
    answer = await response.json()
    assert (answer["domain_id"], answer["callback_host"]) == (domain.domain_id, "127.0.0.1")
    path = f"/v1/domains/{domain.domain_id}"
    told = await (await client.post(f"{path}/resync")).json()
    assert (told["reached"], told["status"], told["problem"]) == (True, 200, None)
    body = {"domain_id": domain.domain_id, "reason": "resync"}
    assert shop.calls == [("Bearer shop-canary-token", body)]
    shown = (await (await client.get(path)).json())["domain"]
    assert shown["callback"] == {
        "host": "127.0.0.1",
        "registeredAt": services.clock.now_ms(),
        "calledAt": services.clock.now_ms(),
        "problem": None,
    }
    assert shown["revision"] == 1
    assert b"shop-canary-token" not in dump() + orjson.dumps(shown)


async def test_a_shop_that_refuses(
    register: Callable[..., Any], client: Client, owner: None, domain: NewDomain, shop: Shop
) -> None:
    await register(callback_url=shop.url, callback_token="first")
    shop.status = 403
    path = f"/v1/domains/{domain.domain_id}"
    response = await client.post(f"{path}/resync")
    told = await response.json()
    assert (told["reached"], told["status"]) == (False, 403)
    assert told["problem"] == "The shop answered with status 403."
    assert "words" not in await response.text()
    shown = (await (await client.get(path)).json())["domain"]
    assert shown["callback"]["problem"] == told["problem"]
    await register(callback_url=shop.url, callback_token="second")
    shown = (await (await client.get(path)).json())["domain"]
    assert (shown["callback"]["calledAt"], shown["callback"]["problem"]) == (None, None)
    await client.post(f"{path}/resync")
    assert [call[0] for call in shop.calls] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"callback_url": "https://10.0.0.1/x"}, "callback_url"),
        ({"callback_url": "http://shop.example/x"}, "callback_url"),
        ({"callback_url": "https://[::ffff:169.254.169.254]/x"}, "callback_url"),
        ({"callback_url": "https://u:p@shop.example/x"}, "callback_url"),
        ({"callback_url": "https://shop.invalid/x"}, "callback_url"),
        ({"callback_url": "x" * 2001}, "callback_url"),
        ({"callback_url": 7}, "callback_url"),
        ({"callback_token": "a b"}, "callback_token"),
        ({"callback_token": ""}, "callback_token"),
        ({"callback_token": None}, "callback_token"),
        ({"more": 1}, "more"),
    ],
)
async def test_a_callback_that_cannot_be_is_refused_at_once(
    register: Callable[..., Any], services: Services, body: dict[str, Any], named: str
) -> None:
    error = await error_of(
        await register(**{"callback_url": "http://127.0.0.1/x", "callback_token": "t"} | body)
    )
    assert (error["status"], error["code"], error["field"]) == (400, "invalid_payload", named)
    (row,) = await services.store.domains()
    assert row.callback is None
