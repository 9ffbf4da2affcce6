"""Dead letters listed, shown, and driven again by ``capistream dead-letters``."""

import base64
import json
import signal
import subprocess
import sys
from functools import partial
from operator import ne
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from schemas.raw_event import RawEvent
from tests.integration.system import Shop, System, eventually, purchase

REFUSED: Final = "refuse-at-meta-1"
GARBAGE: Final = b"\x00letter\xff"
STRANGER: Final = "dom_stranger_to_letters"


@pytest.fixture(scope="module")
def shop(system: System) -> Shop:
    """A shop with one dead letter."""
    return refused_at(system, "letters")


def refused_at(system: System, name: str) -> Shop:
    """A shop with one purchase, that Meta refused."""
    made = system.make_shop(name)
    made.let_in(purchase(REFUSED))
    eventually(lambda: letters(made), within=30, until=bool)
    return made


def run(system: System, *arguments: str) -> Any:
    """The JSON that a command prints: of ``list`` a document a line, else one."""
    printed = system.cli("dead-letters", *arguments, "--json").stdout
    if arguments[0] == "list":
        return [json.loads(line) for line in printed.splitlines()]
    return json.loads(printed)


def letters(shop: Shop, *options: str) -> Any:
    """The dead letters of a shop."""
    return run(shop.system, "list", "--domain", shop.host, *options)


def of(shop: Shop, replay_id: str) -> list[dict[str, Any]]:
    """The outcomes of one replay."""
    return [outcome for outcome in shop.outcomes() if outcome.get("replayId") == replay_id]


def delivered(shop: Shop) -> list[Any]:
    """What lies there for Meta of a shop."""
    domain = ("domain", shop.domain_id.encode())
    return [r for r in shop.system.records("deliveries.meta") if domain in r.headers()]


def plant(system: System, topic: str, key: bytes, value: bytes) -> None:
    """Put a record on a topic."""
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    producer = Producer({"bootstrap.servers": system.description["kafka"]})
    producer.produce(prefix + topic, value, key)
    assert producer.flush(20) == 0


def test_a_refused_delivery_is_listed_and_shown(shop: Shop) -> None:
    letter = letters(shop)[0]
    (refused,) = [o for o in shop.outcomes() if o["outcome"] == "rejected" and "replayId" not in o]
    assert letter | {"id": "", "at": 0} == {
        "id": "", "at": 0, "reason": "rejected", "platform": "meta", "domainId": shop.domain_id,
        "destinationId": refused["destinationId"], "eventName": "Purchase", "eventId": REFUSED,
        "detail": refused["detail"],
    }  # fmt: skip
    assert abs(letter["at"] - refused["at"]) < 10_000

    whole = run(shop.system, "show", letter["id"])
    assert whole["value"]["event_id"] == REFUSED
    assert json.loads(base64.b64decode(whole["valueBase64"])) == whole["value"]
    assert "deliveries.meta-" in whole["origin"]
    assert whole["headers"]["source"] == refused["source"]
    assert whole["key"] == f"{refused['destinationId']}:{REFUSED}"

    listed = shop.system.cli("dead-letters", "list", "--domain", shop.domain_id).stdout
    assert all(text in listed for text in (letter["id"], "rejected", "meta", "Purchase"))
    shown = shop.system.cli("dead-letters", "show", letter["id"]).stdout
    assert all(
        text in shown for text in (refused["detail"], '"event_id": "refuse', "header source")
    )


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--platform", "meta", "--reason", "rejected", "--reason", "expired"], 1),
        (["--platform", "tiktok"], 0),
        (["--reason", "expired"], 0),
        (["--from", "1h"], 1),
        (["--to", "1h"], 0),
        (["--destination", "dst_none"], 0),
    ],
)
def test_letters_are_told_apart(shop: Shop, options: list[str], count: int) -> None:
    first = letters(shop)[0]["id"]
    assert [one["id"] for one in letters(shop, *options)][:1] == [first][:count]
    summary = run(shop.system, "replay", first, "--dry-run", *options)
    assert (summary["found"], summary["replayed"]) == (count, 0)
    assert summary["topics"] == dict.fromkeys(["deliveries.meta"][:count], 1)
    assert len(delivered(shop)) == 1


def test_what_is_refused_again_is_a_new_letter_and_goes_in_place_of_the_old_one(
    system: System,
) -> None:
    shop = refused_at(system, "letters-again")
    sent: list[str] = []
    for number in range(2):
        last = letters(shop)[-1]["id"]
        summary = run(shop.system, "replay", "--domain", shop.host, "--reason", "rejected")
        assert (summary["found"], summary["replayed"]) == (1, 1), summary
        assert (summary["repeats"], summary["skipped"]) == (number, 0)
        assert (summary["reasons"], summary["stopped"]) == ({"rejected": 1}, False)
        (outcome,) = eventually(partial(of, shop, summary["replayId"]), within=30, until=bool)
        assert (outcome["outcome"], outcome["platform"]) == ("rejected", "meta")
        assert outcome["source"].endswith(f"dead-letters-{last}")
        sent.append(outcome["outcomeId"])
        eventually(lambda: letters(shop)[-1]["id"], within=20, until=partial(ne, last))
    refused = [o["outcomeId"] for o in shop.outcomes() if o["outcome"] == "rejected"]
    assert len(set(refused)) == 3
    assert refused[1:] == sent

    values = [record.value() for record in delivered(shop)]
    assert values == [values[0]] * 3
    found = [one["id"] for one in letters(shop)]
    assert [one["id"] for one in letters(shop, "--limit", "2")] == found[1:]
    old = run(shop.system, "replay", found[0], "--dry-run")
    assert (old["found"], old["repeats"]) == (0, 1)


