"""The road of a merchant: from a mail with a link to events at the platforms, on each database."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.integration.canary import Allowed, Search, in_topics, personal, secret
from tests.integration.manager import Manager, ShopServer, shop_server
from tests.integration.system import Shop, System, eventually, purchase

BAD: Final = "tiktok"
SECRETS: Final = {
    slug: f"{'expired-' if slug == BAD else ''}{slug}-token-4f1c9a7be0d2463f8a51"
    for slug in ("meta", "tiktok", "pinterest", "snapchat", "reddit")
}
CALLBACK_TOKEN: Final = "shops-own-callback-token-93b1d7f0"
SHOPPER: Final = "Kanari.Kundin@zwitscherladen.example"


@dataclasses.dataclass
class Merchant:
    """Whoever has gone the first part of the road."""

    system: System
    manager: Manager
    link: str
    domain: dict[str, Any]
    sync_token: str
    shop: Shop

    def push(self, sync_token: str | None = None) -> dict[str, Any]:
        """Push the shop's configuration."""
        return self.manager.post(
            "/v1/sync/domain-config",
            {"destinations": destinations()},
            bearer=sync_token or self.sync_token,
        )


def destinations() -> list[dict[str, Any]]:
    """Five accounts, one with a token that has run out."""
    return [
        {"type": "facebook", "pixel_id": "1234567890", "access_token": SECRETS["meta"],
         "test_event_code": "TEST1", "advanced_matching": True},
        {"type": "tiktok", "pixel_id": "C4A1", "access_token": SECRETS["tiktok"]},
        {"type": "pinterest", "tag_id": "2612345678901", "ad_account_id": "549755885175",
         "access_token": SECRETS["pinterest"]},
        {"type": "snapchat", "pixel_id": "8a4f", "access_token": SECRETS["snapchat"]},
        {"type": "reddit", "pixel_id": "a2_x", "access_token": SECRETS["reddit"],
         "test_event_code": "t2"},
    ]  # fmt: skip


