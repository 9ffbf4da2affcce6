"""One destination's way out, against the sandbox on a real socket."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from platforms.base import AccountCredentials
from platforms.registry import PLATFORMS
from runtime.errors import CapistreamError
from runtime.settings import SinksSettings
from sandbox.app import create_app
from schemas.dead_letter import DeadLetter
from schemas.delivery import Delivery
from schemas.outcome import Outcome
from schemas.record import Record
from schemas.topics import AUDIT, DEAD_LETTERS
from sinks.client import PlatformClient
from sinks.lane import DestinationGoneError, Lane, LaneTools, Pending
from sinks.offsets import OffsetTracker, Position
from tests.unit.runtime.clocks import JumpingClock, StandingClock
from tests.unit.sandbox.samples import NOW, SAMPLES

TOKEN = "canary-token-0123456789"
NOW_MS = round(NOW * 1000)


@dataclass
class Sink:
    """The worker's part around a lane: credentials in, records out."""

    sandbox: TestClient[Any, Any]
    client: PlatformClient
    clock: JumpingClock
    token: str = TOKEN
    failure: CapistreamError | None = None
    records: list[Record] = field(default_factory=list)
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    taken: int = 0

    def lane(self, slug: str, **settings: Any) -> Lane:
        return Lane(
            PLATFORMS[slug],
            LaneTools(
                settings=SinksSettings(**{"linger_seconds": 0.01} | settings),
                clock=self.clock,
                client=self.client,
                dice=lambda: 0.5,
                record=self.record,
                credentials=self.credentials,
            ),
        )

    async def record(self, records: Sequence[Record], finished: Sequence[Position]) -> None:
        self.records += records
        for position in finished:
            self.tracker.finish(position)

    def credentials(self, delivery: Delivery) -> AccountCredentials:
        if self.failure is not None:
            raise self.failure
        account = {"pixel_id": SAMPLES[delivery.platform].account}
        platform = PLATFORMS[delivery.platform]
        return platform.Credentials.model_validate(
            account | {"access_token": SecretStr(self.token)}
        )

    def pending(self, slug: str, event_id: str, event_time: int = NOW_MS - 60_000) -> Pending:
        source = f"raw-events-0-{self.taken}"
        delivery = Delivery(
            "dom", "dst", slug, event_id, "Purchase", event_time, NOW_MS, source
        )  # fmt: skip
        position = self.tracker.take((f"deliveries.{slug}", 0), self.taken)
        self.taken += 1
        return Pending(delivery, orjson.dumps(SAMPLES[slug].named(event_id)), position)

    async def deliver(self, slug: str, *event_ids: str, event_time: int = NOW_MS - 60_000) -> None:
        """Send events as one batch and wait until each has its fate."""
        lane = self.lane(slug)
        for event_id in event_ids:
            lane.add(self.pending(slug, event_id, event_time))
        await self.flush(lane)
        assert self.tracker.unfinished == 0

    async def flush(self, lane: Lane) -> None:
        lane.flush()
        async with asyncio.timeout(20):
            await asyncio.gather(*lane.tasks())

    async def script(self, slug: str, *steps: dict[str, Any]) -> None:
        order = {"platform": slug, "account": None, "steps": list(steps)}
        async with self.sandbox.post("/_sandbox/script", json=order) as answer:
            assert answer.status == 200, await answer.text()

    async def requests(self) -> int:
        async with self.sandbox.get("/_sandbox/stats") as answer:
            return int((await answer.json())["requests"])

    async def until_asleep(self) -> None:
        async with asyncio.timeout(10):
            while not self.clock.slept:
                await asyncio.sleep(0.005)

    @property
    def outcomes(self) -> list[Outcome]:
        return [
            Outcome.model_validate_json(r.value or b"") for r in self.records if r.topic == AUDIT
        ]

    @property
    def dead(self) -> list[DeadLetter]:
        return [
            DeadLetter.from_record(r.key, r.value, r.headers)
            for r in self.records
            if r.topic == DEAD_LETTERS
        ]

    def told(self) -> list[tuple[str, str]]:
        return [(outcome.event_id, outcome.outcome) for outcome in self.outcomes]


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock(NOW_MS)


