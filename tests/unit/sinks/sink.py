"""What stands around lanes in a process, on a sandbox behind a real socket and a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from redis.asyncio import Redis

from platforms.base import Platform
from platforms.registry import PLATFORMS
from runtime.errors import CapistreamError
from runtime.settings import SinksSettings
from sandbox.app import create_app
from schemas.alert import Alert
from schemas.dead_letter import DeadLetter
from schemas.delivery import Delivery
from schemas.outcome import Outcome
from schemas.record import Record
from schemas.topics import AUDIT, DEAD_LETTERS
from sinks.batcher import Pending
from sinks.client import PlatformClient
from sinks.journal import Journal
from sinks.lane import Lane
from sinks.ledger import Ledger
from sinks.offsets import OffsetTracker, Partition, Progress
from sinks.tools import Account, LaneTools
from tests.unit.runtime.clocks import JumpingClock, StandingClock
from tests.unit.sandbox.samples import NOW, SAMPLES

TOKEN = "canary-token-0123456789"
EXPIRED = "expired-token-0123456789"
NOW_MS = round(NOW * 1000)
DAY_MS = 86_400_000

standing = pytest.mark.parametrize("clock", [StandingClock], indirect=True)
"""Marks a test on whose clock no sleep ends: what goes on was woken by something else."""


class Log:
    """What the commits of a test come to: all of one, or nothing when it is refused."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.committed: dict[Partition, Progress] = {}
        self.commits = 0
        self.refusals = 0
        """How many of the next commits do not come about."""

    async def start(self) -> None:
        """There is nothing to get ready."""

    def generation(self) -> object:
        """One for good."""
        return 1

    async def commit(
        self, records: Sequence[Record], progress: Mapping[Partition, Progress], generation: object
    ) -> bool:
        """All or nothing."""
        assert generation == 1
        await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            return False
        self.commits += 1
        self.records += records
        self.committed |= progress
        return True

    async def close(self) -> None:
        """There is nothing to let go."""


class Gate:
    """How the sandbox lets time pass where it is told to be slow: until the gate is opened."""

    def __init__(self) -> None:
        self.waiting = 0
        self.most = 0
        """How many have waited at a time."""
        self._open = asyncio.Event()

    async def wait(self, _seconds: float) -> None:
        """Wait until it is open."""
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self._open.wait()
        self.waiting -= 1

    def open(self) -> None:
        """Let everybody go on."""
        self._open.set()