@pytest.fixture
def merchant(start: Callable[..., System], database_url: str) -> Merchant:
    """Signed up, with an organisation and a domain of it."""
    system = start(CAPISTREAM_DATABASE__URL=database_url)
    manager = Manager(system.description["manage"], system.directory / "mails.txt")
    link = manager.log_in("anna@shop.example")
    manager.post("/v1/orgs", {"name": "Anna's shop"})
    added = manager.post("/v1/domains", {"host": "road.example"})
    domain = added["domain"]
    tokens = domain["domainToken"], added["syncToken"]
    return Merchant(
        system, manager, link, domain, added["syncToken"],
        Shop(system, "road.example", domain["id"], *tokens),
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[ShopServer]:
    """The shop's own."""
    with shop_server() as running:
        yield running


def test_from_a_mail_to_events_at_the_platforms(
    merchant: Merchant, server: ShopServer, dump: Callable[[], bytes]
) -> None:
    manager, shop = merchant.manager, merchant.shop
    pushed = merchant.push()
    at = time.monotonic()
    told = {one["type"]: one["ok"] for one in pushed["destination_results"]}
    assert told == dict.fromkeys(["facebook", "pinterest", "snapchat", "reddit"], True) | {
        BAD: False
    }
    refused = next(one for one in pushed["destination_results"] if one["type"] == BAD)
    assert refused["status_code"]
    assert refused["error"]
    assert pushed["config_status"] == "sync_error"
    assert (pushed["domain_id"], pushed["proxy_hostname"]) == (shop.domain_id, shop.host)

    time.sleep(max(0, at + 2 - time.monotonic()))
    sent = purchase("r-1", userData={"email": SHOPPER, "kwaiClickId": "r-1"})
    assert shop.post(sent).status == 200
    good = {("r-1", slug) for slug in SECRETS if slug != BAD}
    fates = eventually(shop.fates, within=20, until=lambda found: good <= found.keys())
    assert {fates[pair][0] for pair in good} == {"delivered"}
    parked = [o["platform"] for o in shop.outcomes() if o["outcome"] == "parked"]
    assert parked == [BAD]

    assert_the_shop_can_be_asked(merchant, server)
    assert_tokens_are_masked(manager.get(f"/v1/domains/{shop.domain_id}")["domain"])
    assert_the_event_is_on_record(merchant)
    new = assert_an_old_token_is_worthless(merchant)
    assert_nothing_is_left_behind(merchant, new, dump)


def assert_the_shop_can_be_asked(merchant: Merchant, server: ShopServer) -> None:
    """A resync reaches the callback that the shop registered, and is not believed blindly."""
    manager, path = merchant.manager, f"/v1/domains/{merchant.shop.domain_id}/resync"
    assert manager.call("POST", path, {}).status == 409
    callback = {"callback_url": server.callback_url, "callback_token": CALLBACK_TOKEN}
    manager.post("/v1/sync/register-callback", callback, bearer=merchant.sync_token)
    assert manager.post(path)["reached"] is True
    (asked,) = server.asked
    assert asked.headers["Authorization"] == f"Bearer {CALLBACK_TOKEN}"
    assert asked.body["domain_id"] == merchant.shop.domain_id


def assert_tokens_are_masked(domain: dict[str, Any]) -> None:
    """Each destination shows the end of its token and no more."""
    previews = {one["platform"]: one["preview"] for one in domain["destinations"]}
    assert previews.keys() == SECRETS.keys()
    for slug, preview in previews.items():
        assert "****" in preview
        assert preview.endswith(SECRETS[slug][-4:])
        assert len(preview.replace("*", "")) < len(SECRETS[slug]) / 3


def assert_the_event_is_on_record(merchant: Merchant) -> None:
    """Its timeline is answered, and the month's use counts it."""
    manager = merchant.manager
    timeline = eventually(
        lambda: manager.call("GET", "/v1/org/events/r-1"),
        within=20,
        until=lambda answer: answer.status == 200,
    )
    assert "accepted" in str(timeline.body)
    eventually(
        lambda: manager.get("/v1/org/usage"), within=20, until=lambda b: "'billable': 1" in str(b)
    )


def assert_an_old_token_is_worthless(merchant: Merchant) -> str:
    """Answers the new one."""
    manager, shop, old = merchant.manager, merchant.shop, merchant.sync_token
    made = manager.post(f"/v1/domains/{shop.domain_id}/regenerate-token")
    new: str = made["syncToken"]
    body = {"destinations": destinations()}
    refused = manager.call("POST", "/v1/sync/domain-config", body, bearer=old)
    assert (refused.status, refused.body["error"]["code"]) == (401, "invalid_token")
    assert merchant.push(new)["domain_id"] == shop.domain_id

    def at_the_gateway(token: str) -> int:
        headers = shop.headers() | {"Authorization": f"Bearer {token}"}
        return shop.system.request(
            "/v1/sync/dispatch-status", b'{"dispatchKey": "k"}', headers
        ).status

    eventually(lambda: at_the_gateway(old), within=5, until=lambda status: status == 401)
    assert at_the_gateway(new) == 200
    return new


def assert_nothing_is_left_behind(merchant: Merchant, new: str, dump: Callable[[], bytes]) -> None:
    """No token, no session and no shopper can be read in the database or on the topics."""
    secrets = {f"token of {slug}": token for slug, token in SECRETS.items()} | {
        "sync token": merchant.sync_token,
        "new sync token": new,
        "callback token": CALLBACK_TOKEN,
        "session": merchant.manager.session or "",
        "link": merchant.link.partition("token=")[2],
    }
    marks = [secret(name, text) for name, text in secrets.items()]
    shopper = personal("shopper", SHOPPER, "kanarikundin", "zwitscherladen")
    raw = Allowed([shopper.name], "topic raw-events, value*", "events are kept as they came")
    search = Search([*marks, shopper], [raw])
    search.add("database", dump())
    search.add_all(in_topics(merchant.system))
    assert search.leaks() == []
    assert search.unused() == []
    planted = Search([*marks, shopper])
    planted.add("database", dump() + f"{new} {SHOPPER}".encode())
    assert len(planted.leaks()) == 2
