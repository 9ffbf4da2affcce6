"""What a lane does with deliveries that have to wait: here, on a retry topic, or parked."""

import asyncio
from collections import Counter

import pytest

from runtime.errors import CapistreamError
from schemas.outcome import OutcomeKind
from schemas.topics import parked, retries
from sinks.tools import DestinationGoneError
from tests.unit.runtime.clocks import JumpingClock, StandingClock
from tests.unit.sinks.sink import DAY_MS, EXPIRED, NOW_MS, TOKEN, Sink, standing

TIERS_SECONDS = (60, 600, 3600)
PARKED_MS = 3_600_000
GONE = DestinationGoneError("The destination was removed.")


# On a retry topic


@pytest.mark.parametrize(("attempt", "tier"), [(0, 1), (1, 2), (2, 3), (3, 3), (9, 3)])
async def test_what_a_failing_platform_does_not_take_in_time_waits_tier_by_tier(
    sink: Sink, attempt: int, tier: int
) -> None:
    await sink.script("meta", {"kind": "status", "status": 500, "times": None})
    await sink.deliver("meta", "e-1", "e-2", attempt=attempt)
    assert sink.told() == [("e-1", "retrying"), ("e-2", "retrying")]
    assert {outcome.attempt for outcome in sink.outcomes} == {attempt}
    now = sink.clock.now_ms()
    assert now == NOW_MS + 30_000
    for topic, delivery in sink.elsewhere:
        assert topic == retries("meta", tier)
        assert delivery.attempt == attempt + 1
        assert delivery.not_before == now + TIERS_SECONDS[tier - 1] * 1000
    assert [delivery.event_id for _, delivery in sink.elsewhere] == ["e-1", "e-2"]
    # 0.25 + 0.5 + 1 + 2 + 4 + 8 seconds lie between the first seven.
    assert await sink.requests() == 7


@pytest.mark.parametrize(
    ("asked", "attempt", "tier"), [(45, 0, 1), (61, 0, 2), (601, 0, 3), (3600, 0, 3), (45, 2, 3)]
)
async def test_a_hopelessly_long_wait_is_not_waited_here(
    sink: Sink, asked: int, attempt: int, tier: int
) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": float(asked)})
    lane = await sink.deliver("meta", "e-1", attempt=attempt)
    assert sink.clock.slept == []
    ((topic, delivery),) = sink.elsewhere
    assert topic == retries("meta", tier)
    assert delivery.not_before - NOW_MS == TIERS_SECONDS[tier - 1] * 1000 >= asked * 1000
    # Whoever comes after it has no better chance, and is told so by itself.
    lane.add(sink.pending("meta", "e-2", attempt=attempt))
    await sink.until_done()
    assert sink.told() == [("e-1", "retrying"), ("e-2", "retrying")]
    assert sink.elsewhere[1][0] == retries("meta", tier)
    assert await sink.requests() == 1


async def test_a_wait_that_no_tier_is_long_enough_for_is_repeated(sink: Sink) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 3600.0})
    lane = sink.lane("meta", retry_seconds=(1, 2, 3))
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_done()
    assert [topic for topic, _ in sink.elsewhere] == [retries("meta", 3)]


async def test_the_payload_and_all_that_is_known_of_it_move_along(sink: Sink) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 50.0})
    lane = sink.lane("meta")
    pending = sink.pending("meta", "e-1", dispatch_key="k", replay="r", test_event_code="TEST1")
    lane.add(pending)
    await sink.until_done()
    (record,) = (one for one in sink.log.records if one.topic == retries("meta", 1))
    assert (record.key, record.value) == (b"dst:e-1", pending.payload)
    ((_, delivery),) = sink.elsewhere
    assert (delivery.name, delivery.replay) == (pending.name, "r")
    assert (delivery.dispatch_key, delivery.test_event_code) == ("k", "TEST1")


async def test_a_lane_that_works_keeps_its_deliveries_while_there_is_room(sink: Sink) -> None:
    sink.failure = GONE
    lane = sink.lane("meta", unknown_destination_wait_seconds=120)
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_done()
    assert sink.clock.slept == [120]
    assert sink.elsewhere == []