@dataclass
class Sink:
    """One process's share: accounts in, records out."""

    sandbox: TestClient[Any, Any]
    client: PlatformClient
    ledger: Ledger
    clock: JumpingClock
    gate: Gate
    token: str = TOKEN
    code: str | None = None
    """The test code that the destination has now."""
    failure: CapistreamError | None = None
    is_crowded: bool = False
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    log: Log = field(default_factory=Log)
    tracker: OffsetTracker = field(default_factory=OffsetTracker)
    failures: list[BaseException] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    taken: int = 0

    def __post_init__(self) -> None:
        self.journal = Journal(self.log, self.tracker, self.clock, 0.1)
        for slug in PLATFORMS:
            self.tracker.begin((f"deliveries.{slug}", 0), 0)

    def lane(self, platform: str | Platform, **settings: Any) -> Lane:
        """A lane that nothing lingers in, if it is not told otherwise."""
        tools = LaneTools(
            settings=SinksSettings(**{"linger_seconds": 0} | settings),
            clock=self.clock,
            client=self.client,
            ledger=self.ledger,
            dice=lambda: 0.5,
            room=self.room,
            is_crowded=lambda: self.is_crowded,
            ours=self.tracker.ours,
            record=self.journal.add,
            account=self.account,
            failed=self.failures.append,
        )
        lane = Lane(PLATFORMS[platform] if isinstance(platform, str) else platform, tools)
        self.lanes.append(lane)
        return lane

    def account(self, delivery: Delivery) -> Account:
        """What the destination is set to now; ``revision`` is its token."""
        if self.failure is not None:
            raise self.failure
        said = {
            "pixel_id": SAMPLES[delivery.platform].account,
            "access_token": SecretStr(self.token),
            "test_event_code": self.code,
        }
        credentials = PLATFORMS[delivery.platform].Credentials.model_validate(said)
        return Account(credentials, self.token)

    def delivery(self, slug: str, event_id: str, **said: Any) -> Delivery:
        """Of an event of a minute ago, of which the source is its own."""
        known: dict[str, Any] = {
            "event_time": NOW_MS - 60_000,
            "received_at": NOW_MS,
            "source": f"raw-events-0-{self.taken}",
        }
        return Delivery("dom", "dst", slug, event_id, "Purchase", **(known | said))

    def read(self, delivery: Delivery, offset: int | None = None, **said: Any) -> Pending:
        """A delivery as it is read at an offset, by default the next one."""
        if offset is None:
            offset, self.taken = self.taken, self.taken + 1
        position = self.tracker.take((f"deliveries.{delivery.platform}", 0), offset)
        assert position is not None
        payload = orjson.dumps(SAMPLES[delivery.platform].named(delivery.event_id))
        now = self.clock.monotonic()
        return Pending(delivery, payload, position, now, delivery.name, **said)

    def pending(self, slug: str, event_id: str, **said: Any) -> Pending:
        """The next record."""
        return self.read(self.delivery(slug, event_id, **said))

    async def deliver(self, slug: str, *event_ids: str, **said: Any) -> Lane:
        """Send events as one batch and wait until this process is done with each."""
        lane = self.lane(slug)
        for event_id in event_ids:
            lane.add(self.pending(slug, event_id, **said))
        await self.until_done()
        return lane

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, with everything committed that comes up."""
        async with asyncio.timeout(20):
            await self.journal.flush()
            while not condition():
                assert self.failures == []
                await asyncio.sleep(0.001)
                await self.journal.flush()

    async def until_done(self) -> None:
        """Wait until this process has nothing to do with any record any more."""
        await self.until(lambda: self.tracker.unfinished == 0)

    async def until_asleep(self, times: int = 1) -> None:
        """Wait until somebody has slept so often."""
        await self.until(lambda: len(self.clock.slept) >= times)

    def come_back(self) -> None:
        """All partitions are given away, and come back as they are committed."""
        for slug in PLATFORMS:
            partition = (f"deliveries.{slug}", 0)
            done = self.log.committed.get(partition, Progress(0, ""))
            self.tracker.forget([partition])
            self.tracker.begin(partition, done.offset, done.beyond)

    async def script(self, slug: str, *steps: dict[str, Any]) -> None:
        """Make the platform misbehave."""
        order = {"platform": slug, "account": None, "steps": list(steps)}
        async with self.sandbox.post("/_sandbox/script", json=order) as answer:
            assert answer.status == 200, await answer.text()

    async def behave(self) -> None:
        """Drop what is left of the scripts."""
        async with self.sandbox.delete("/_sandbox/script") as answer:
            assert answer.status == 204

    async def requests(self) -> int:
        """How many the sandbox has had."""
        return int((await self._shown("stats"))["requests"])

    async def accepted(self, slug: str) -> list[str]:
        """The ids of what it has taken, once for each time."""
        shown = await self._shown(f"received?platform={slug}")
        return sorted(str(event["eventId"]) for event in shown["events"] if event["accepted"])

    async def codes(self, slug: str) -> list[tuple[str, str | None]]:
        """Each event that it has had, with the test code of its request."""
        shown = await self._shown(f"received?platform={slug}")
        return sorted((event["eventId"], event["testEventCode"]) for event in shown["events"])

    async def _shown(self, path: str) -> Any:
        async with self.sandbox.get(f"/_sandbox/{path}") as answer:
            assert answer.status == 200
            return await answer.json()

    @property
    def outcomes(self) -> list[Outcome]:
        """In the order in which they came on record."""
        return [Outcome.model_validate_json(value) for value in self._audit("outcome")]

    @property
    def alerts(self) -> list[Alert]:
        """The same."""
        return [Alert.model_validate_json(value) for value in self._audit("alert")]

    def _audit(self, kind: str) -> list[bytes]:
        values = [r.value or b"" for r in self.log.records if r.topic == AUDIT]
        return [value for value in values if orjson.loads(value)["kind"] == kind]

    @property
    def dead(self) -> list[DeadLetter]:
        """Dead letters."""
        return [
            DeadLetter.from_record(r.key, r.value, r.headers)
            for r in self.log.records
            if r.topic == DEAD_LETTERS
        ]

    @property
    def elsewhere(self) -> list[tuple[str, Delivery]]:
        """What waits in a topic now, and in which."""
        return [
            (record.topic, Delivery.from_headers(record.headers))
            for record in self.log.records
            if record.topic.startswith("deliveries.")
        ]

    def told(self) -> list[tuple[str, str]]:
        """Event and outcome."""
        return [(outcome.event_id, outcome.outcome) for outcome in self.outcomes]


@asynccontextmanager
async def running_sink(clock: JumpingClock, redis: Redis) -> AsyncIterator[Sink]:
    """A sink and its sandbox, and nothing left running in the end."""
    gate = Gate()
    app = create_app(lambda: clock.ms / 1000, gate.wait, kept_events=5000)
    async with TestClient(TestServer(app)) as sandbox:
        url = str(sandbox.make_url("")).rstrip("/")
        client = PlatformClient(dict.fromkeys(PLATFORMS, url), 5)
        sink = Sink(sandbox, client, Ledger(redis, clock, 3600), clock, gate)
        try:
            yield sink
        finally:
            gate.open()
            async with asyncio.timeout(10):
                # One whose stop a test has cut short stays cancelled.
                await asyncio.gather(*(lane.stop() for lane in sink.lanes), return_exceptions=True)
            await client.close()
    assert sink.failures == []
