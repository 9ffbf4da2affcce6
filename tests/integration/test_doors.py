"""The doors beside ``/v1/events``: blocks in the platforms' own words, and a shop's server."""

import json
import time
from typing import Any

import pytest

from tests.integration.system import PLATFORMS, Answer, Shop, System, eventually, purchase


@pytest.fixture(scope="module")
def shop(system: System) -> Shop:
    made = system.make_shop("doors")
    made.let_in(purchase("warm-up"))
    return made


def post(shop: Shop, path: str, body: Any, **headers: str) -> Answer:
    return shop.system.request(path, json.dumps(body).encode(), shop.headers() | headers)


def as_server(shop: Shop, path: str, body: Any) -> Answer:
    return post(shop, path, body, Authorization=f"Bearer {shop.sync_token}")


def meta_block(event_id: str) -> dict[str, Any]:
    """As the replaced plugin's page sends it, with a key that no platform knows."""
    return {
        "event_name": "AddToCart",
        "event_id": event_id,
        "action_source": "website",
        "event_time": int(time.time()) - 5,
        "event_source_url": "https://doors.example/p/mug",
        "user_data": {
            "fbp": "fb.1.1767225600000.1234567890",
            "client_user_agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
            "client_ip_address": "2001:db8::1",
        },
        "custom_data": {"content_ids": ["SKU1"], "value": 12.5, "currency": "EUR", "own_key": 1},
    }


def outcomes(shop: Shop, event_id: str) -> dict[str, tuple[str, str | None]]:
    """Platform → outcome and reason."""
    return {
        outcome["platform"]: (outcome["outcome"], outcome.get("reason"))
        for outcome in shop.outcomes()
        if outcome["eventId"] == event_id and "platform" in outcome
    }


def test_blocks_arrive_as_they_were_sent(shop: Shop) -> None:
    block = meta_block("pmw-1")
    answer = post(shop, "/v1/pmw-events", {"event": "add_to_cart", "facebook": block})
    assert (answer.status, answer.body["eventIds"]) == (200, ["pmw-1"])
    found = eventually(
        lambda: outcomes(shop, "pmw-1"), within=20, until=lambda f: len(f) == len(PLATFORMS)
    )
    assert found.pop("meta") == ("delivered", None)
    assert set(found.values()) == {("skipped", "no_block")}
    (received,) = [e for e in shop.system.received() if e["eventId"] == "pmw-1"]
    assert (received["platform"], received["payload"]) == ("meta", block)


def test_a_custom_event_is_completed(shop: Shop) -> None:
    block = {
        k: v for k, v in meta_block("pmw-2").items() if k not in {"event_time", "action_source"}
    }
    before = int(time.time())
    assert post(shop, "/v1/pmw-events", {"facebook": block}).status == 200
    eventually(
        lambda: outcomes(shop, "pmw-2").get("meta"),
        within=20,
        until=lambda found: found == ("delivered", None),
    )
    (received,) = [e for e in shop.system.received() if e["eventId"] == "pmw-2"]
    payload = received["payload"]
    assert before <= payload.pop("event_time") <= time.time()
    assert payload == block | {"action_source": "website"}


def test_one_action_through_both_doors_is_one_event(shop: Shop) -> None:
    both = {"eventName": "AddToCart", "customData": {"value": 12.5, "currency": "EUR"}}
    assert shop.post(purchase("both-1", **both)).status == 200
    eventually(
        lambda: outcomes(shop, "both-1").get("meta"),
        within=20,
        until=lambda found: found is not None,
    )
    body = {"event": "add_to_cart", "facebook": meta_block("both-1")}
    assert post(shop, "/v1/pmw-events", body).status == 200
    eventually(
        lambda: [o["outcome"] for o in shop.outcomes() if o["eventId"] == "both-1"],
        within=20,
        until=lambda found: found.count("duplicate") == len(PLATFORMS),
    )
    assert shop.received().count(("meta", "both-1")) == 1


def test_a_server_learns_what_became_of_its_purchase(shop: Shop) -> None:
    body = {"dispatchKey": "purchase:7", "events": [purchase("server-7")]}
    status = {"dispatchKey": "purchase:7"}
    assert as_server(shop, "/v1/sync/dispatch-status", status).body["dispatched"] is False
    answer = as_server(shop, "/v1/sync/purchase-events", body)
    assert (answer.status, answer.body["alreadyAccepted"]) == (200, False)
    told = as_server(shop, "/v1/sync/dispatch-status", status).body
    assert (told["dispatched"], told["eventIds"]) == (True, ["server-7"])
    told = eventually(
        lambda: as_server(shop, "/v1/sync/dispatch-status", status).body,
        within=20,
        until=lambda found: len(found["outcomes"]) == len(PLATFORMS),
    )
    assert {fate["platform"]: fate["outcome"] for fate in told["outcomes"]} == dict.fromkeys(
        PLATFORMS, "delivered"
    )
    again = as_server(shop, "/v1/sync/purchase-events", body)
    assert (again.status, again.body["alreadyAccepted"]) == (200, True)
    assert [o["outcome"] for o in shop.outcomes() if o["eventId"] == "server-7"] == (
        ["delivered"] * len(PLATFORMS)
    )


def test_a_server_needs_no_browser_and_a_page_does(shop: Shop) -> None:
    """The same event: an order that a program reports, and a program that claims to be a page."""
    programs = {"userAgent": "python-requests/2.31", "email": "ada@example.com"}
    event = purchase("program-1", userData=programs)
    body = {"dispatchKey": "purchase:8", "events": [event]}
    assert as_server(shop, "/v1/sync/purchase-events", body).status == 200
    assert shop.post(event | {"eventId": "program-2"}).status == 200
    eventually(
        lambda: outcomes(shop, "program-1").get("meta"),
        within=20,
        until=lambda found: found == ("delivered", None),
    )
    found = [o for o in shop.outcomes() if o["eventId"] == "program-2"]
    assert [(o["outcome"], o["reason"], o.get("platform")) for o in found] == [
        ("skipped", "bot", None)
    ]
