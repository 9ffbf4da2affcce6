"""The live stream on a real log: from its end, of one's own domains, for as long as somebody looks."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import ClientSession
from confluent_kafka import Producer

from manage import sessions
from manage.live import STREAMS_PER_SESSION, Live, LiveQuery, Subscription
from runtime.clock import SystemClock
from runtime.kafka import TopicAdmin
from runtime.settings import KafkaSettings, Settings
from schemas.event_log import LoggedDelivery
from schemas.outcome import Outcome
from schemas.topics import AUDIT, topic_table
from tests.integration.manage_api import running_api
from tests.sse import blocks, next_of, until_end

_numbers = itertools.count()
PARTITIONS: Final = [row for row in topic_table(()) if row.name == AUDIT]


@pytest.fixture
def settings(bootstrap: str, tmp_path: Path) -> Settings:
    """Of a log where nothing is yet."""
    prefix = f"live{next(_numbers)}-{os.getpid()}-"
    return Settings(
        data_dir=tmp_path, kafka=KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix)
    )


@pytest.fixture
async def live(settings: Settings) -> AsyncIterator[Live]:
    """Followed by nobody yet."""
    made = Live(settings, SystemClock())
    yield made
    await made.close()


@pytest.fixture
def say(settings: Settings) -> Callable[..., None]:
    """Puts outcomes of some domain's on the log, by their event ids; or bytes as they are."""
    TopicAdmin(settings.kafka).create(PARTITIONS)
    producer = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap, "linger.ms": 0, "log_level": 2}
    )

    def say(domain_id: str, *told: str | bytes, **changes: Any) -> None:
        for one in told:
            value = one if isinstance(one, bytes) else outcome(domain_id, one, **changes)
            producer.produce(settings.topic(AUDIT), value, domain_id)
        assert producer.flush(20) == 0

    return say


def outcome(domain_id: str, event_id: str, **changes: Any) -> bytes:
    told = {
        "outcomeId": f"{domain_id}-{event_id}",
        "domainId": domain_id,
        "destinationId": f"dst_of_{domain_id}",
        "platform": "meta",
        "eventId": event_id,
        "eventName": "Purchase",
        "eventTime": 1,
        "outcome": "delivered",
        "source": "raw-events-0-1",
        "receivedAt": 2,
        "at": 3,
    }
    record = Outcome.model_validate(told | changes).to_record()
    assert record.value is not None
    return record.value


async def caught_up(live: Live) -> None:
    async with asyncio.timeout(30):
        while not live.is_caught_up:
            await asyncio.sleep(0.02)


async def shown(subscription: Subscription, until: str) -> list[LoggedDelivery]:
    """What is shown up to the outcome of this event."""
    found: list[LoggedDelivery] = []
    async with asyncio.timeout(20):
        while not found or found[-1].event_id != until:
            await subscription.wait(1)
            lost, told = subscription.take()
            assert lost == 0
            found += told
    return found


async def test_everybody_is_shown_what_is_theirs_and_asked_for(
    live: Live, say: Callable[..., None]
) -> None:
    async with (
        live.subscribed("s1", {"dom_a", "dom_b"}, LiveQuery()) as ours,
        live.subscribed("s2", {"dom_c"}, LiveQuery()) as theirs,
        live.subscribed("s1", {"dom_a", "dom_b"}, LiveQuery(outcome="rejected")) as failures,
    ):
        await caught_up(live)
        say("dom_a", "a1", b"nonsense", b'{"kind":"alert"}', b'{"kind":"unheard"}', b"")
        say("dom_b", "b1", outcome="rejected", reason="misconfigured", code="190", detail="Token.")
        say("dom_c", "c1")
        say("dom_a", "a2", replayId="rpl_1")
        # Partitions have no order between them: wait for each of them before the last word.
        first = {one.event_id: one for one in await shown_all(ours, 3)}
        say("dom_a", "last", outcome="rejected", reason="refused_by_platform")

        assert [one.event_id for one in await shown(ours, "last")] == ["last"]
        assert [one.event_id for one in await shown(failures, "last")] == ["b1", "last"]
        assert [one.event_id for one in await shown(theirs, "c1")] == ["c1"]
    assert sorted(first) == ["a1", "a2", "b1"]
    assert first["a2"].replay_id == "rpl_1"
    told = first["b1"]
    assert (told.outcome, told.reason) == ("rejected", "misconfigured")
    assert (told.code, told.detail, told.at) == ("190", "Token.", 3)


