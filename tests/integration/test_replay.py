"""Events driven again by ``capistream replay``: to whom they were to go, and to nobody else."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import pytest

from tests.integration.system import (
    PLATFORMS,
    Shop,
    System,
    eventually,
    everywhere,
    purchase,
)

CRAWLER = {
    "userData": {"email": "ada@example.com", "userAgent": "curl/8.0", "kwaiClickId": "bot-1"}
}


@pytest.fixture(scope="module")
def shop(system: System) -> Shop:
    """A shop with three purchases delivered, one of them accepted twice, and a program's."""
    made = system.make_shop("again")
    first = [purchase("r-1"), purchase("r-2"), purchase("r-lead", eventName="Lead")]
    made.let_in(*first)
    assert made.post(purchase("r-1"), purchase("bot-1", **CRAWLER)).status == 200
    eventually(made.outcomes, within=30, until=lambda found: len(found) == 4 * len(PLATFORMS) + 1)
    return made


def replay(shop: Shop, *options: str) -> dict[str, Any]:
    """Run the command; answers its summary."""
    found: dict[str, Any] = json.loads(
        shop.system.cli("replay", shop.host, "--json", *options).stdout
    )
    return found


def of(shop: Shop, replay_id: str) -> list[dict[str, Any]]:
    """The outcomes of one replay."""
    return [outcome for outcome in shop.outcomes() if outcome.get("replayId") == replay_id]


def test_an_event_goes_again_to_one_platform_only(shop: Shop) -> None:
    before = Counter(shop.received())
    summary = replay(shop, "--event-id", "r-1", "--destination", "tiktok")
    assert (summary["found"], summary["replayed"], summary["repeats"]) == (1, 1, 1)

    again = eventually(lambda: of(shop, summary["replayId"]), within=20, until=bool)
    assert Counter(shop.received()) - before == Counter([("tiktok", "r-1")])
    (outcome,) = again
    assert (outcome["outcome"], outcome["platform"]) == ("delivered", "tiktok")
    assert [outcome["destinationId"]] == summary["destinations"]
    assert outcome["source"].partition("-events-")[0].endswith("replay")

    (first,) = [
        o for o in shop.outcomes()
        if o["outcome"] == "delivered" and o["destinationId"] == outcome["destinationId"]
        and o["eventId"] == "r-1" and "replayId" not in o
    ]  # fmt: skip
    assert first["outcomeId"] != outcome["outcomeId"]
    assert (first["receivedAt"], first["eventTime"]) == (
        outcome["receivedAt"], outcome["eventTime"],
    )  # fmt: skip
    key = f"{outcome['destinationId']}:r-1".encode()
    payloads = {
        dict(record.headers()).get("replay"): record.value()
        for record in shop.system.records("deliveries.tiktok")
        if record.key() == key
    }
    assert payloads.keys() >= {None, summary["replayId"].encode()}
    assert len(set(payloads.values())) == 1


def test_all_of_a_shop_goes_again_to_all_of_its_platforms(shop: Shop) -> None:
    before = Counter(shop.received())
    summary = replay(shop, "--from", "1h", "--event", "Purchase", "--rate", "10000")
    assert (summary["found"], summary["replayed"], summary["withheld"]) == (2, 2, 1)
    eventually(
        lambda: of(shop, summary["replayId"]),
        within=20,
        until=lambda found: len(found) == 2 * len(PLATFORMS),
    )
    assert Counter(shop.received()) - before == Counter(
        (platform, event_id) for event_id, platform in everywhere(["r-1", "r-2"])
    )


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--dry-run"], 3),
        (["--dry-run", "--include-withheld"], 4),
        (["--to", "1h"], 0),
        (["--event", "Search"], 0),
    ],
)
def test_nothing_goes_again(shop: Shop, options: list[str], found: int) -> None:
    before = len(shop.system.records("replay-events"))
    summary = replay(shop, *options)
    assert (summary["found"], summary["replayed"]) == (found, 0)
    assert len(shop.system.records("replay-events")) == before


def test_what_was_withheld_by_mistake_goes_out(shop: Shop) -> None:
    summary = replay(shop, "--event-id", "bot-1", "--include-withheld", "--destination", "meta")
    assert summary["replayed"] == 1
    (outcome,) = eventually(lambda: of(shop, summary["replayId"]), within=20, until=bool)
    assert (outcome["outcome"], outcome["platform"]) == ("delivered", "meta")
    assert ("meta", "bot-1") in shop.received()


def test_a_replay_that_is_stopped_says_how_far_it_came(system: System) -> None:
    shop = system.make_shop("halfway")
    events = [purchase(f"h-{n}") for n in range(90)]
    shop.let_in(*events)
    command = [sys.executable, "-m", "capistream", "replay", shop.host, "--json", "--rate", "2"]
    before = len(shop.system.records("replay-events"))
    process = subprocess.Popen(
        [*command, "--data", str(shop.system.directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=shop.system._environment(),
    )
    eventually(
        lambda: len(shop.system.records("replay-events")),
        within=20,
        until=lambda count: count > before,
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    summary = json.loads(output)
    assert process.returncode == 0
    assert summary["stopped"] is True
    assert summary["replayed"] == len(shop.system.records("replay-events")) - before < 90
    assert summary["found"] >= summary["replayed"] > 0
    eventually(
        lambda: of(shop, summary["replayId"]),
        within=20,
        until=lambda found: len(found) == summary["replayed"] * len(PLATFORMS),
    )


def test_a_destination_that_is_not_there_is_said_at_once(shop: Shop) -> None:
    ran = shop.system.cli("replay", shop.host, "--destination", "myspace", check=False)
    assert ran.returncode == 1
    assert "again.example has no destination myspace; it has dst_" in ran.stderr


def test_the_days_events_do_not_wait_for_a_replay(system: System) -> None:
    other = system.make_shop("meanwhile")
    other.let_in(purchase("w"))
    for first in range(0, 2000, 50):
        batch = [purchase(f"m-{n}", eventName="PageVisit") for n in range(first, first + 50)]
        assert other.post(*batch).status == 200
    eventually(other.fates, within=60, until=lambda f: len(f) == 2001 * len(PLATFORMS))
    summary = replay(other, "--rate", "100000")
    started = time.monotonic()
    assert summary["replayed"] == 2001
    assert other.post(purchase("live")).status == 200
    eventually(other.fates, within=20, until=lambda f: everywhere(["live"]) <= f.keys())
    assert time.monotonic() - started < 15