@pytest.fixture
async def sink(clock: JumpingClock, capfd: pytest.CaptureFixture[str]) -> AsyncIterator[Sink]:
    async def at_once(_: float) -> None:
        return

    app = create_app(lambda: clock.ms / 1000, at_once, kept_events=1000)
    async with TestClient(TestServer(app)) as sandbox:
        url = str(sandbox.make_url("")).rstrip("/")
        client = PlatformClient(dict.fromkeys(PLATFORMS, url), 5)
        sink = Sink(sandbox, client, clock)
        yield sink
        await client.close()
    shown = capfd.readouterr()
    written = repr(sink.records) + shown.out + shown.err
    assert TOKEN not in written
    assert "expired-token" not in written


async def test_a_good_batch_is_one_request(sink: Sink) -> None:
    ids = [f"e-{n}" for n in range(100)]
    await sink.deliver("meta", *ids)
    assert sink.told() == [(event_id, "delivered") for event_id in ids]
    assert sink.dead == []
    assert await sink.requests() == 1
    assert sink.tracker.committable() == {("deliveries.meta", 0): 100}


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
    assert await sink.requests() <= 1 + 2 * math.ceil(math.log2(100))
    (rejected,) = [o for o in sink.outcomes if o.outcome == "rejected"]
    assert (rejected.reason, rejected.code) == ("refused_by_platform", "100/2804050")
    (dead,) = sink.dead
    assert (dead.topic, dead.offset, dead.reason) == ("deliveries.meta", place, "rejected")
    assert dead.value == orjson.dumps(SAMPLES["meta"].named("refuse-at-meta"))
    assert Delivery.from_headers(dead.origin_headers).event_id == "refuse-at-meta"


async def test_a_culprit_that_is_named_costs_one_request_more(sink: Sink) -> None:
    ids = [f"e-{n}" for n in range(50)]
    ids[17] = "refuse-at-reddit"
    await sink.deliver("reddit", *ids)
    fates = dict(sink.told())
    assert fates.pop("refuse-at-reddit") == "rejected"
    assert set(fates.values()) == {"delivered"}
    assert len(fates) == 49
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
    lane = sink.lane("meta", backoff_base_seconds=86400, backoff_cap_seconds=86400)
    lane.add(sink.pending("meta", "e-1"))
    await sink.flush(lane)
    sink.client = there
    await nowhere.close()
    assert sink.told()[0] == ("e-1", "retrying")
    assert sink.told()[-1] == ("e-1", "expired")
    assert "127.0.0.1" not in (sink.outcomes[0].detail or "")


async def test_the_time_that_the_platform_names_is_kept(sink: Sink) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 7.0})
    await sink.deliver("meta", "e-1")
    assert sink.told() == [("e-1", "retrying"), ("e-1", "delivered")]
    assert sink.outcomes[0].reason == "throttled"
    assert sink.clock.slept == [7]


async def test_what_waits_until_it_is_too_old_expires(sink: Sink) -> None:
    await sink.script("meta", {"kind": "throttle", "retry_after": 3600.0, "times": None})
    await sink.deliver("meta", "e-1", event_time=NOW_MS - 7 * 86_400_000 + 1_800_000)
    assert sink.told() == [("e-1", "retrying"), ("e-1", "expired")]
    assert sink.outcomes[-1].reason == "too_old"
    assert len(sink.dead) == 1
    assert await sink.requests() == 1


async def test_what_is_too_old_at_the_start_is_not_sent(sink: Sink) -> None:
    await sink.deliver("meta", "e-1", event_time=NOW_MS - 7 * 86_400_000 - 1)
    assert sink.told() == [("e-1", "expired")]
    assert await sink.requests() == 0