async def test_where_there_is_no_room_what_has_waited_moves_on(sink: Sink) -> None:
    sink.failure, sink.is_crowded = GONE, True
    lane = sink.lane("meta", unknown_destination_wait_seconds=25, in_place_seconds=20)
    lane.add(sink.pending("meta", "e-1"))
    lane.add(sink.pending("meta", "e-2"))
    # Both are held for 25 seconds, and none may stay for longer than 20.
    await sink.until_done()
    assert sink.told() == [("e-1", "retrying"), ("e-2", "retrying")]
    assert [topic for topic, _ in sink.elsewhere] == [retries("meta", 1)] * 2


# Parked


async def test_a_wrong_token_parks_everything_with_one_outcome_each_and_one_alert(
    sink: Sink,
) -> None:
    sink.token = EXPIRED
    lane = sink.lane("snackvideo")
    ids = [f"e-{number}" for number in range(12)]  # each in a request of its own, four at a time
    for event_id in ids:
        lane.add(sink.pending("snackvideo", event_id))
    await sink.until_done()
    assert sorted(sink.told()) == sorted((event_id, "parked") for event_id in ids)
    assert {outcome.reason for outcome in sink.outcomes} == {"misconfigured"}
    assert await sink.requests() <= 4
    for topic, delivery in sink.elsewhere:
        assert topic == parked("snackvideo")
        assert (delivery.attempt, delivery.not_before) == (0, NOW_MS + PARKED_MS)
    assert Counter(delivery.event_id for _, delivery in sink.elsewhere) == Counter(ids)
    assert sink.dead == []
    (alert,) = sink.alerts
    assert (alert.alert, alert.destination_id, alert.domain_id) == ("misconfigured", "dst", "dom")
    assert (alert.platform, alert.at) == ("snackvideo", NOW_MS)
    assert alert.code is not None
    assert {outcome.code for outcome in sink.outcomes} == {alert.code}


async def test_whatever_comes_after_it_is_parked_without_a_request(sink: Sink) -> None:
    sink.token = EXPIRED
    lane = await sink.deliver("meta", "e-1")
    for number in range(2, 5):
        lane.add(sink.pending("meta", f"e-{number}"))
    await sink.until_done()
    assert sink.told() == [(f"e-{number}", "parked") for number in range(1, 5)]
    assert await sink.requests() == 1
    assert len(sink.alerts) == 1


async def test_trouble_that_lasts_is_told_again_on_the_next_day(sink: Sink) -> None:
    sink.token = EXPIRED
    lane = await sink.deliver("meta", "e-1")
    sink.clock.ms += PARKED_MS
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert (await sink.requests(), len(sink.alerts)) == (2, 1)
    sink.clock.ms += DAY_MS
    lane.add(sink.pending("meta", "e-3"))
    await sink.until_done()
    assert (await sink.requests(), len({alert.alert_id for alert in sink.alerts})) == (3, 2)


async def test_new_credentials_let_everything_go_on(sink: Sink) -> None:
    sink.token = EXPIRED
    lane = await sink.deliver("meta", "e-1")
    sink.token = TOKEN
    lane.configuration_changed(TOKEN)
    lane.add(sink.read(sink.elsewhere[0][1], told=OutcomeKind.PARKED))
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert sink.told() == [("e-1", "parked"), ("e-1", "delivered"), ("e-2", "delivered")]


async def test_the_same_configuration_again_is_no_reason_to_try(sink: Sink) -> None:
    sink.token = EXPIRED
    lane = await sink.deliver("meta", "e-1")
    lane.configuration_changed(EXPIRED)
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert await sink.requests() == 1


