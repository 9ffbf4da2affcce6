"""One destination's way out, against the sandbox on a real socket: batches, and their division."""

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from platforms.base import Fate, Platform, Request, Response, Verdict
from platforms.registry import PLATFORMS
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.delivery import Delivery
from schemas.topics import deliveries, parked, retries
from sinks.client import PlatformClient
from sinks.lane import Lane
from sinks.tools import DestinationGoneError
from tests.unit.runtime.clocks import JumpingClock, StandingClock
from tests.unit.sandbox.samples import SAMPLES
from tests.unit.sinks.sink import NOW_MS, Sink, running_sink, standing

META = PLATFORMS["meta"]
WEEK_MS = META.LIMITS.max_age_seconds * 1000


async def test_a_good_batch_is_one_request(sink: Sink) -> None:
    ids = [f"e-{n}" for n in range(100)]
    await sink.deliver("meta", *ids)
    assert sink.told() == [(event_id, "delivered") for event_id in ids]
    assert sink.dead == []
    assert await sink.requests() == 1
    assert {p: done.offset for p, done in sink.log.committed.items()} == {
        (deliveries("meta"), 0): 100
    }


# Dividing


@pytest.mark.parametrize("place", [0, 1, 37, 49, 50, 98, 99])
async def test_one_bad_event_among_a_hundred_is_found_and_the_rest_arrive(
    sink: Sink, place: int
) -> None:
    ids = [f"e-{n}" for n in range(100)]
    ids[place] = "refuse-at-meta"
    await sink.deliver("meta", *ids)
    assert sorted(sink.told()) == sorted(
        (event_id, "rejected" if event_id == "refuse-at-meta" else "delivered") for event_id in ids
    )
    assert await sink.requests() - 1 <= 2 * math.log2(100)
    (rejected,) = [o for o in sink.outcomes if o.outcome == "rejected"]
    assert (rejected.reason, rejected.code) == ("refused_by_platform", "100/2804050")
    (dead,) = sink.dead
    assert (dead.topic, dead.offset, dead.reason) == ("deliveries.meta", place, "rejected")
    assert dead.value == orjson.dumps(SAMPLES["meta"].named("refuse-at-meta"))
    assert Delivery.from_headers(dead.origin_headers).event_id == "refuse-at-meta"


@pytest.mark.parametrize("place", [0, 333, 999])
async def test_one_bad_event_in_a_thousand_costs_twenty_one_requests_more_at_most(
    sink: Sink, place: int
) -> None:
    ids = [f"e-{n}" for n in range(1000)]
    ids[place] = "refuse-at-meta"
    await sink.deliver("meta", *ids)
    assert await sink.requests() - 1 <= 21
    assert await sink.accepted("meta") == sorted({*ids} - {"refuse-at-meta"})


async def divide(valkey: RedisSettings, count: int, bad: set[int]) -> None:
    """Send so many, of which these are bad."""
    ids = [f"refuse-at-meta-{n}" if n in bad else f"e-{n}" for n in range(count)]
    client = connect(valkey)
    await client.flushall()
    async with running_sink(JumpingClock(NOW_MS), client) as sink:
        await sink.deliver("meta", *ids)
        assert await sink.requests() - 1 <= 2 * len(bad) * math.log2(count)
        good = [event_id for event_id in ids if event_id.startswith("e-")]
        assert await sink.accepted("meta") == sorted(good)  # each of them once
        told = dict.fromkeys(good, "delivered")
        assert sorted(sink.told()) == sorted((dict.fromkeys(ids, "rejected") | told).items())
        assert sorted(letter.offset for letter in sink.dead) == sorted(bad)
    await client.aclose()


@pytest.mark.parametrize("bad", [1, 2, 3, 5])
@given(data=st.data())
@settings(max_examples=12)
def test_any_few_bad_ones_are_found_and_their_neighbours_arrive_once(
    valkey: RedisSettings, bad: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(max(2, bad), 40))
    places = data.draw(st.sets(st.integers(0, count - 1), min_size=bad, max_size=bad))
    asyncio.run(divide(valkey, count, places))


