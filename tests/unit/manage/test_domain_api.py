"""Domains and destinations through the API, on each of the databases."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from sqlalchemy import select

from manage.domain_api import ROUTES
from manage.routes import Route
from manage.services import Services
from manage.tables import AdminAction, DeletedDomain, Destination, Role
from runtime.settings import ManageSettings, Settings
from runtime.vault import hash_sync_token
from tests.unit.manage.api import (
    Client,
    NewClient,
    Person,
    add_organisation,
    error_of,
    log_in,
    log_in_owner,
)
from tests.unit.manage.name_server import NameServer, running_name_server
from tests.unit.manage.platform_sandbox import running_sandbox
from tests.unit.runtime.clocks import JumpingClock

TARGET: Final = "proxy.capistream.example"
TOKEN: Final = "EAAcanary0123456789abcdef"
META: Final = {"platform": "meta", "pixelId": "1234567890", "accessToken": TOKEN}


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    """One whose zone is empty."""
    async with running_name_server() as server:
        yield server


@pytest.fixture
def manage_settings(name_server: NameServer) -> ManageSettings:
    """With hosts that are to be CNAMEs."""
    return ManageSettings(
        development=True,
        requests_per_minute=10_000,
        cname_target=TARGET,
        dns_resolver=name_server.address,
    )


@pytest.fixture
async def settings(settings: Settings, clock: JumpingClock) -> AsyncIterator[Settings]:
    """With a sandbox in the place of the platforms."""
    async with running_sandbox(clock) as sandbox:
        yield settings.model_copy(update={"platforms": sandbox.endpoints})


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """These alone."""
    return ROUTES


@pytest.fixture
async def owner(client: Client, services: Services) -> Person:
    """Is logged in."""
    return await log_in_owner(client, services)


async def _add(client: Client, host: str = "ssp.shop.example", **more: Any) -> Any:
    response = await client.post("/v1/domains", json={"host": host, **more})
    assert response.status == 201, await response.text()
    return await response.json()


async def _put(client: Client, domain_id: str, body: dict[str, Any]) -> Any:
    response = await client.put(f"/v1/domains/{domain_id}/destinations", json=body)
    assert response.status == 200, await response.text()
    return (await response.json())["destination"]


async def _get(client: Client, domain_id: str) -> Any:
    response = await client.get(f"/v1/domains/{domain_id}")
    assert response.status == 200
    return (await response.json())["domain"]


async def test_a_new_domain(client: Client, owner: Person, services: Services) -> None:
    added = await _add(client, " SSP.Shop.Example. ", options={"defaultCurrency": "EUR"})
    domain = added["domain"]
    assert domain | {"id": "", "domainToken": "", "options": {}} == {
        "id": "",
        "host": "ssp.shop.example",
        "routingStatus": "pending_dns",
        "configStatus": "waiting_config",
        "destinationCount": 0,
        "createdAt": services.clock.now_ms(),
        "syncedAt": None,
        "revision": 1,
        "domainToken": "",
        "dnsRecord": {"type": "CNAME", "name": "ssp.shop.example", "value": TARGET},
        "dnsCheckedAt": None,
        "dnsProblem": None,
        "options": {},
        "callback": None,
        "destinations": [],
    }
    assert domain["options"]["defaultCurrency"] == "EUR"
    assert len(domain["domainToken"]) == 64
    assert len(added["syncToken"]) == 48
    assert bytes.fromhex(added["syncToken"] + domain["domainToken"])
    (config,) = await services.store.configs()
    assert config.sync_token_sha256 == hash_sync_token(added["syncToken"])
    assert services.tokens.matches(domain["domainToken"], config.domain_id, 1)
    assert await _get(client, domain["id"]) == domain


async def test_the_list_is_ones_own(
    client: Client, owner: Person, services: Services, new_client: NewClient
) -> None:
    stranger = await new_client()
    await log_in_owner(stranger, services, "other@shop.example")
    await _add(stranger, "other.example")
    for host in ("b.example", "a.example"):
        await _add(client, host)
    body = await (await client.get("/v1/domains")).json()
    assert [one["host"] for one in body["domains"]] == ["a.example", "b.example"]
    assert set(body["domains"][0]) == {
        *("id", "host", "routingStatus", "configStatus", "destinationCount"),
        *("createdAt", "syncedAt"),
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "host"),
        ({"host": "not a host"}, "host"),
        ({"host": "a" * 254}, "host"),
        ({"host": 7}, "host"),
        ({"host": "a.example", "strict": True}, "strict"),
        ({"host": "a.example", "options": {"defaultCurrency": "Euro"}}, "options.defaultCurrency"),
        ({"host": "a.example", "options": {"strct": True}}, "options.strct"),
        ({"host": "a.example", "options": {"monthlyEvents": -1}}, "options.monthlyEvents"),
    ],
)
async def test_a_bad_domain_names_its_field(
    client: Client, owner: Person, body: dict[str, Any], field: str
) -> None:
    error = await error_of(await client.post("/v1/domains", json=body))
    assert (error["status"], error["code"], error["field"]) == (400, "invalid_payload", field)


async def test_a_host_that_is_taken(
    client: Client, owner: Person, services: Services, new_client: NewClient
) -> None:
    await _add(client)
    stranger = await new_client()
    await log_in_owner(stranger, services, "other@shop.example")
    for someone in (client, stranger):
        response = await someone.post("/v1/domains", json={"host": "SSP.shop.example"})
        error = await error_of(response)
        assert (error["status"], error["code"], error["field"]) == (409, "conflict", "host")


async def test_the_plan_has_room_for_so_many(client: Client, services: Services) -> None:
    organisation_id = await add_organisation(services, plan="free")
    await log_in(
        client, services, "o@shop.example", organisation_id=organisation_id, role=Role.OWNER
    )
    adding = (client.post("/v1/domains", json={"host": f"s{n}.example"}) for n in range(8))
    statuses = sorted([response.status for response in await asyncio.gather(*adding)])
    assert statuses == [201] * 5 + [403] * 3
    error = await error_of(await client.post("/v1/domains", json={"host": "more.example"}))
    assert error["code"] == "plan_limit_reached"
    assert "5 domains" in error["message"]
    domains = (await (await client.get("/v1/domains")).json())["domains"]
    assert len(domains) == 5
    assert (await client.delete(f"/v1/domains/{domains[0]['id']}")).status == 200
    await _add(client, "more.example")


async def test_options_are_changed_one_by_one(client: Client, owner: Person) -> None:
    first = {"defaultCurrency": "EUR", "excludedAddresses": ["203.0.113.7"], "monthlyEvents": 5}
    domain_id = (await _add(client, options=first))["domain"]["id"]
    change = {"options": {"monthlyEvents": None, "strict": True}}
    response = await client.patch(f"/v1/domains/{domain_id}", json=change)
    domain = (await response.json())["domain"]
    assert domain["revision"] == 2
    options = domain["options"]
    assert (options["defaultCurrency"], options["strict"]) == ("EUR", True)
    assert options["excludedAddresses"] == ["203.0.113.7/32"]
    assert options["monthlyEvents"] is None
    unchanged = await client.patch(f"/v1/domains/{domain_id}", json={})
    assert (await unchanged.json())["domain"] == domain


async def test_a_domain_that_is_off(
    client: Client, owner: Person, services: Services, name_server: NameServer
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    path = f"/v1/domains/{domain_id}"

    async def switched(*, disabled: bool) -> tuple[str, str]:
        response = await client.patch(path, json={"disabled": disabled})
        status = (await response.json())["domain"]["routingStatus"]
        (config,) = await services.store.configs()
        return status, config.subscription

    assert await switched(disabled=True) == ("disabled", "inactive")
    name_server.zone = {("ssp.shop.example", "CNAME"): [f"{TARGET}."]}
    verified = await (await client.post(f"{path}/verify")).json()
    assert verified["domain"]["routingStatus"] == "disabled"
    assert await switched(disabled=False) == ("active", "active")
    assert await switched(disabled=False) == ("active", "active")
    name_server.zone = {}
    await client.post(f"{path}/verify")
    assert await switched(disabled=True) == ("disabled", "inactive")
    assert await switched(disabled=False) == ("pending_dns", "active")


async def test_verify(
    client: Client, owner: Person, name_server: NameServer, services: Services
) -> None:
    path = f"/v1/domains/{(await _add(client))['domain']['id']}"

    async def verified() -> tuple[str, str]:
        body = await (await client.post(f"{path}/verify")).json()
        assert body["domain"]["dnsCheckedAt"] == services.clock.now_ms()
        assert body["domain"] == await _get(client, body["domain"]["id"])
        assert body["domain"]["dnsProblem"] in (None, body["message"])
        return body["domain"]["routingStatus"], body["message"]

    status, message = await verified()
    assert status == "pending_dns"
    assert message.startswith("There is no such name as ssp.shop.example")
    name_server.zone = {("ssp.shop.example", "CNAME"): [f"{TARGET}."]}
    assert await verified() == ("active", f"ssp.shop.example is a CNAME of {TARGET}.")
    name_server.zone = {("ssp.shop.example", "A"): ["203.0.113.9"]}
    status, message = await verified()
    assert status == "pending_dns"
    assert "203.0.113.9" in message


async def test_a_name_server_that_is_away_changes_nothing(
    client: Client, owner: Person, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/domains/{(await _add(client))['domain']['id']}"
    name_server.zone = {("ssp.shop.example", "CNAME"): [f"{TARGET}."]}
    before = (await (await client.post(f"{path}/verify")).json())["domain"]
    monkeypatch.setattr("manage.dns_check.TIMEOUT_SECONDS", 0.2)
    name_server.is_silent = True
    error = await error_of(await client.post(f"{path}/verify"))
    assert (error["status"], error["code"]) == (503, "unavailable")
    assert await _get(client, before["id"]) == before


async def test_regenerate_token(client: Client, owner: Person, services: Services) -> None:
    added = await _add(client)
    path = f"/v1/domains/{added['domain']['id']}/regenerate-token"
    made = (await (await client.post(path)).json())["syncToken"]
    assert made != added["syncToken"]
    assert await services.store.by_sync_token(added["syncToken"]) is None
    which = await services.store.by_sync_token(made)
    assert which is not None
    assert which.domain_id == added["domain"]["id"]
    (config,) = await services.store.configs()
    assert (config.revision, config.sync_token_sha256) == (2, hash_sync_token(made))
    assert config.token_generation == 1


async def test_delete(
    client: Client, owner: Person, services: Services, dump: Callable[[], bytes]
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    await _put(client, domain_id, META)
    assert (await client.delete(f"/v1/domains/{domain_id}")).status == 200
    assert (await client.get(f"/v1/domains/{domain_id}")).status == 404
    assert (await client.delete(f"/v1/domains/{domain_id}")).status == 404
    assert await services.store.configs() == []
    async with services.database.reading() as session:
        assert list(await session.scalars(select(Destination))) == []
        (gone,) = await session.scalars(select(DeletedDomain))
    assert (gone.id, gone.host) == (domain_id, "ssp.shop.example")
    assert gone.organisation_id == owner.organisation_id
    again = await _add(client)
    assert again["domain"]["id"] != domain_id


async def test_a_shop_that_never_said_where_to_ask(client: Client, owner: Person) -> None:
    path = f"/v1/domains/{(await _add(client))['domain']['id']}/resync"
    error = await error_of(await client.post(path))
    assert (error["status"], error["code"]) == (409, "conflict")


# Destinations


async def test_a_destination_is_tried_when_it_is_set(
    client: Client, owner: Person, services: Services
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    body = META | {"testEventCode": "TEST1", "events": {"Search": False}, "samplePercent": 50}
    made = await _put(client, domain_id, body)
    assert (made["platform"], made["account"], made["enabled"]) == ("meta", "1234567890", True)
    assert (made["testEventCode"], made["samplePercent"]) == ("TEST1", 50)
    assert made["events"] == {"Search": False}
    assert (made["checkOk"], made["checkStatus"], made["checkError"]) == (True, 400, None)
    assert made["checkedAt"] == services.clock.now_ms()
    assert made["preview"] == "EAA****…cdef"
    assert (await _get(client, domain_id))["destinations"] == [made]
    assert TOKEN not in await (await client.get(f"/v1/domains/{domain_id}")).text()


async def test_bad_credentials_are_kept_and_told(client: Client, owner: Person) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META | {"accessToken": "expired-0123456789"})
    assert (made["checkOk"], made["checkStatus"]) == (False, 401)
    assert made["checkError"].startswith("Meta refuses these credentials: 190/463")
    mended = await _put(client, domain_id, META)
    assert (mended["id"], mended["checkOk"], mended["checkError"]) == (made["id"], True, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"platform": "myspace"}, "platform"),
        ({"accessToken": None}, "accessToken"),
        ({"accessToken": "a b"}, "accessToken"),
        ({"pixelId": "../x"}, "pixelId"),
        ({"pixelId": None}, "pixelId"),
        ({"adAccountId": "1"}, "adAccountId"),
        ({"apiVersion": "24"}, "apiVersion"),
        ({"samplePercent": 101}, "samplePercent"),
        ({"value": "fixed"}, "value"),
        ({"excludedCountries": ["XX"]}, "excludedCountries[0]"),
        ({"sealed": "x"}, "sealed"),
    ],
)
async def test_a_bad_destination_names_its_field_and_no_token(
    client: Client, owner: Person, services: Services, body: dict[str, Any], field: str
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    response = await client.put(f"/v1/domains/{domain_id}/destinations", json=META | body)
    error = await error_of(response)
    assert (error["status"], error["code"], error["field"]) == (400, "invalid_payload", field)
    assert TOKEN not in await response.text()
    (config,) = await services.store.configs()
    assert (config.revision, config.destinations) == (1, ())


async def test_rules_are_changed_without_the_credentials(
    client: Client, owner: Person, services: Services
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META | {"eventNames": {"Lead": "Contact"}})
    path = f"/v1/domains/{domain_id}/destinations/{made['id']}"
    response = await client.patch(path, json={"enabled": False, "eventNames": {"Search": "Find"}})
    changed = (await response.json())["destination"]
    assert changed == made | {"enabled": False, "eventNames": {"Search": "Find"}}
    (config,) = await services.store.configs()
    assert not config.destinations[0].enabled
    again = await _put(client, domain_id, META)
    assert (again["enabled"], again["eventNames"]) == (False, {"Search": "Find"})
    whole = await _put(client, domain_id, META | {"eventNames": {"Lead": "Contact"}})
    assert whole["eventNames"] == {"Lead": "Contact"}
    on = await client.patch(path, json={"enabled": True})
    assert (await on.json())["destination"]["enabled"]
    for body, field in (({"value": "fixed"}, "value"), ({"accessToken": "x"}, "accessToken")):
        error = await error_of(await client.patch(path, json=body))
        assert (error["status"], error["field"]) == (400, field)


async def test_check_and_remove(client: Client, owner: Person, services: Services) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META)
    path = f"/v1/domains/{domain_id}/destinations/{made['id']}"
    services.clock.ms += 5000  # type: ignore[attr-defined]
    checked = (await (await client.post(f"{path}/check")).json())["destination"]
    assert checked == made | {"checkedAt": made["checkedAt"] + 5000}
    assert (await client.delete(path)).status == 200
    (config,) = await services.store.configs()
    assert (config.revision, config.destinations) == (3, ())
    for gone in (client.delete(path), client.post(f"{path}/check"), client.patch(path, json={})):
        assert (await gone).status == 404


# Who may


def _calls(domain_id: str, destination_id: str) -> list[tuple[str, str, Any]]:
    domain = f"/v1/domains/{domain_id}"
    destination = f"{domain}/destinations/{destination_id}"
    return [
        ("GET", domain, None),
        ("PATCH", domain, {"disabled": True}),
        ("POST", f"{domain}/verify", None),
        ("POST", f"{domain}/regenerate-token", None),
        ("POST", f"{domain}/resync", None),
        ("PUT", f"{domain}/destinations", META),
        ("PATCH", destination, {"enabled": False}),
        ("POST", f"{destination}/check", None),
        ("DELETE", destination, None),
        ("DELETE", domain, None),
    ]


async def test_what_is_somebody_elses_is_not_there(
    client: Client, owner: Person, services: Services, new_client: NewClient
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META)
    before = await services.store.configs()
    stranger = await new_client()
    await log_in_owner(stranger, services, "other@shop.example")
    own_id = (await _add(stranger, "other.example"))["domain"]["id"]
    for method, path, body in [
        *_calls(domain_id, made["id"]),
        *_calls("dom_0000000000000000", made["id"]),
        *_calls("'; --", "x"),
        *(call for call in _calls(own_id, made["id"]) if made["id"] in call[1]),
    ]:
        response = await stranger.request(method, path, json=body)
        assert (await error_of(response))["status"] == 404, (method, path)
    assert before[0] in await services.store.configs()


async def test_members_look_and_admins_change(
    client: Client, owner: Person, services: Services, new_client: NewClient
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META)
    member = await new_client()
    await log_in(
        member,
        services,
        "member@shop.example",
        organisation_id=owner.organisation_id,
        role=Role.MEMBER,
    )
    assert (await member.get("/v1/domains")).status == 200
    assert (await member.post("/v1/domains", json={"host": "x.example"})).status == 403
    for method, path, body in _calls(domain_id, made["id"]):
        status = (await member.request(method, path, json=body)).status
        assert status == (200 if method == "GET" else 403), (method, path)


async def test_who_changed_what_is_on_record(
    client: Client, owner: Person, services: Services
) -> None:
    domain_id = (await _add(client))["domain"]["id"]
    made = await _put(client, domain_id, META)
    for method, path, body in _calls(domain_id, made["id"]):
        await client.request(method, path, json=body)
    async with services.database.reading() as session:
        rows = list(await session.scalars(select(AdminAction)))
    assert {row.actor for row in rows} == {owner.user_id}
    assert {row.organisation_id for row in rows} == {owner.organisation_id}
    assert all(row.request_id for row in rows)
    assert {(row.action, row.target) for row in rows} == {
        ("domain.add", domain_id),
        ("domain.disable", domain_id),
        ("domain.regenerate_token", domain_id),
        ("destination.set", f"{domain_id} {made['id']}"),
        ("destination.rules", f"{domain_id} {made['id']}"),
        ("destination.remove", f"{domain_id} {made['id']}"),
        ("domain.delete", domain_id),
    }
    await services.store.add_domain("by.command", "Org", {})
    async with services.database.reading() as session:
        query = select(AdminAction.actor).where(
            AdminAction.organisation_id != rows[0].organisation_id
        )
        assert list(await session.scalars(query)) == ["command"]


async def test_no_secret_is_readable_at_rest(
    client: Client, owner: Person, dump: Callable[[], bytes]
) -> None:
    added = await _add(client)
    domain_id = added["domain"]["id"]
    await _put(client, domain_id, META)
    made = await (await client.post(f"/v1/domains/{domain_id}/regenerate-token")).json()
    kept = dump()
    assert b"ssp.shop.example" in kept
    secrets = (TOKEN, added["syncToken"], made["syncToken"], added["domain"]["domainToken"])
    assert not [secret for secret in secrets if secret.encode() in kept]


async def test_looking_opens_no_vault(client: Client, owner: Person, services: Services) -> None:
    """Who looks needs no key: a seal that cannot be opened is no obstacle."""
    domain_id = (await _add(client))["domain"]["id"]
    await _put(client, domain_id, META)
    async with services.database.changing.begin() as session:
        (row,) = await session.scalars(select(Destination))
        row.sealed = "v1.k9.broken"
    assert (await _get(client, domain_id))["destinations"][0]["preview"] == "EAA****…cdef"
