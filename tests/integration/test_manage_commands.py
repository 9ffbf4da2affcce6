"""The command line does what the management API does, and every process obeys."""

import base64
import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.integration.manager import Manager, shop_server
from tests.integration.parts import at_the_gateway, until_known
from tests.integration.system import PLATFORMS, System, eventually


def ask(system: System, *arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON."""
    ran = system.cli(*arguments, "--json", check=False)
    assert ran.returncode == code, ran.stderr[-500:]
    return json.loads(ran.stdout)


def test_manage_beats(system: System) -> None:
    assert ask(system, "health", "manage")["alive"] is True


def test_a_domain_is_listed_shown_and_looked_up(system: System) -> None:
    shop = system.make_shop("listed")
    (found,) = [
        one for one in ask(system, "domain", "list")["domains"] if one["domainId"] == shop.domain_id
    ]
    assert (found["host"], found["destinations"]) == (shop.host, len(PLATFORMS))
    assert ask(system, "domain", "list", "--org", "nobody") == {"domains": []}
    shown = ask(system, "domain", "show", shop.host)
    assert shown["domainToken"] == shop.token
    assert {one["platform"] for one in shown["destinations"]} == set(PLATFORMS)
    assert "good-token" not in json.dumps(shown)
    readable = system.cli("domain", "show", shop.host).stdout
    assert all(slug in readable for slug in PLATFORMS)
    assert ask(system, "domain", "verify", shop.host)["verified"] is True


def test_a_domain_is_switched_off_on_and_deleted(system: System) -> None:
    shop = system.make_shop("switched")
    until_known(shop)
    assert ask(system, "domain", "disable", shop.host)["disabled"] is True
    at_the_gateway(shop, 403)
    ask(system, "domain", "enable", shop.host)
    at_the_gateway(shop, 400)
    unsure = system.cli("domain", "delete", shop.host, check=False)
    assert unsure.returncode == 1
    assert "Delete switched.example" in unsure.stderr
    at_the_gateway(shop, 400)
    assert ask(system, "domain", "delete", shop.host, "--yes")["domainId"] == shop.domain_id
    at_the_gateway(shop, 404)
    gone = system.cli("domain", "show", shop.host, check=False)
    assert (gone.returncode, "is not configured" in gone.stderr) == (1, True)


def test_tokens_are_made_anew(system: System) -> None:
    shop = system.make_shop("tokens")
    until_known(shop)

    def sync_status(token: str) -> int:
        headers = shop.headers() | {"Authorization": f"Bearer {token}"}
        body = b'{"dispatchKey": "k"}'
        return system.request("/v1/sync/dispatch-status", body, headers).status

    assert sync_status(shop.sync_token) == 200
    made = ask(system, "domain", "regenerate-token", shop.host)
    eventually(lambda: sync_status(shop.sync_token), within=10, until=lambda found: found == 401)
    assert sync_status(made["syncToken"]) == 200
    domain_token = ask(system, "domain", "regenerate-token", shop.host, "--domain-token")
    at_the_gateway(shop, 401)
    headers = shop.headers() | {"X-SSP-Token": domain_token["domainToken"]}
    assert system.request("/v1/events", b"{}", headers).status == 400


def test_destinations_are_listed_tried_and_removed(system: System) -> None:
    shop = system.make_shop("tried", tokens={"reddit": "expired-token"})
    listed = ask(system, "destination", "list", shop.host)["destinations"]
    assert {one["platform"] for one in listed} == set(PLATFORMS)
    assert {one["checkOk"] for one in listed} == {None}
    checks = ask(system, "destination", "check", shop.host, code=1)["checks"]
    assert {one["platform"]: one["ok"] for one in checks} == dict.fromkeys(PLATFORMS, True) | {
        "reddit": False
    }
    ask(system, "destination", "check", shop.host, "meta")
    (reddit,) = [
        one
        for one in ask(system, "destination", "list", shop.host)["destinations"]
        if one["platform"] == "reddit"
    ]
    assert reddit["checkOk"] is False
    assert reddit["checkError"]

    several = system.cli("destination", "remove", shop.host, "pixeltried", "--yes", check=False)
    assert (several.returncode, "names several" in several.stderr) == (1, True)
    unsure = system.cli("destination", "remove", shop.host, "reddit", check=False)
    assert unsure.returncode == 1
    ask(system, "destination", "remove", shop.host, "reddit", "--yes")
    left = ask(system, "destination", "list", shop.host)["destinations"]
    assert {one["platform"] for one in left} == set(PLATFORMS) - {"reddit"}
    none = system.cli("destination", "check", shop.host, "reddit", check=False)
    assert "no destination reddit" in none.stderr


def test_a_shop_is_asked_for_its_configuration(system: System) -> None:
    shop = system.make_shop("asked")
    never = system.cli("domain", "resync", shop.host, check=False)
    assert (never.returncode, "has not registered a callback" in never.stderr) == (1, True)
    manager = Manager(system.description["manage"], system.directory / "mails.txt")
    with shop_server() as server:
        callback = {"callback_url": server.callback_url, "callback_token": "a-callback-token"}
        manager.post("/v1/sync/register-callback", callback, bearer=shop.sync_token)
        assert ask(system, "domain", "resync", shop.host)["reached"] is True
        assert [asked.body["domain_id"] for asked in server.asked] == [shop.domain_id]
    assert ask(system, "domain", "resync", shop.host, code=1)["reached"] is False


def test_a_plan_reaches_the_gateway(system: System) -> None:
    shop = system.make_shop("planned")
    until_known(shop)
    put = ask(system, "org", "plan", shop.host, "--subscription", "inactive")
    assert put["hosts"] == [shop.host]
    at_the_gateway(shop, 403)
    ask(system, "org", "plan", shop.host, "pro", "--subscription", "active")
    at_the_gateway(shop, 400)


def test_the_event_log_is_made_anew(system: System) -> None:
    shop = system.make_shop("remade")
    ask(system, "user", "add", "remade@shop.example", "--org", shop.host, "--role", "owner")
    manager = Manager(system.description["manage"], system.directory / "mails.txt")
    manager.log_in("remade@shop.example")
    shop.deliver("remade-1")

    def logged() -> set[str]:
        events = manager.get("/v1/org/events")["events"]
        return {f"{one['platform']} {one['outcome']}" for one in events}

    wanted = {f"{slug} delivered" for slug in PLATFORMS}
    eventually(logged, within=20, until=lambda found: found == wanted)
    assert ask(system, "audit-rebuild")["records"] > 0
    eventually(logged, within=20, until=lambda found: found == wanted)


ONE, TWO = (base64.b64encode(name * 32).decode() for name in (b"1", b"2"))
RING: Final = "CAPISTREAM_VAULT__KEYS"
ACTIVE: Final = "CAPISTREAM_VAULT__ACTIVE"


def restart(system: System, ring: dict[str, str], active: str) -> None:
    """Start it again with another ring."""
    assert system.stop() == 0
    system.environment |= {RING: json.dumps(ring), ACTIVE: active}
    system.start()


@pytest.mark.slow
def test_a_key_is_changed_for_another(start: Callable[..., System]) -> None:
    system = start(**{RING: json.dumps({"one": ONE}), ACTIVE: "one"})
    shop = system.make_shop("sealed")
    manager = Manager(system.description["manage"], system.directory / "mails.txt")
    callback = {"callback_url": "http://127.0.0.1:9/", "callback_token": "a-callback-token"}
    manager.post("/v1/sync/register-callback", callback, bearer=shop.sync_token)
    shop.deliver("s-1")

    restart(system, {"one": ONE, "two": TWO}, "two")
    keys = eventually(
        lambda: {one["keyId"]: one for one in ask(system, "keys", "status")["keys"]},
        within=20,
        until=lambda found: not found["one"]["needed"],
    )
    assert (keys["one"]["seals"], keys["two"]["seals"]) == (0, len(PLATFORMS) + 1)
    assert ask(system, "keys", "rotate") == {"sealed": 0, "failed": 0}
    shop.deliver("s-2")

    restart(system, {"two": TWO}, "two")
    shop.deliver("s-3")