@pytest.mark.parametrize(("slug", "bad"), [("reddit", 1), ("reddit", 3), ("tiktok", 1)])
async def test_culprits_that_are_named_cost_one_request_more(
    sink: Sink, slug: str, bad: int
) -> None:
    ids = [f"e-{n}" for n in range(50)]
    culprits = [f"refuse-at-{slug}-{n}" for n in range(bad)]
    ids[17 : 17 + bad] = culprits
    await sink.deliver(slug, *ids)
    fates = dict(sink.told())
    assert {event_id for event_id, fate in fates.items() if fate == "rejected"} == {*culprits}
    assert await sink.accepted(slug) == sorted({*ids} - {*culprits})
    assert len(sink.told()) == 50
    assert await sink.requests() == 2


async def test_where_one_event_is_a_request_a_bad_one_costs_its_own_only(sink: Sink) -> None:
    await sink.deliver("snackvideo", "e-1", "refuse-at-snackvideo", "e-2")
    assert sorted(sink.told()) == [
        ("e-1", "delivered"),
        ("e-2", "delivered"),
        ("refuse-at-snackvideo", "rejected"),
    ]
    assert await sink.requests() == 3
    assert b"access_token" not in (sink.dead[0].value or b"")


async def test_a_platform_that_fails_while_a_batch_is_divided_is_left_alone(sink: Sink) -> None:
    await sink.script(
        "meta", {"kind": "poison", "event": 3}, {"kind": "throttle", "retry_after": 20.0}
    )
    ids = [f"e-{n}" for n in range(8)]
    await sink.deliver("meta", *ids)
    # Whole, the first half, and after the wait all of it again, for nobody is to blame now.
    assert await sink.requests() == 3
    assert sink.clock.slept == [20]
    assert await sink.accepted("meta") == ids
    assert sorted(told for told in sink.told() if told[1] == "delivered") == [
        (event_id, "delivered") for event_id in ids
    ]


# Batches


async def test_a_full_batch_leaves_at_once_and_the_rest_lingers(sink: Sink) -> None:
    lane = sink.lane("meta", linger_seconds=3600)
    most = META.LIMITS.max_events
    for number in range(most + 1):
        lane.add(sink.pending("meta", f"e-{number}"))
    await sink.until(lambda: len(sink.clock.slept) == 1)
    assert sink.clock.slept == [3600]
    await sink.until_done()
    assert await sink.requests() == 2


async def test_a_lone_delivery_lingers_and_no_longer(sink: Sink) -> None:
    lane = sink.lane("meta", linger_seconds=5)
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_done()
    assert sink.clock.slept == [5]
    assert sink.outcomes[0].at == NOW_MS + 5000


@standing
async def test_no_more_requests_are_under_way_than_are_allowed(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("snackvideo", {"kind": "slow", "seconds": 1.0, "times": None})
    lane = sink.lane("snackvideo", requests_per_destination=3)
    for number in range(10):
        lane.add(sink.pending("snackvideo", f"e-{number}"))
    await sink.until(lambda: sink.gate.waiting == 3)
    sink.gate.open()
    await sink.until_done()
    assert sink.gate.most == 3
    assert await sink.requests() == 10


async def test_all_lanes_together_have_so_many_requests_under_way(sink: Sink) -> None:
    sink.room = asyncio.Semaphore(2)
    slugs = ("meta", "tiktok", "reddit", "snackvideo")
    for slug in slugs:
        await sink.script(slug, {"kind": "slow", "seconds": 1.0})
        sink.lane(slug).add(sink.pending(slug, "e-1"))
    await sink.until(lambda: sink.gate.waiting == 2)
    await asyncio.sleep(0.05)
    sink.gate.open()
    await sink.until_done()
    assert sink.gate.most == 2
    assert sink.told() == [("e-1", "delivered")] * 4


@pytest.mark.parametrize("code", [None, "TEST9"])
async def test_each_test_code_has_requests_of_its_own(sink: Sink, code: str | None) -> None:
    """Whatever the destination is set to by now: what was live when it was routed stays live."""
    sink.code = code
    lane = sink.lane("meta")
    told = [None, "TEST1", None, "TEST2", "TEST1"]
    for number, one in enumerate(told):
        lane.add(sink.pending("meta", f"e-{number}", test_event_code=one))
    await sink.until_done()
    assert await sink.codes("meta") == [(f"e-{number}", one) for number, one in enumerate(told)]
    assert await sink.requests() == 3


async def test_a_copy_of_what_is_here_is_not_needed(sink: Sink) -> None:
    lane = sink.lane("meta")
    first = sink.pending("meta", "e-1")
    lane.add(first)
    lane.add(sink.read(first.delivery))
    await sink.until_done()
    assert sink.told() == [("e-1", "delivered")]
    assert await sink.accepted("meta") == ["e-1"]


# What confirms nothing


async def test_a_failing_platform_is_asked_again_and_says_so_once(sink: Sink) -> None:
    await sink.script("meta", {"kind": "status", "status": 500, "times": 3})
    await sink.deliver("meta", "e-1", "e-2")
    assert sink.told() == [
        ("e-1", "retrying"),
        ("e-2", "retrying"),
        ("e-1", "delivered"),
        ("e-2", "delivered"),
    ]
    assert sink.outcomes[0].reason == "platform_unavailable"
    assert sink.clock.slept == [0.25, 0.5, 1]


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "reset"},
        {"kind": "truncated"},
        {"kind": "html", "status": 502},
        {"kind": "html", "status": 200},
        {"kind": "200_but_failed"},
    ],
    ids=lambda step: "-".join(map(str, step.values())),
)
async def test_an_answer_that_confirms_nothing_is_no_success(
    sink: Sink, step: dict[str, Any]
) -> None:
    await sink.script("meta", step)
    await sink.deliver("meta", "e-1")
    assert sink.told() == [("e-1", "retrying"), ("e-1", "delivered")]
    assert await sink.requests() == 2


