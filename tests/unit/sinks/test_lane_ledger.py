"""A record that comes a second time is not posted a second time."""

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from capistream.embedded import free_port
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.delivery import Delivery
from sinks.ledger import Ledger
from tests.unit.sinks.sink import DAY_MS, Sink


def die(sink: Sink) -> None:
    """All that was not committed is lost, and the next process begins where it was."""
    sink.log.records.clear()
    sink.come_back()


async def delivered(sink: Sink, event_id: str = "e-1") -> Delivery:
    """A delivery that this process is done with, of which nothing was committed."""
    delivery = sink.delivery("meta", event_id)
    sink.log.committed = {}
    lane = sink.lane("meta")
    lane.add(sink.read(delivery))
    await sink.until_done()
    sink.log.committed = {}
    die(sink)
    return delivery


async def test_what_was_taken_before_gets_its_outcome_without_a_post(sink: Sink) -> None:
    delivery = await delivered(sink)
    lane = sink.lane("meta")
    lane.add(sink.read(delivery, offset=0))
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    assert sorted(sink.told()) == [("e-1", "delivered"), ("e-2", "delivered")]
    assert await sink.accepted("meta") == ["e-1", "e-2"]
    assert sink.log.committed["deliveries.meta", 0].offset == 2


async def test_a_copy_elsewhere_has_no_outcome_of_its_own(sink: Sink) -> None:
    delivery = await delivered(sink)
    lane = sink.lane("meta")
    lane.add(sink.read(delivery, offset=7))
    await sink.until_done()
    assert sink.told() == []
    assert await sink.accepted("meta") == ["e-1"]
    assert sink.log.committed["deliveries.meta", 0].offset == 8


@pytest.mark.parametrize("offsets", [(0, 7), (7, 0)])
async def test_a_record_and_its_copy_that_come_again_together_have_one_outcome(
    sink: Sink, offsets: tuple[int, int]
) -> None:
    """Whichever comes first: the other one must not be taken for the one that is answered for."""
    delivery = await delivered(sink)
    lane = sink.lane("meta")
    for offset in offsets:
        lane.add(sink.read(delivery, offset=offset))
    await sink.until_done()
    assert sink.told() == [("e-1", "delivered")]
    assert await sink.accepted("meta") == ["e-1"]
    assert sink.tracker.unfinished == 0


@pytest.mark.parametrize("step", ["expired_token", "throttle"])
async def test_what_was_taken_and_has_to_wait_when_it_comes_again_gets_its_outcome_later(
    sink: Sink, step: str
) -> None:
    """It waits unasked, in another topic; there it is still the record that was taken."""
    delivery = await delivered(sink)
    await sink.script(
        "meta", {"kind": step, "times": 1} | ({"retry_after": 45.0} if step == "throttle" else {})
    )
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-2"))
    await sink.until_done()
    lane.add(sink.read(delivery, offset=0))
    await sink.until_done()
    ((_, waiting),) = [one for one in sink.elsewhere if one[1].event_id == "e-1"]
    sink.clock.ms += DAY_MS
    sink.lane("meta").add(sink.read(waiting, offset=9))
    await sink.until_done()
    assert [kind for name, kind in sink.told() if name == "e-1"][-1] == "delivered"
    assert await sink.accepted("meta") == ["e-1"]


async def test_a_copy_that_is_too_old_by_now_does_not_take_the_word_back(sink: Sink) -> None:
    delivery = await delivered(sink)
    sink.clock.ms += 8 * DAY_MS
    lane = sink.lane("meta")
    lane.add(sink.read(delivery, offset=0))
    lane.add(sink.read(delivery._replace(source="another"), offset=1))
    await sink.until_done()
    assert sorted(outcome.outcome for outcome in sink.outcomes) == ["delivered", "expired"]


async def test_what_was_rejected_before_is_asked_again_and_its_copies_are_not(sink: Sink) -> None:
    delivery = await delivered(sink, "refuse-at-meta")
    assert await sink.requests() == 1
    lane = sink.lane("meta")
    lane.add(sink.read(delivery, offset=0))
    await sink.until_done()
    assert sink.told() == [("refuse-at-meta", "rejected")]
    lane.add(sink.read(delivery, offset=1))
    await sink.until_done()
    assert sink.told() == [("refuse-at-meta", "rejected")]
    assert len(sink.dead) == 1
    assert await sink.requests() == 2


async def test_what_is_still_to_be_tried_is_not_in_it(sink: Sink, redis_client: Redis) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 45.0})
    await sink.deliver("meta", "e-1")
    assert await redis_client.keys() == []
    lane = sink.lane("meta")
    lane.add(sink.read(sink.elsewhere[0][1], offset=1))
    await sink.until_done()
    assert sink.told() == [("e-1", "retrying"), ("e-1", "delivered")]
    assert len(await redis_client.keys()) == 1


async def test_a_replay_is_meant_to_be_posted_again(sink: Sink) -> None:
    """Its source is the record of the replay."""
    delivery = await delivered(sink)
    again = delivery._replace(source="replay-events-0-0", replay="rpl_1")
    lane = sink.lane("meta")
    lane.add(sink.read(again, offset=1))
    await sink.until_done()
    assert await sink.accepted("meta") == ["e-1", "e-1"]


@pytest.mark.parametrize("events", [1, 5])
async def test_while_redis_is_away_deliveries_go_out(
    sink: Sink, events: int, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = RedisSettings(url=SecretStr(f"redis://127.0.0.1:{free_port()}/0"))
    client = connect(nowhere)
    sink.ledger = Ledger(client, sink.clock, 600)
    ids = [f"e-{number}" for number in range(events)]
    await sink.deliver("meta", *ids)
    assert sink.told() == [(event_id, "delivered") for event_id in ids]
    await client.aclose()
    shown = capfd.readouterr()
    assert "The sent ledger cannot be asked" in shown.out + shown.err
