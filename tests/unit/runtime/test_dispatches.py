"""What is kept of a dispatch key, and what is told of it."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.dispatches import KEPT_SECONDS, Dispatch, Dispatches, DispatchOutcome
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.limits import MAX_DISPATCH_KEY_CHARS
from schemas.outcome import Outcome, OutcomeKind, Reason
from schemas.topics import RAW_EVENTS, topic_table

if TYPE_CHECKING:
    from redis.asyncio import Redis

PASSING = [kind for kind in OutcomeKind if not kind.is_final]


def outcome(kind: OutcomeKind = OutcomeKind.DELIVERED, **changes: Any) -> Outcome:
    """The outcome of a purchase at Meta, with changes (camelCase)."""
    return Outcome.model_validate(
        {
            "outcomeId": "out",
            "domainId": "dom_1",
            "destinationId": "dst_1",
            "platform": "meta",
            "eventId": "o-1",
            "eventName": "Purchase",
            "eventTime": 1_767_225_600_000,
            "outcome": kind,
            "source": "raw-events-0-1",
            "dispatchKey": "key-1",
            "receivedAt": 1_767_225_700_000,
            "at": 1_767_225_701_000,
        }
        | changes
    )


@pytest.fixture
def dispatches(redis_client: "Redis") -> Dispatches:
    return Dispatches(redis_client)


async def known(dispatches: Dispatches) -> Dispatch:
    found = await dispatches.status("dom_1", "key-1")
    assert found is not None
    return found


async def test_of_a_key_that_was_never_used_nothing_is_known(dispatches: Dispatches) -> None:
    await dispatches.accept("dom_1", "key-1", 1, ["o-1"])
    assert await dispatches.status("dom_1", "key-2") is None
    assert await dispatches.status("dom_2", "key-1") is None


async def test_what_was_accepted_is_told_before_anything_became_of_it(
    dispatches: Dispatches,
) -> None:
    await dispatches.accept("dom_1", "key-1", 17, ["o-2", "o-1"])
    assert await known(dispatches) == Dispatch(17, ("o-2", "o-1"), ())


async def test_the_first_mark_stays(dispatches: Dispatches) -> None:
    await dispatches.accept("dom_1", "key-1", 17, ["o-1"])
    await dispatches.accept("dom_1", "key-1", 18, ["o-1", "o-2"])
    assert await known(dispatches) == Dispatch(17, ("o-1",), ())


async def test_all_that_became_of_it_is_told(dispatches: Dispatches) -> None:
    await dispatches.accept("dom_1", "key-1", 17, ["o-1"])
    refused = {"platform": "tiktok", "destinationId": "dst_2", "code": "40002", "at": 19}
    await dispatches.note(
        [
            outcome(OutcomeKind.REJECTED, reason="refused_by_platform", **refused),
            outcome(at=18),
        ]
    )
    found = await known(dispatches)
    assert found.outcomes == (
        DispatchOutcome("o-1", "dst_1", "meta", OutcomeKind.DELIVERED, None, None, 18),
        DispatchOutcome(
            "o-1", "dst_2", "tiktok", OutcomeKind.REJECTED, Reason.REFUSED_BY_PLATFORM, "40002", 19
        ),
    )


async def test_an_event_that_went_nowhere_is_told_as_a_whole(dispatches: Dispatches) -> None:
    await dispatches.note(
        [outcome(OutcomeKind.SKIPPED, reason="bot", destinationId=None, platform=None, at=18)]
    )
    found = await known(dispatches)
    assert found.outcomes == (
        DispatchOutcome("o-1", None, None, OutcomeKind.SKIPPED, Reason.BOT, None, 18),
    )


async def test_outcomes_alone_say_that_it_was_accepted(dispatches: Dispatches) -> None:
    """The gateway ended after Kafka's acknowledgement and before its mark."""
    await dispatches.note([outcome(eventId="o-2"), outcome(), outcome(destinationId="dst_2")])
    found = await known(dispatches)
    assert (found.accepted_at, found.event_ids) == (None, ("o-1", "o-2"))
    await dispatches.accept("dom_1", "key-1", 17, ["o-2"])
    found = await known(dispatches)
    assert (found.accepted_at, found.event_ids, len(found.outcomes)) == (17, ("o-2",), 3)


async def test_an_outcome_without_a_key_is_nobodys(
    dispatches: Dispatches, redis_client: "Redis"
) -> None:
    await dispatches.note([outcome(dispatchKey=None)])
    await dispatches.note([])
    assert await redis_client.dbsize() == 0


async def test_prefixes_keep_systems_apart(redis_client: "Redis") -> None:
    await Dispatches(redis_client, "a-").note([outcome()])
    assert await Dispatches(redis_client, "a-").status("dom_1", "key-1") is not None
    assert await Dispatches(redis_client, "b-").status("dom_1", "key-1") is None


def test_it_is_kept_for_as_long_as_the_events() -> None:
    (row,) = (row for row in topic_table([]) if row.name == RAW_EVENTS)
    assert row.retention_seconds == KEPT_SECONDS


async def test_every_write_begins_the_time_anew(
    dispatches: Dispatches, redis_client: "Redis"
) -> None:
    async def left() -> int:
        (key,) = await redis_client.keys()
        seconds = int(await redis_client.ttl(key))
        await redis_client.expire(key, 10)
        return seconds

    await dispatches.note([outcome()])
    assert KEPT_SECONDS - 5 < await left() <= KEPT_SECONDS
    await dispatches.note([outcome(OutcomeKind.RETRYING)])  # writes nothing
    assert 5 < await left() <= 10
    await dispatches.accept("dom_1", "key-1", 17, ["o-1"])
    assert KEPT_SECONDS - 5 < await left() <= KEPT_SECONDS