@standing
@pytest.mark.parametrize("is_mended", [True, False])
async def test_after_an_hour_one_request_sees_whether_it_was_mended_at_the_platform(
    sink: Sink, clock: StandingClock, is_mended: bool
) -> None:
    await sink.script("snackvideo", {"kind": "expired_token", "times": 1 if is_mended else None})
    lane = await sink.deliver("snackvideo", "e-0")
    clock.ms += PARKED_MS
    for number in range(1, 9):
        lane.add(sink.pending("snackvideo", f"e-{number}"))
    await sink.until_done()
    if is_mended:
        assert await sink.accepted("snackvideo") == [f"e-{number}" for number in range(1, 9)]
    else:
        assert await sink.requests() == 2
        assert len(sink.elsewhere) == 9
    assert len(sink.alerts) == 1


async def test_what_comes_back_parked_is_parked_again_without_a_word(sink: Sink) -> None:
    sink.token = EXPIRED
    lane = await sink.deliver("meta", "e-1")
    sink.clock.ms += PARKED_MS
    lane.add(sink.read(sink.elsewhere[0][1], told=OutcomeKind.PARKED))
    await sink.until_done()
    lane.add(sink.read(sink.elsewhere[1][1], told=OutcomeKind.PARKED))
    await sink.until_done()
    assert len(sink.elsewhere) == 3
    assert sink.told() == [("e-1", "parked")]
    assert len(sink.alerts) == 1
    assert await sink.requests() == 2


async def test_a_process_that_knows_nothing_yet_asks_carefully_for_what_was_parked(
    sink: Sink,
) -> None:
    sink.token = EXPIRED
    lane = sink.lane("snackvideo")
    for number in range(8):
        lane.add(sink.read(sink.delivery("snackvideo", f"e-{number}"), told=OutcomeKind.PARKED))
    await sink.until_done()
    assert await sink.requests() == 1
    assert len(sink.elsewhere) == 8


async def test_credentials_that_do_not_open_park(sink: Sink) -> None:
    sink.failure = CapistreamError("the sealed credential does not open")
    lane = await sink.deliver("meta", "e-1")
    assert sink.told() == [("e-1", "parked")]
    assert [alert.detail for alert in sink.alerts] == ["the sealed credential does not open"]
    assert await sink.requests() == 0
    sink.failure = None
    lane.configuration_changed(TOKEN)
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert sink.told()[-1] == ("e-2", "delivered")


@standing
async def test_an_answer_to_the_old_credentials_says_nothing_of_the_new_ones(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("meta", {"kind": "slow", "seconds": 1.0})
    sink.token = EXPIRED
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until(lambda: sink.gate.waiting == 1)
    sink.token = TOKEN
    lane.configuration_changed(TOKEN)
    sink.gate.open()
    await sink.until_done()
    assert sink.told() == [("e-1", "delivered")]
    assert sink.alerts == []
    assert await sink.requests() == 2


@standing
async def test_new_credentials_end_every_wait(sink: Sink, clock: StandingClock) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 20.0})
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_asleep()
    lane.configuration_changed("another")
    await sink.until_done()
    assert sink.told() == [("e-1", "retrying"), ("e-1", "delivered")]


async def test_a_destination_that_fails_leaves_the_others_alone(sink: Sink) -> None:
    await sink.script("meta", {"kind": "slow", "seconds": 60.0})
    failing, working = sink.lane("meta"), sink.lane("tiktok")
    failing.add(sink.pending("meta", "e-1"))
    working.add(sink.pending("tiktok", "e-2"))
    await sink.until(lambda: ("e-2", "delivered") in sink.told())
    assert sink.told() == [("e-2", "delivered")]


# Not known


async def test_a_destination_that_stays_unknown_rejects_what_is_left(
    sink: Sink, clock: JumpingClock
) -> None:
    sink.failure = GONE
    await sink.deliver("meta", "e-1", "e-2")
    assert clock.slept == [10]
    assert sink.told() == [("e-1", "rejected"), ("e-2", "rejected")]
    assert {outcome.reason for outcome in sink.outcomes} == {"destination_removed"}
    assert len(sink.dead) == 2
    assert await sink.requests() == 0


