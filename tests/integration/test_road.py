"""The whole road: what goes in at the gateway comes out at the platforms and on audit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from pathlib import Path

import pytest

from capistream.embedded import free_port
from tests.integration.system import (
    PLATFORMS,
    Shop,
    System,
    children_of,
    eventually,
    everywhere,
    purchase,
)


@pytest.fixture(scope="module")
def shop(system: System) -> Shop:
    """A shop whose first event has gone all the way."""
    made = system.add_shop("road", "--country", "DE")
    made.let_in(purchase("warm-up"))
    eventually(made.fates, within=20, until=lambda f: len(f) == len(PLATFORMS))
    return made


def test_a_purchase_reaches_every_platform_once(shop: Shop) -> None:

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
    fates = eventually(shop.fates, within=10, until=lambda f: everywhere(["o-1"]) <= f.keys())
    assert [fates[pair] for pair in everywhere(["o-1"])] == [["delivered"]] * len(PLATFORMS)
    outcome_at = max(o["at"] for o in shop.outcomes() if o["eventId"] == "o-1")
    received_at = max(o["receivedAt"] for o in shop.outcomes() if o["eventId"] == "o-1")
    assert outcome_at - received_at < 3000, (outcome_at, received_at, arrived)

    assert shop.post(purchase("o-1")).status == 200
    fates = eventually(
        shop.fates, within=10, until=lambda f: all(len(f[p]) == 2 for p in everywhere(["o-1"]))
    )
    assert all(fates[pair] == ["delivered", "duplicate"] for pair in everywhere(["o-1"]))
    assert Counter(shop.received())["meta", "o-1"] == 1
    assert all(count == 1 for count in Counter(shop.received()).values())
    duplicates = [o for o in shop.outcomes() if o["outcome"] == "duplicate"]
    first = next(o["source"] for o in shop.outcomes() if o["outcome"] == "delivered" and o["eventId"] == "o-1")  # fmt: skip
    assert {o["firstSource"] for o in duplicates} == {first}


def test_refusals_of_the_person_and_of_a_platform_are_on_record(shop: Shop) -> None:
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
    fates = eventually(shop.fates, within=30, until=lambda f: f.keys() >= everywhere(ids))
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
    shop = system.make_shop("parking", tokens={"snapchat": "expired-token"})
    shop.let_in(purchase("p-1"))
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
    shop = system.make_shop("bare", defaultCurrency="EUR")
    event = {
        "eventName": "Purchase",
        "eventTime": int(time.time()),
        "customData": {"orderId": 77, "value": "19.90"},
    }
    answer = eventually(lambda: shop.post(event), within=10, until=lambda a: a.status == 200)
    assert answer.body["eventIds"] == ["77-Purchase"]
    fates = eventually(shop.fates, within=20, until=lambda f: len(f) == len(PLATFORMS))
    assert fates.pop(("77-Purchase", "snackvideo")) == ["skipped"]
    assert {fate for found in fates.values() for fate in found} == {"delivered"}
    reasons = [o["reason"] for o in shop.outcomes() if o["platform"] == "snackvideo"]
    assert reasons == ["missing_click_id"]
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
    for process in ("gateway", "streams", "sinks", "audit"):
        assert json.loads(system.cli("health", process, "--json").stdout)["alive"] is True


def test_the_outcomes_command_prints_what_is_on_audit(system: System, shop: Shop) -> None:
    assert shop.post(purchase("pr-1")).status == 200
    eventually(shop.fates, within=20, until=lambda f: f.keys() >= everywhere(["pr-1"]))
    printed = system.cli("outcomes", "--domain", shop.host, "--json").stdout.splitlines()
    assert {json.loads(line)["outcomeId"] for line in printed} == {
        outcome["outcomeId"] for outcome in shop.outcomes()
    }
    readable = system.cli("outcomes", "--event-id", "pr-1").stdout
    assert readable.count("delivered") == len(PLATFORMS)


def test_a_file_of_events_is_sent(system: System, shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text(json.dumps([purchase("f-1"), purchase("f-2", eventTime=1_700_000_000)]))
    sent = system.cli("send", str(file), "--host", shop.host, "--json", "--now")
    assert json.loads(sent.stdout)["eventIds"] == ["f-1", "f-2"]
    eventually(shop.fates, within=20, until=lambda f: f.keys() >= everywhere(["f-1", "f-2"]))
    refused = system.cli("send", str(file), "--host", shop.host, "--token", "x", check=False)
    assert refused.returncode == 1
    assert "invalid_token" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_demo_shows_every_fate(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "capistream", "demo", "--json", "--data", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    shown = json.loads(ran.stdout)
    fates = Counter(o["outcome"] for e in shown["events"] for o in e["outcomes"].values())
    assert set(fates) == {"delivered", "duplicate", "skipped", "rejected"}
    assert sum(fates.values()) == len(shown["events"]) * len(PLATFORMS)
    accepted = {slug: found["accepted"] for slug, found in shown["received"]["platforms"].items()}
    assert sum(accepted.values()) == fates["delivered"]


def test_several_gateways_share_a_port(system: System, shop: Shop) -> None:
    port = free_port()
    command = ["gateway", "--workers", "2", "--port", str(port)]
    with system.running(*command) as gateways:
        url = f"http://127.0.0.1:{port}"
        door = dataclasses.replace(system, description=system.description | {"gateway": url})
        own = dataclasses.replace(shop, system=door)
        pids = eventually(
            lambda: children_of(gateways.pid), within=20, until=lambda found: len(found) == 2
        )
        eventually(lambda: _answers(own, "w-1"), within=20, until=lambda status: status == 200)
        os.kill(pids[0], signal.SIGKILL)
        eventually(
            lambda: children_of(gateways.pid),
            within=20,
            until=lambda found: len(found) == 2 and pids[0] not in found,
        )
        eventually(lambda: _answers(own, "w-2"), within=20, until=lambda status: status == 200)
        gateways.terminate()
        assert gateways.wait(timeout=20) == 0
    fates = eventually(
        shop.fates, within=20, until=lambda f: f.keys() >= everywhere(["w-1", "w-2"])
    )
    assert fates["w-2", "meta"] == ["delivered"]


def _answers(shop: Shop, event_id: str) -> int:
    try:
        return shop.post(purchase(event_id)).status
    except urllib.error.URLError:
        return 0
