"""The whole road: what goes in at the gateway comes out at the platforms and on audit."""

import json
import time
from collections import Counter

from tests.integration.system import PLATFORMS, System, all_five, eventually, purchase


def test_a_purchase_reaches_every_platform_once(system: System) -> None:
    shop = system.add_shop("once")
    eventually(lambda: shop.post(purchase("warm-up")).status, within=10, until=lambda s: s == 200)
    eventually(shop.fates, within=20, until=lambda f: len(f) == len(PLATFORMS))

    started = time.monotonic()
    answer = shop.post(purchase("o-1"))
    assert answer.status == 200
    assert answer.body["success"] is True
    assert answer.body["eventIds"] == ["o-1"]
    eventually(
        lambda: {p for p, event_id in shop.received() if event_id == "o-1"},
        within=3,
        until=lambda found: found == set(PLATFORMS),
    )
    arrived = time.monotonic() - started
    fates = eventually(shop.fates, within=10, until=lambda f: all_five(["o-1"]) <= f.keys())
    assert [fates[pair] for pair in all_five(["o-1"])] == [["delivered"]] * len(PLATFORMS)
    outcome_at = max(o["at"] for o in shop.outcomes() if o["eventId"] == "o-1")
    received_at = max(o["receivedAt"] for o in shop.outcomes() if o["eventId"] == "o-1")
    assert outcome_at - received_at < 3000, (outcome_at, received_at, arrived)

    assert shop.post(purchase("o-1")).status == 200
    fates = eventually(
        shop.fates, within=10, until=lambda f: all(len(f[p]) == 2 for p in all_five(["o-1"]))
    )
    assert all(fates[pair] == ["delivered", "duplicate"] for pair in all_five(["o-1"]))
    assert Counter(shop.received())["meta", "o-1"] == 1
    assert all(count == 1 for count in Counter(shop.received()).values())
    duplicates = [o for o in shop.outcomes() if o["outcome"] == "duplicate"]
    first = next(o["source"] for o in shop.outcomes() if o["outcome"] == "delivered" and o["eventId"] == "o-1")  # fmt: skip
    assert {o["firstSource"] for o in duplicates} == {first}


def test_refusals_of_the_person_and_of_a_platform_are_on_record(system: System) -> None:
    shop = system.add_shop("refusals")
    old = int(time.time()) - 9 * 86_400
    eventually(
        lambda: (
            shop.post(
                purchase("no-consent", consent={"marketing": False}),
                purchase("old", eventTime=old),
                purchase("refuse-at-pinterest"),
                purchase("good"),
            ).status
        ),
        within=10,
        until=lambda status: status == 200,
    )
    ids = ["no-consent", "old", "refuse-at-pinterest", "good"]
    fates = eventually(shop.fates, within=30, until=lambda f: f.keys() >= all_five(ids))
    assert {fates["no-consent", p][0] for p in PLATFORMS} == {"skipped"}
    assert fates["old", "meta"] == ["skipped"]
    assert fates["old", "tiktok"] == ["delivered"]
    assert fates["refuse-at-pinterest", "pinterest"] == ["rejected"]
    assert fates["refuse-at-pinterest", "meta"] == ["delivered"]
    assert {fates["good", p][0] for p in PLATFORMS} == {"delivered"}
    reasons = {(o["eventId"], o["platform"]): o.get("reason") for o in shop.outcomes()}
    assert reasons["no-consent", "reddit"] == "no_consent"
    assert reasons["old", "meta"] == "too_old"
    assert reasons["refuse-at-pinterest", "pinterest"] == "refused_by_platform"
    assert not [pair for pair in shop.received() if pair[1] == "no-consent"]


def test_an_expired_token_parks_and_a_good_one_releases(system: System) -> None:
    shop = system.add_shop("parking", tokens={"snapchat": "expired-token"})
    eventually(lambda: shop.post(purchase("p-1")).status, within=10, until=lambda s: s == 200)
    eventually(
        shop.outcomes,
        within=20,
        until=lambda found: any(o["outcome"] == "parked" for o in found),
    )
    fates = shop.fates()
    assert ("p-1", "snapchat") not in fates
    system.set_token(shop.host, "snapchat", "renewed-token")
    fates = eventually(shop.fates, within=20, until=lambda f: ("p-1", "snapchat") in f)
    assert fates["p-1", "snapchat"] == ["delivered"]


def test_an_event_with_next_to_nothing_is_taken(system: System) -> None:
    """No ids, no identifiers, no page: the gateway and the domain fill what they know."""
    shop = system.add_shop("bare", "--currency", "EUR")
    event = {
        "eventName": "Purchase",
        "eventTime": int(time.time()),
        "customData": {"orderId": 77, "value": "19.90"},
    }
    answer = eventually(lambda: shop.post(event), within=10, until=lambda a: a.status == 200)
    assert answer.body["eventIds"] == ["77-Purchase"]
    fates = eventually(shop.fates, within=20, until=lambda f: len(f) == len(PLATFORMS))
    assert {fate for found in fates.values() for fate in found} == {"delivered"}
    meta = next(
        e["payload"] for e in system.received()
        if e["platform"] == "meta" and e["eventId"] == "77-Purchase"
    )  # fmt: skip
    assert meta["custom_data"]["value"] == 19.9
    assert meta["custom_data"]["currency"].upper() == "EUR"


def test_topics_are_as_their_table_says(system: System) -> None:
    checked = system.cli("topics", "check", "--json")
    assert json.loads(checked.stdout) == {"differences": []}
    applied = system.cli("topics", "apply", "--json")
    assert json.loads(applied.stdout) == {"created": []}


def test_every_process_beats(system: System) -> None:
    for process in ("gateway", "streams", "sinks"):
        assert json.loads(system.cli("health", process, "--json").stdout)["alive"] is True