async def test_a_platform_that_cannot_be_reached_is_tried_again(sink: Sink) -> None:
    nowhere = PlatformClient({"meta": "http://127.0.0.1:1"}, 1)
    there, sink.client = sink.client, nowhere
    await sink.deliver("meta", "e-1")
    sink.client = there
    await nowhere.close()
    assert sink.told() == [("e-1", "retrying")]
    assert "127.0.0.1" not in (sink.outcomes[0].detail or "")
    assert [topic for topic, _ in sink.elsewhere] == [retries("meta", 1)]


async def test_the_time_that_the_platform_names_is_kept(sink: Sink) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    await sink.deliver("meta", "e-1")
    assert sink.told() == [("e-1", "retrying"), ("e-1", "delivered")]
    assert sink.outcomes[0].reason == "throttled"
    assert sink.clock.slept == [7]


@standing
async def test_who_works_again_is_asked_by_one_first(sink: Sink, clock: StandingClock) -> None:
    await sink.script(
        "snackvideo",
        {"kind": "throttle", "retry_after": 5.0},
        {"kind": "slow", "seconds": 1.0, "times": None},
    )
    lane = sink.lane("snackvideo")
    lane.add(sink.pending("snackvideo", "e-0"))
    await sink.until_asleep()
    assert clock.slept == [5]
    clock.ms += 5000
    for number in range(1, 9):
        lane.add(sink.pending("snackvideo", f"e-{number}"))
    await sink.until(lambda: sink.gate.waiting == 1)
    await asyncio.sleep(0.05)
    assert sink.gate.most == 1
    sink.gate.open()
    await sink.until_done()
    assert await sink.accepted("snackvideo") == [f"e-{n}" for n in range(9)]


# Age


async def test_what_is_too_old_at_the_start_is_not_sent(sink: Sink) -> None:
    await sink.deliver("meta", "old", "older", event_time=NOW_MS - WEEK_MS - 1)
    assert sink.told() == [("old", "expired"), ("older", "expired")]
    assert {outcome.reason for outcome in sink.outcomes} == {"too_old"}
    assert [dead.reason for dead in sink.dead] == ["expired"] * 2
    assert await sink.requests() == 0


async def test_what_waits_until_it_is_too_old_expires_and_its_neighbours_arrive(
    sink: Sink,
) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 20.0})
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1", event_time=NOW_MS - WEEK_MS + 10_000))
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert sink.told() == [
        ("e-1", "retrying"),
        ("e-2", "retrying"),
        ("e-1", "expired"),
        ("e-2", "delivered"),
    ]
    assert await sink.requests() == 2


# What must not happen