async def test_many_outcomes_take_one_round_trip(
    dispatches: Dispatches, redis_client: "Redis"
) -> None:
    async def calls() -> int:
        stats = await redis_client.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    await dispatches.note([outcome()])  # the script is there from now on
    before = await calls()
    await dispatches.note([outcome(dispatchKey=f"key-{n}") for n in range(500)])
    assert await calls() == before + 1
    assert await redis_client.dbsize() == 500


deliveries = st.sampled_from([("o-1", "dst_1"), ("o-1", "dst_2"), ("o-2", "dst_1"), ("o-2", None)])
logs = st.lists(st.tuples(deliveries, st.sampled_from(OutcomeKind)), min_size=1, max_size=20)
runs = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), max_size=8)


def final_word(told: list[Outcome]) -> Outcome:
    """What the outcomes of one delivery come to, in the order of the log."""
    others = [one for one in told if one.outcome is not OutcomeKind.DUPLICATE]
    final = [one for one in others if one.outcome.is_final]
    return final[-1] if final else others[-1] if others else told[0]


@given(logs, runs)
def test_however_often_the_log_is_read_again_its_last_word_stays(
    valkey: RedisSettings,
    log: list[tuple[tuple[str, str | None], OutcomeKind]],
    runs: list[tuple[int, int]],
) -> None:
    """Readers come and go: each goes back by any number of records and reads on for any number;
    the last one reads to the end."""
    written = [
        outcome(kind, eventId=event, destinationId=destination, at=number)
        for number, ((event, destination), kind) in enumerate(log)
    ]

    async def read_all_of_it() -> Dispatch | None:
        client = connect(valkey)
        try:
            await client.flushdb()
            dispatches = Dispatches(client)
            reached = 0
            for back, size in [*runs, (0, len(written))]:
                start = max(0, reached - back)
                await dispatches.note(written[start : start + size])
                reached = min(start + size, len(written))
            return await dispatches.status("dom_1", "key-1")
        finally:
            await client.aclose()

    found = asyncio.run(read_all_of_it())
    assert found is not None
    of_each = {
        place: [one for one in written if (one.event_id, one.destination_id) == place]
        for place, _ in log
    }
    assert {(o.event_id, o.destination_id): (o.outcome, o.at) for o in found.outcomes} == {
        place: (final_word(told).outcome, final_word(told).at) for place, told in of_each.items()
    }
    assert len(found.outcomes) == len(of_each)


texts = st.text(
    st.sampled_from("1:_ o\0é") | st.characters(exclude_categories=["Cs"]),
    max_size=MAX_DISPATCH_KEY_CHARS,
)
pairs = st.tuples(st.sampled_from(["dom_1", "dom_11"]), texts)


@given(st.lists(pairs, unique=True, max_size=5), st.lists(texts, unique=True, max_size=5))
def test_no_text_is_taken_for_another(
    valkey: RedisSettings, keys: list[tuple[str, str]], event_ids: list[str]
) -> None:
    places = [(event_id, where) for event_id in event_ids for where in ("dst_1", None)]

    async def found() -> list[Dispatch | None]:
        client = connect(valkey)
        try:
            await client.flushdb()
            dispatches = Dispatches(client)
            for number, (domain_id, key) in enumerate(keys):
                await dispatches.accept(domain_id, key, number, event_ids)
                of_key: dict[str, Any] = {"domainId": domain_id, "dispatchKey": key, "at": number}
                await dispatches.note(
                    [outcome(eventId=e, destinationId=d, **of_key) for e, d in places]
                )
            return [await dispatches.status(*key) for key in keys]
        finally:
            await client.aclose()

    for number, dispatch in enumerate(asyncio.run(found())):
        assert dispatch is not None
        assert (dispatch.accepted_at, dispatch.event_ids) == (number, tuple(event_ids))
        assert {(o.event_id, o.destination_id) for o in dispatch.outcomes} == set(places)
        assert {o.at for o in dispatch.outcomes} <= {number}


@pytest.mark.parametrize("kind", OutcomeKind)
async def test_a_duplicate_gives_way_to_what_became_of_the_copy_that_counts(
    dispatches: Dispatches, kind: OutcomeKind
) -> None:
    """The streams tell of a second copy at once, perhaps before the first one is delivered."""
    await dispatches.note([outcome(OutcomeKind.DUPLICATE, at=1), outcome(kind, at=2)])
    await dispatches.note([outcome(OutcomeKind.DUPLICATE, at=3)])
    (told,) = (await known(dispatches)).outcomes
    assert (told.outcome, told.at) == (kind, 1 if kind is OutcomeKind.DUPLICATE else 2)


@pytest.mark.parametrize("passing", PASSING)
async def test_what_passes_replaces_what_passed_and_nothing_final(
    dispatches: Dispatches, passing: OutcomeKind
) -> None:
    for at, kind in enumerate([OutcomeKind.RETRYING, passing, OutcomeKind.EXPIRED, passing]):
        await dispatches.note([outcome(kind, at=at)])
        (told,) = (await known(dispatches)).outcomes
        assert told.at == min(at, 2)