@standing
async def test_a_destination_that_is_not_known_yet_is_waited_for(
    sink: Sink, clock: StandingClock
) -> None:
    sink.failure = GONE
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    await sink.until_asleep()
    assert sink.told() == []
    sink.failure = None
    lane.configuration_changed(TOKEN)
    await sink.until_done()
    assert sink.told() == [("e-1", "delivered")]


async def test_a_destination_that_is_removed_while_a_batch_is_divided(sink: Sink) -> None:
    await sink.script(
        "meta", {"kind": "poison", "event": 0}, {"kind": "slow", "seconds": 1.0, "times": None}
    )
    lane = sink.lane("meta")
    for number in range(4):
        lane.add(sink.pending("meta", f"e-{number}"))
    await sink.until(lambda: sink.gate.waiting == 1)
    sink.failure = GONE
    sink.gate.open()
    await sink.until_done()
    assert sorted(sink.told()) == [
        ("e-0", "delivered"),
        ("e-1", "delivered"),
        ("e-2", "rejected"),
        ("e-3", "rejected"),
    ]


# Handing over


@standing
async def test_while_the_partitions_move_nothing_new_begins(
    sink: Sink, clock: StandingClock
) -> None:
    await sink.script("snackvideo", {"kind": "slow", "seconds": 1.0, "times": None})
    lane = sink.lane("snackvideo", requests_per_destination=2)
    waiting = [sink.pending("snackvideo", f"e-{number}") for number in range(5)]
    for one in waiting:
        lane.add(one)
    await sink.until(lambda: sink.gate.waiting == 2)
    under_way = lane.hand_over()
    assert len(under_way) == 2
    sink.gate.open()
    await asyncio.wait(under_way)
    await sink.journal.flush()
    assert sorted(sink.told()) == [("e-0", "delivered"), ("e-1", "delivered")]
    sink.come_back()
    lane.take_over()
    for number, one in enumerate(waiting[2:], 2):
        lane.add(sink.read(one.delivery, offset=number))
    await sink.until_done()
    assert await sink.accepted("snackvideo") == [f"e-{number}" for number in range(5)]
    assert len(sink.told()) == 5


async def test_what_had_no_room_yet_does_not_begin_while_the_partitions_move(sink: Sink) -> None:
    sink.room = asyncio.Semaphore(1)
    await sink.script("tiktok", {"kind": "slow", "seconds": 1.0})
    busy, waiting = sink.lane("tiktok"), sink.lane("meta")
    busy.add(sink.pending("tiktok", "e-1"))
    await sink.until(lambda: sink.gate.waiting == 1)
    waiting.add(sink.pending("meta", "e-2"))
    await asyncio.sleep(0.01)
    (under_way,) = waiting.hand_over()
    sink.gate.open()
    await under_way
    assert await sink.accepted("meta") == []
    waiting.take_over()  # and its partition has stayed here
    await sink.until_done()
    assert sorted(sink.told()) == [("e-1", "delivered"), ("e-2", "delivered")]


async def test_what_comes_back_while_the_partitions_move_is_left_alone(
    sink: Sink, clock: JumpingClock
) -> None:
    await sink.script("meta", {"kind": "slow", "seconds": 1.0})
    await sink.script("meta", {"kind": "throttle", "retry_after": 2.0, "times": None})
    ids = ["e-1", "refuse-at-meta", "e-2", "e-3"]
    waiting = [sink.pending("meta", event_id) for event_id in ids]
    lane = sink.lane("meta")
    for one in waiting:
        lane.add(one)
    await sink.until(lambda: sink.gate.waiting == 1)
    under_way = lane.hand_over()
    sink.gate.open()  # and what is refused whole is not divided now
    await asyncio.wait(under_way)
    await asyncio.sleep(0.02)
    assert clock.slept == []
    assert lane.hand_over() == set()
    assert await sink.requests() == 1
    await sink.behave()
    sink.come_back()
    lane.take_over()
    for number, one in enumerate(waiting):
        lane.add(sink.read(one.delivery, offset=number))
    await sink.until_done()
    assert await sink.accepted("meta") == ["e-1", "e-2", "e-3"]
    assert len(sink.told()) == 4
