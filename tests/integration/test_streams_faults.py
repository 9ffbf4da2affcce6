"""Workers of the streams stage die, come and go, and so does Redis: nothing is lost, the first
copy of each event is the only one that counts, and no partition is left behind.

Workers and a Redis of the test's own on the log; no gateway, no sinks.
"""

import os
import random
import time
from collections import Counter
from typing import Final

import pytest

from schemas.outcome import OutcomeKind
from schemas.topics import AUDIT
from tests.integration.flow import Fed, Flow, Workers, Writer, with_repeats
from tests.integration.system import PLATFORMS, eventually
from tests.outcomes import outcomes_in

ON_APACHE: Final = os.environ.get("REQUIRE_KAFKA") == "1"

KILLS: Final = 5
SIGKILLED: Final = -9
EVENTS: Final = 100_000 if ON_APACHE else 3_000
FEWER: Final = 30_000 if ON_APACHE else 3_000
PER_SECOND: Final = 4_000 if ON_APACHE else 200
REPEATED: Final = 0.05
OUTAGE_SECONDS: Final = 20.0 if ON_APACHE else 7.0
SOON_SECONDS: Final = 4.0
"""By when what was under way at the beginning of an outage has been committed."""
DRAIN_SECONDS: Final = 10.0
LATEST_SECONDS: Final = 150.0

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

impatient_with_redis = pytest.mark.parametrize(
    "flow", [{"CAPISTREAM_REDIS__TIMEOUT_SECONDS": "1"}], indirect=True, ids=["impatient"]
)
in_small_batches = pytest.mark.parametrize(
    "flow",
    [{} if ON_APACHE else {"CAPISTREAM_STREAMS__BATCH_RECORDS": "20"}],
    indirect=True,
    ids=["batches"],
)


@pytest.fixture
def dice() -> random.Random:
    """Chance that can be repeated: its seed is printed, and taken from ``FAULTS_SEED``."""
    seed = os.environ.get("FAULTS_SEED") or str(random.SystemRandom().randrange(10**9))
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


def ids(count: int) -> list[str]:
    return [f"e-{number}" for number in range(count)]


def each_repeat_is_told(flow: Flow, fed: Fed) -> None:
    """A second copy has an outcome of its own for each destination, and names the first."""
    outcomes = outcomes_in(record.value() for record in flow.system.records(AUDIT))
    assert {outcome.outcome for outcome in outcomes} == {OutcomeKind.DUPLICATE}
    told = {one.outcome_id: (one.source, one.first_source) for one in outcomes}
    repeats = {(again, first) for first, *others in fed.places.values() for again in others}
    assert Counter(told.values()) == dict.fromkeys(repeats, len(PLATFORMS))