@dataclass
class Frank:
    """Meta, but for its answers: it says of each event by itself what becomes of it."""

    answers: list[list[Verdict]]

    def __getattr__(self, name: str) -> Any:
        return getattr(META, name)

    def request(self, batch: list[bytes], credentials: Any) -> Request:
        """Fails as a mistake of ours would, once it has nothing to say any more."""
        if not self.answers:
            raise ZeroDivisionError
        return META.request(batch, credentials)

    def read(self, response: Response, batch_size: int) -> list[Verdict]:
        """The next answer."""
        assert response.status == 200
        return self.answers.pop(0)


def frank(*answers: list[Fate]) -> Platform:
    said = [[Verdict(fate) for fate in answer] for answer in answers]
    return cast("Platform", Frank(said))


async def add_each(sink: Sink, lane: Lane, count: int) -> None:
    for number in range(count):
        lane.add(sink.pending("meta", f"e-{number}"))
    await sink.until_done()


async def test_where_some_are_taken_the_others_wait_by_themselves(sink: Sink) -> None:
    fates = [Fate.DELIVERED, Fate.RETRYABLE, Fate.DELIVERED, Fate.REJECTED]
    answer = [Verdict(fate, code=f"code-of-{fate}") for fate in fates]
    await add_each(sink, sink.lane(cast("Platform", Frank([answer]))), 4)
    assert sorted(sink.told()) == [
        ("e-0", "delivered"),
        ("e-1", "retrying"),
        ("e-2", "delivered"),
        ("e-3", "rejected"),
    ]
    (retrying,) = [outcome for outcome in sink.outcomes if outcome.outcome == "retrying"]
    assert retrying.code == "code-of-retryable"
    ((topic, delivery),) = sink.elsewhere
    assert (topic, delivery.event_id) == (retries("meta", 1), "e-1")
    assert sink.clock.slept == []


async def test_what_was_taken_may_have_been_the_last_for_a_while(sink: Sink) -> None:
    """Meta tells so in a header of its good answers."""
    full = [[Verdict(Fate.DELIVERED, retry_after_seconds=7)], [Verdict(Fate.DELIVERED)]]
    lane = sink.lane(cast("Platform", Frank(full)))
    await add_each(sink, lane, 1)
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_done()
    assert sink.told() == [("e-0", "delivered"), ("e-1", "delivered")]
    assert sink.clock.slept == [7]


async def test_of_an_answer_of_any_mixture_nobody_is_forgotten(sink: Sink) -> None:
    lane = sink.lane(
        frank([Fate.RETRYABLE, Fate.THROTTLED, Fate.REFUSED_BATCH], [Fate.DELIVERED] * 3)
    )
    await add_each(sink, lane, 3)
    assert {told for told in sink.told() if told[1] == "delivered"} == {
        (f"e-{number}", "delivered") for number in range(3)
    }


async def test_next_to_a_wrong_token_nobody_is_forgotten_either(sink: Sink) -> None:
    answer = [Fate.MISCONFIGURED, Fate.RETRYABLE, Fate.THROTTLED, Fate.REFUSED_BATCH]
    await add_each(sink, sink.lane(frank(answer)), 4)
    assert sorted(delivery.event_id for _, delivery in sink.elsewhere) == [
        f"e-{number}" for number in range(4)
    ]
    assert {topic for topic, _ in sink.elsewhere} == {parked("meta")}


async def test_a_destination_that_is_removed_under_a_probe_is_looked_at_again(sink: Sink) -> None:
    class Leaving(Frank):
        @override
        def read(self, response: Response, batch_size: int) -> list[Verdict]:
            if len(self.answers) == 1:
                sink.failure = DestinationGoneError("The destination was removed.")
            return super().read(response, batch_size)

    whole = [Verdict(Fate.REFUSED_BATCH)] * 4
    half = [Verdict(Fate.THROTTLED, retry_after_seconds=0)] * 2
    await add_each(sink, sink.lane(cast("Platform", Leaving([whole, half]))), 4)
    assert Counter(told for told in sink.told() if told[1] != "retrying") == Counter(
        (f"e-{number}", "rejected") for number in range(4)
    )