def test_what_cannot_be_decoded_is_shown_with_its_bytes_and_goes_to_be_driven_again(
    system: System, shop: Shop
) -> None:
    def shown() -> list[Any]:
        found = [r for r in system.records("dead-letters") if r.value() == GARBAGE]
        return [run(system, "show", f"{r.partition()}-{r.offset()}") for r in found]

    plant(system, "raw-events", RawEvent.key(shop.domain_id, "garbage"), GARBAGE)
    (letter,) = eventually(shown, within=30, until=bool)
    assert (letter["reason"], letter["value"], letter["eventId"]) == ("undecodable", None, None)
    assert base64.b64decode(letter["valueBase64"]) == GARBAGE
    assert letter["key"] == f"{shop.domain_id}:garbage"
    assert "raw-events-" in letter["origin"]
    plain = system.cli("dead-letters", "show", letter["id"]).stdout
    assert plain.splitlines()[-1] == base64.b64encode(GARBAGE).decode()
    listed = run(system, "list", "--reason", "undecodable", "--limit", "1000")
    assert letter["id"] in {one["id"] for one in listed}

    summary = run(system, "replay", letter["id"])
    assert (summary["replayed"], summary["topics"]) == (1, {"replay-events": 1})
    _, again = eventually(shown, within=20, until=lambda found: len(found) == 2)
    assert again["headers"]["replay"] == summary["replayId"]
    assert again["headers"]["source"] == letter["origin"]


@pytest.mark.slow
def test_an_event_goes_out_once_its_domain_is_known(system: System) -> None:
    event = {"eventId": "late", "eventName": "Purchase", "eventTime": 1767225600}
    raw = {"domainId": STRANGER, "door": "events", "requestId": "r", "receivedAt": 1767225601000}
    value = json.dumps(raw | {"event": event}).encode()
    plant(system, "raw-events", RawEvent.key(STRANGER, "late"), value)
    (letter,) = eventually(lambda: run(system, "list", "--domain", STRANGER), within=60, until=bool)
    assert (letter["reason"], letter["eventId"]) == ("unknown_domain", "late")

    config = {
        "domainId": STRANGER, "orgId": "org", "host": "stranger-to-letters.example",
        "revision": 1, "syncTokenSha256": "",
        "destinations": [
            {"id": "dst_off", "platform": "meta", "account": "1", "sealed": "", "enabled": False}
        ],
    }  # fmt: skip
    plant(system, "domain-configs", STRANGER.encode(), json.dumps(config).encode())

    summary = run(system, "replay", "--domain", STRANGER)
    assert (summary["found"], summary["replayed"]) == (1, 1)
    (outcome,) = eventually(lambda: system.outcomes(STRANGER), within=30, until=bool)
    assert (outcome["eventId"], outcome["outcome"]) == ("late", "skipped")
    assert (outcome["reason"], outcome["replayId"]) == ("destination_disabled", summary["replayId"])


@pytest.mark.parametrize("letter", ["0-999999", "4711-0"])
def test_a_letter_that_is_not_there_is_told(shop: Shop, letter: str) -> None:
    for command in (
        ["show", letter],
        ["replay", letter],
        ["replay", letters(shop)[0]["id"], letter],
    ):
        ran = shop.system.cli("dead-letters", *command, check=False)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert f"error: there is no dead letter {letter}" in ran.stderr
    assert len(delivered(shop)) == 1


def test_a_domain_that_is_not_there_is_told(system: System) -> None:
    ran = system.cli("dead-letters", "list", "--domain", "nobody.example", check=False)
    assert ran.returncode == 1
    assert "error: nobody.example is not configured" in ran.stderr
    assert run(system, "list", "--domain", "dom_none") == []
    empty = system.cli("dead-letters", "list", "--domain", "dom_none").stdout
    assert empty == "There are no such dead letters.\n"


def test_a_replay_that_is_stopped_says_how_far_it_came(system: System) -> None:
    shop = system.make_shop("letters-halfway")
    events = [purchase(f"refuse-at-meta-{n}") for n in range(60)]
    shop.let_in(*events)
    eventually(lambda: letters(shop), within=60, until=lambda found: len(found) == 60)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "capistream", "dead-letters", "replay", "--domain", shop.host),
            *("--rate", "2", "--json", "--data", str(system.directory)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=system._environment(),
    )
    eventually(lambda: delivered(shop), within=30, until=lambda found: len(found) > 60)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    summary = json.loads(output)
    assert process.returncode == 0
    assert summary["stopped"] is True
    assert 0 < summary["replayed"] < summary["found"] == 60
    eventually(
        lambda: of(shop, summary["replayId"]),
        within=20,
        until=lambda found: len(found) == summary["replayed"],
    )