async def shown_all(subscription: Subscription, count: int) -> list[LoggedDelivery]:
    found: list[LoggedDelivery] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            await subscription.wait(1)
            found += subscription.take()[1]
    return found


async def test_it_follows_for_as_long_as_somebody_looks(
    live: Live, say: Callable[..., None]
) -> None:
    say("dom_a", *(f"old{number}" for number in range(50)))
    async with live.subscribed("s1", {"dom_a"}, LiveQuery()):
        await caught_up(live)
    async with asyncio.timeout(10):
        while live.is_caught_up:
            await asyncio.sleep(0.02)
    say("dom_a", *(f"missed{number}" for number in range(50)))

    async with live.subscribed("s1", {"dom_a"}, LiveQuery()) as again:
        await caught_up(live)
        say("dom_a", "new")
        seen = [one.event_id for one in await shown(again, "new")]
    # The embedded broker tells its end wrong, by a batch at most (docs/adr/0001).
    assert not [one for one in seen if one.startswith("old")]
    assert seen[-1] == "new"


async def test_nothing_is_missed_that_is_said_once_it_has_caught_up(
    settings: Settings, say: Callable[..., None]
) -> None:
    say("dom_a", "old")
    names = [f"dom_{number}" for number in range(30)]  # in all partitions
    for _ in range(5):
        live = Live(settings, SystemClock())
        async with live.subscribed("s1", set(names), LiveQuery()) as everything:
            await caught_up(live)
            for name in names:
                say(name, f"of-{name}")
            seen = await shown_all(everything, len(names))
        await live.close()
        assert {one.event_id for one in seen} >= {f"of-{name}" for name in names}


async def test_it_waits_for_a_topic_that_is_not_there_yet(live: Live, settings: Settings) -> None:
    async with live.subscribed("s1", {"dom_a"}, LiveQuery()):
        await asyncio.sleep(1)
        assert not live.is_caught_up
        await asyncio.to_thread(TopicAdmin(settings.kafka).create, PARTITIONS)
        await caught_up(live)


async def test_it_is_served_and_does_not_hold_up_the_end(
    bootstrap: str, tmp_path: Path, settings: Settings
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/live.db"
    with ExitStack() as cleanup:
        api = await asyncio.to_thread(
            cleanup.enter_context, running_api(bootstrap, url, tmp_path / "api")
        )
        cookies = {sessions.COOKIE: await api.log_in()}
        async with ClientSession(cookies=cookies) as client:
            response = await client.get(f"{api.url}/v1/org/events/live?outcome=delivered")
            sent = blocks(response)
            await next_of(sent, "open", within=30)
            topic = api.system.environment["CAPISTREAM_KAFKA__TOPIC_PREFIX"] + AUDIT
            producer = Producer({"bootstrap.servers": settings.kafka.bootstrap, "log_level": 2})
            for tenant in (api.theirs, api.ours):
                told = outcome(tenant.domain_id, f"of-{tenant.name}")
                producer.produce(topic, told, tenant.domain_id, partition=0)
            assert producer.flush(20) == 0
            shown = await next_of(sent, "outcome")
            assert (shown.data["eventId"], shown.data["outcome"]) == ("of-ours", "delivered")

            # Whoever goes makes room, although their stream is silent.
            more = [await client.get(response.url) for _ in range(STREAMS_PER_SESSION - 1)]
            assert [one.status for one in more] == [200] * (STREAMS_PER_SESSION - 1)
            async with client.get(response.url) as refused:
                assert refused.status == 429
            for one in more:
                await next_of(blocks(one), "open")
                one.close()
            async with asyncio.timeout(10):
                while (again := await client.get(response.url)).status != 200:
                    await asyncio.sleep(0.2)
            again.close()

            api.process.terminate()
            assert await until_end(sent, within=5) == []
            assert await asyncio.to_thread(api.process.wait, 10) == 0
