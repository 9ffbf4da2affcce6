"""Records that the streams stage cannot work, and configurations that change while it works."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import pytest
from confluent_kafka import Producer

from runtime.errors import EXIT_CRASHED
from schemas.dead_letter import DeadLetterReason
from schemas.outcome import Reason
from schemas.topics import AUDIT, DOMAIN_CONFIGS, deliveries
from tests.integration.flow import Flow, Named, Writer
from tests.integration.parts import beside
from tests.integration.poisoned_streams import POISON
from tests.integration.system import PLATFORMS, eventually
from tests.outcomes import outcomes_in

EVENTS: Final = 3_000
IN_A_ROW: Final = 20
LONGEST_WAIT_SECONDS: Final = 3
SLACK_SECONDS: Final = 5.0
"""For a busy machine, beside what a wait may take."""
EFFECT_SECONDS: Final = 2.0

UNDECODABLE: Final[Sequence[bytes | None]] = (b"\x00\xff", b"{", b"[]", b'{"domainId":"d"}', None)

pytestmark = pytest.mark.slow


def with_poison(writer: Writer) -> list[Named]:
    """Events, of which every tenth cannot be decoded and every tenth makes a mapping fail."""
    records: list[Named] = []
    for number in range(EVENTS):
        if number % 10 == 0:
            value = UNDECODABLE[number // 10 % len(UNDECODABLE)]
            records.append((f"undecodable-{number}", value))
        else:
            name = f"{POISON}{number}" if number % 10 == 5 else f"e-{number}"
            records += writer.events([name])
    return records


def test_poison_in_every_tenth_place_takes_no_neighbour_along(flow: Flow) -> None:
    records = with_poison(Writer(flow.shop.domain_id))
    with flow.workers(1, module="tests.integration.poisoned_streams") as workers:
        fed = flow.feed(records)
        took = flow.reaches_the_end(fed, within=60)
        assert workers.ended == []
    values = dict(records)
    planted = {name: value for name, value in values.items() if not name.startswith("e-")}
    letters = flow.letters()
    found = {(place, letter.value, letter.reason) for place, letter in letters.items()}
    assert len(found) == len(planted) == EVENTS // 5
    assert found == {
        (
            fed.places[name][0],
            value,
            DeadLetterReason.FAILED_TRANSFORM
            if name.startswith(POISON)
            else DeadLetterReason.UNDECODABLE,
        )
        for name, value in planted.items()
    }
    assert not any("customer@" in letter.detail for letter in letters.values())
    for platform in PLATFORMS:
        assert flow.copies(platform).keys() == values.keys() - planted.keys()
    print(f"{len(records)} records: at the end after {took:.1f} s")


@pytest.mark.parametrize(
    "flow", [{"CAPISTREAM_STREAMS__MAX_FAILURES_IN_A_ROW": str(IN_A_ROW)}], indirect=True
)
def test_a_release_that_can_work_nothing_says_so_and_stops(flow: Flow) -> None:
    events = Writer(flow.shop.domain_id).events
    with flow.system.running("streams") as worker:
        good = flow.feed(events(["before"]))
        flow.reaches_the_end(good, within=60)
        # One partition, so that an event behind them cannot break the row.
        bad = flow.feed(
            [*((f"bad-{n}", b"{") for n in range(3 * IN_A_ROW)), *events(["behind"])], partition=0
        )
        assert worker.wait(timeout=30) == EXIT_CRASHED
    (last,) = critical(flow)
    assert f"{IN_A_ROW} records in a row could not be worked" in last["error"]
    assert "raw-events-0-" in last["error"]
    assert flow.copies("meta").keys() == {"before"}

    mended = beside(flow.system, CAPISTREAM_STREAMS__MAX_FAILURES_IN_A_ROW="1000")
    with mended.running("streams"):
        flow.reaches_the_end(bad, within=60)
    assert flow.copies("meta").keys() == {"before", "behind"}
    places = {place for name in bad.places if name != "behind" for place in bad.places[name]}
    assert flow.letters().keys() == places


def critical(flow: Flow) -> list[dict[str, Any]]:
    """What the workers said was fatal."""
    lines = [json.loads(line) for line in flow.log.read_text().splitlines() if line[:1] == "{"]
    return [line for line in lines if line.get("level") == "critical"]


def test_a_switched_off_destination_gets_nothing_from_two_seconds_on(flow: Flow) -> None:
    records = Writer(flow.shop.domain_id).events(f"e-{number}" for number in range(1_000))
    with flow.workers(1) as workers:
        (pid,) = workers.pids
        with flow.feeding(records, per_second=100) as fed:
            eventually(lambda: flow.committed(fed), within=60, until=bool)
            switch_off(flow, "meta")
        flow.reaches_the_end(fed, within=60)
        assert (workers.pids, workers.ended) == ([pid], [])
    switched_ms = max(r.timestamp()[1] for r in flow.system.records(DOMAIN_CONFIGS))
    sent = flow.system.records(deliveries("meta"))
    last_ms = max(record.timestamp()[1] for record in sent)
    assert last_ms - switched_ms < EFFECT_SECONDS * 1000
    outcomes = outcomes_in(record.value() for record in flow.system.records(AUDIT))
    assert {(o.platform, o.reason) for o in outcomes} == {("meta", Reason.DESTINATION_DISABLED)}
    # Nothing is both, nothing is neither.
    assert {o.event_id for o in outcomes} == fed.places.keys() - flow.copies("meta").keys()
    assert flow.copies("tiktok").keys() == fed.places.keys()
    print(f"last delivery {last_ms - switched_ms} ms after the change, {len(outcomes)} skipped")


def switch_off(flow: Flow, platform: str) -> None:
    flow.system.cli(
        *("destination", "set", flow.shop.host, platform),
        *("--pixel-id", "pixelflow", "--access-token", "good-token", "--disable"),
    )


waiting_for_domains = pytest.mark.parametrize(
    "flow",
    [{"CAPISTREAM_STREAMS__UNKNOWN_DOMAIN_WAIT_SECONDS": str(LONGEST_WAIT_SECONDS)}],
    indirect=True,
)


@waiting_for_domains
def test_events_of_domains_that_nobody_knows_wait_once_and_delay_the_others_little(
    flow: Flow,
) -> None:
    strangers = [
        record
        for number in range(5)
        for record in Writer(f"dom_stranger{number}").events([f"s-{number}", f"t-{number}"])
    ]
    known = Writer(flow.shop.domain_id).events
    with flow.workers(1):
        flow.reaches_the_end(flow.feed(known(["before"]), partition=0), within=60)
        began_at = time.monotonic()
        fed = flow.feed([*strangers, *known(["behind"])], partition=0)
        eventually(lambda: flow.copies("meta"), within=60, until=lambda found: "behind" in found)
        took = time.monotonic() - began_at
        flow.reaches_the_end(fed, within=20)
    letters = flow.letters()
    assert letters.keys() == {fed.places[name][0] for name, _ in strangers}
    assert {letter.reason for letter in letters.values()} == {DeadLetterReason.UNKNOWN_DOMAIN}
    assert LONGEST_WAIT_SECONDS <= took < LONGEST_WAIT_SECONDS + SLACK_SECONDS
    print(f"the shop's own came {took:.1f} s after the strangers'")


@waiting_for_domains
def test_an_event_that_is_faster_than_its_domain_is_not_lost(flow: Flow) -> None:
    """The same configuration under another id, published while its first event waits."""
    newest = flow.system.records(DOMAIN_CONFIGS)[-1].value()
    with flow.workers(1):
        started = Writer(flow.shop.domain_id).events(["before"])
        flow.reaches_the_end(flow.feed(started), within=60)
        fed = flow.feed(Writer("dom_soon").events(["first"]))
        time.sleep(LONGEST_WAIT_SECONDS / 3)
        assert flow.copies("meta").keys() == {"before"}
        publish(flow, "dom_soon", newest.replace(flow.shop.domain_id.encode(), b"dom_soon"))
        flow.reaches_the_end(fed, within=20)
    assert flow.copies("meta").keys() == {"before", "first"}
    assert flow.letters() == {}


def publish(flow: Flow, domain_id: str, config: bytes) -> None:
    producer = Producer({"bootstrap.servers": flow.system.description["kafka"]})
    producer.produce(flow.topic(DOMAIN_CONFIGS), config, domain_id.encode())
    assert producer.flush(20) == 0