async def test_a_mistake_of_ours_is_waited_out_like_a_failure(
    sink: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    lane = sink.lane(frank())
    await add_each(sink, lane, 1)
    assert sink.told() == [("e-0", "retrying")]
    assert [topic for topic, _ in sink.elsewhere] == [retries("meta", 1)]
    shown = capfd.readouterr()
    assert "ZeroDivisionError" in shown.out + shown.err


async def test_what_must_not_happen_is_heard_of(sink: Sink) -> None:
    lane = sink.lane("meta")
    sink.failure = KeyError("no such thing")  # type: ignore[assignment] # a mistake of ours
    lane.add(sink.pending("meta", "e-1"))
    async with asyncio.timeout(5):
        while not sink.failures:
            await asyncio.sleep(0.001)
    assert isinstance(sink.failures.pop(), KeyError)
    assert sink.tracker.unfinished == 1


# Partitions that go and come back


@standing
async def test_what_waits_while_its_partition_goes_and_comes_back_is_not_lost(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    lane = sink.lane("meta")
    first = sink.pending("meta", "e-1")
    lane.add(first)
    await sink.until_asleep()
    sink.come_back()
    lane.add(sink.read(first.delivery, offset=0))
    await sink.journal.flush()
    assert sink.tracker.unfinished == 1
    lane.configuration_changed("another")
    await sink.until_done()
    assert sink.told()[-1] == ("e-1", "delivered")
    assert await sink.accepted("meta") == ["e-1"]
    assert sink.log.committed[deliveries("meta"), 0].offset == 1


@standing
async def test_what_waits_while_its_record_moves_on_is_worked_for_the_new_one(
    sink: Sink, clock: StandingClock
) -> None:
    """Its partition's new owner has put it on a retry topic, and that is this process's."""
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    lane = sink.lane("meta")
    first = sink.pending("meta", "e-1")
    lane.add(first)
    await sink.until_asleep()
    sink.tracker.forget([(deliveries("meta"), 0)])
    retry = (retries("meta", 1), 0)
    sink.tracker.begin(retry, 5)
    position = sink.tracker.take(retry, 5)
    assert position is not None
    lane.add(replace(first, position=position))
    lane.configuration_changed("another")
    await sink.until(lambda: ("e-1", "delivered") in sink.told())
    assert sink.log.committed[retry].offset == 6


@standing
async def test_what_comes_back_and_then_has_to_wait_elsewhere_is_not_lost(
    sink: Sink, clock: StandingClock
) -> None:
    """What is said of it is said of the record that is this process's now."""
    await sink.script("meta", {"kind": "throttle", "retry_after": 20.0})
    lane = sink.lane("meta")
    first = sink.pending("meta", "e-1")
    lane.add(first)
    await sink.until_asleep()
    sink.come_back()
    lane.add(sink.read(first.delivery, offset=0))
    clock.ms += 30_000
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert [(topic, one.event_id) for topic, one in sink.elsewhere] == [(retries("meta", 1), "e-1")]
    assert sink.told()[-1] == ("e-2", "delivered")


@standing
async def test_what_was_given_away_is_left_to_its_new_owner(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_asleep()
    sink.tracker.forget([(deliveries("meta"), 0)])
    lane.configuration_changed("another")
    await lane.stop()
    await sink.journal.flush()
    assert sink.told() == [("e-1", "retrying")]
    assert await sink.requests() == 1


# The end


@standing
async def test_what_is_gathered_is_sent_when_the_process_stops(
    sink: Sink, clock: StandingClock
) -> None:
    lane = sink.lane("meta", linger_seconds=3600)
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_asleep()
    await lane.stop()
    await sink.journal.flush()
    assert sink.told() == [("e-1", "delivered")]


@standing
async def test_what_waits_is_left_to_the_log_when_the_process_stops(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_asleep()
    await lane.stop()
    await sink.journal.flush()
    assert sink.told() == [("e-1", "retrying")]
    assert sink.tracker.unfinished == 1
    assert await sink.requests() == 1


async def test_a_stop_that_takes_too_long_is_cut_short(sink: Sink) -> None:
    await sink.script("meta", {"kind": "slow", "seconds": 60.0})
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until(lambda: sink.gate.waiting == 1)
    stopping = asyncio.create_task(lane.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    sink.gate.open()
    await asyncio.sleep(0.05)
    await sink.journal.flush()
    assert sink.told() == []
    assert sink.tracker.unfinished == 1