async def test_a_destination_that_was_removed_rejects_what_is_left(sink: Sink) -> None:
    sink.failure = DestinationGoneError("The destination was removed.")
    await sink.deliver("meta", "e-1", "e-2")
    assert sink.told() == [("e-1", "rejected"), ("e-2", "rejected")]
    assert {outcome.reason for outcome in sink.outcomes} == {"destination_removed"}
    assert len(sink.dead) == 2
    assert await sink.requests() == 0


@pytest.mark.parametrize("clock", [StandingClock(NOW_MS)])
async def test_a_destination_that_is_not_known_yet_is_waited_for(
    sink: Sink, clock: JumpingClock
) -> None:
    sink.failure = DestinationGoneError("The destination was removed.")
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    lane.flush()
    await sink.until_asleep()
    assert sink.told() == []
    sink.failure = None
    lane.configuration_changed()
    await sink.flush(lane)
    assert sink.told() == [("e-1", "delivered")]


@pytest.mark.parametrize("clock", [StandingClock(NOW_MS)])
async def test_what_waits_is_left_to_the_log_when_the_process_stops(
    sink: Sink, clock: JumpingClock
) -> None:
    sink.token = "expired-token-0123456789"
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    lane.flush()
    await sink.until_asleep()
    lane.stop()
    await sink.flush(lane)
    assert sink.told() == [("e-1", "parked")]
    assert sink.tracker.unfinished == 1


@pytest.mark.parametrize("clock", [StandingClock(NOW_MS)])
async def test_an_expired_token_parks_until_there_are_new_credentials(
    sink: Sink, clock: JumpingClock
) -> None:
    sink.token = "expired-token-0123456789"
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    lane.flush()
    await sink.until_asleep()
    assert sink.told() == [("e-1", "parked")]
    assert sink.outcomes[0].reason == "misconfigured"
    sink.token = TOKEN
    lane.configuration_changed()
    await sink.flush(lane)
    assert sink.told() == [("e-1", "parked"), ("e-1", "delivered")]
    assert sink.tracker.unfinished == 0


@pytest.mark.parametrize("clock", [StandingClock(NOW_MS)])
async def test_credentials_that_do_not_open_park(sink: Sink, clock: JumpingClock) -> None:
    sink.failure = CapistreamError("the sealed credential does not open")
    lane = sink.lane("meta")
    lane.add(sink.pending("meta", "e-1"))
    lane.flush()
    await sink.until_asleep()
    assert sink.told() == [("e-1", "parked")]
    sink.failure = None
    lane.configuration_changed()
    await sink.flush(lane)
    assert sink.told()[-1] == ("e-1", "delivered")


async def test_a_full_batch_leaves_at_once_and_the_rest_lingers(sink: Sink) -> None:
    lane = sink.lane("meta", linger_seconds=3600)
    most = PLATFORMS["meta"].LIMITS.max_events
    for number in range(most + 1):
        lane.add(sink.pending("meta", f"e-{number}"))
    assert len(lane.tasks()) == 1
    await asyncio.gather(*lane.tasks())
    assert len(sink.outcomes) == most
    await sink.flush(lane)
    assert len(sink.outcomes) == most + 1
    assert await sink.requests() == 2


async def test_a_batch_keeps_to_the_size_of_a_body(sink: Sink) -> None:
    lane = sink.lane("meta", linger_seconds=3600)
    most = PLATFORMS["meta"].LIMITS.max_body_bytes
    pending = sink.pending("meta", "e-1")
    for _ in range(5):
        lane.add(Pending(pending.delivery, b"x" * (most // 4), pending.position))
    assert len(lane.tasks()) == 1
    for task in lane.tasks():
        task.cancel()
    await asyncio.gather(*lane.tasks(), return_exceptions=True)