@in_small_batches
def test_kill_9_at_any_moment_loses_nothing_and_sends_no_second_copy(
    flow: Flow, dice: random.Random
) -> None:
    accepted = with_repeats(ids(EVENTS), dice, REPEATED)
    moments = sorted(dice.sample(range(len(accepted) // 20, len(accepted) * 9 // 10), KILLS))
    records = Writer(flow.shop.domain_id).events(accepted)
    with flow.workers(2) as workers:
        with flow.feeding(records, per_second=PER_SECOND) as fed:
            for moment in moments:
                flow.comes_to(fed, moment, within=LATEST_SECONDS)
                # At once, when offsets have just moved, or at any moment between two commits.
                time.sleep(dice.choice([0, dice.random()]))
                workers.kill_one(dice)
        took = flow.reaches_the_end(fed, within=LATEST_SECONDS)
        assert workers.ended == [SIGKILLED] * KILLS, "nobody died who was not killed"
    again = flow.only_first_copies_came(fed)
    each_repeat_is_told(flow, fed)
    print(f"{fed.total} records: at the end after {took:.1f} s, {again} deliveries again")


@impatient_with_redis
def test_without_redis_everything_waits_and_nothing_is_passed_over(
    flow: Flow, dice: random.Random
) -> None:
    records = Writer(flow.shop.domain_id).events(with_repeats(ids(FEWER), dice, REPEATED))
    with flow.workers(2) as workers:
        with flow.feeding(records, per_second=PER_SECOND) as fed:
            flow.comes_to(fed, fed.total // 10, within=LATEST_SECONDS)
            flow.redis.freeze()
            time.sleep(SOON_SECONDS)
            before = flow.committed(fed)
            time.sleep(OUTAGE_SECONDS - SOON_SECONDS)
            assert flow.committed(fed) == before < fed.total
            flow.redis.thaw()
        took = flow.reaches_the_end(fed, within=LATEST_SECONDS)
        assert workers.ended == []
    again = flow.only_first_copies_came(fed)
    each_repeat_is_told(flow, fed)
    print(f"{fed.total} records: at the end after {took:.1f} s, {again} deliveries again")


@impatient_with_redis
def test_a_redis_that_comes_back_empty_costs_repeats_and_no_event(
    flow: Flow, dice: random.Random
) -> None:
    records = Writer(flow.shop.domain_id).events(with_repeats(ids(FEWER), dice, REPEATED))
    with flow.workers(2) as workers:
        with flow.feeding(records, per_second=PER_SECOND) as fed:
            flow.comes_to(fed, fed.total // 10, within=LATEST_SECONDS)
            flow.redis.kill()
            time.sleep(OUTAGE_SECONDS / 3)
            flow.redis.start()
        took = flow.reaches_the_end(fed, within=LATEST_SECONDS)
        assert workers.ended == []
    seconds = 0
    for platform in PLATFORMS:
        copies = flow.copies(platform)
        assert copies.keys() == fed.places.keys()
        seconds += sum(len(set(sources)) - 1 for sources in copies.values())
        assert all(set(found) <= set(fed.places[name]) for name, found in copies.items())
    print(f"{fed.total} records: at the end after {took:.1f} s, {seconds} second copies")


@impatient_with_redis
def test_a_worker_that_waits_for_redis_stops_when_it_is_told_to(flow: Flow) -> None:
    write = Writer(flow.shop.domain_id).events
    with flow.workers(1) as workers:
        flow.reaches_the_end(flow.feed(write(["before"])), within=60)
        flow.redis.freeze()
        fed = flow.feed(write(ids(100)))
        eventually(flow.log.read_text, within=20, until=lambda log: "waiting for it" in log)
        code, seconds = workers.dismiss()
        flow.redis.thaw()
        assert code == 0
        assert seconds < DRAIN_SECONDS
        workers.add()
        flow.reaches_the_end(fed, within=60)
    assert all(flow.copies(slug).keys() == {"before", *fed.places} for slug in PLATFORMS)


@in_small_batches
def test_workers_join_and_leave_under_load(flow: Flow, dice: random.Random) -> None:
    records = Writer(flow.shop.domain_id).events(with_repeats(ids(FEWER), dice, REPEATED))
    left: list[tuple[int, float]] = []

    def join(workers: Workers) -> None:
        workers.add()

    def leave(workers: Workers) -> None:
        left.append(workers.dismiss())

    with flow.workers(1) as workers:
        with flow.feeding(records, per_second=PER_SECOND) as fed:
            for number, change in enumerate([join, join, leave, leave], start=1):
                flow.comes_to(fed, fed.total * number // 8, within=LATEST_SECONDS)
                change(workers)
        took = flow.reaches_the_end(fed, within=LATEST_SECONDS)
        leave(workers)
        assert workers.ended == []
    again = flow.only_first_copies_came(fed)
    each_repeat_is_told(flow, fed)
    assert [code for code, _ in left] == [0, 0, 0]
    assert max(seconds for _, seconds in left) < DRAIN_SECONDS
    print(f"{fed.total} records: at the end after {took:.1f} s, {again} again; left after {left}")
