"""A log full of deliveries, a sinks process that drains it, and what the sandbox and audit tell of it.

A run has topics and a process of its own. The process works a few deliveries first, so that nothing is
measured of its start, and stands still (SIGSTOP) whenever the log is filled. The time of what it drains
is that between its going on and the last outcome, by that record's own timestamp, read when all is
over: while the process works, nobody looks but at the group's offsets, a few times a second.
"""

import asyncio
import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from benchmarks.doors import START_SECONDS, Door, cpu_seconds, make_topics, start_servers
from benchmarks.sinks_work import FED, GROUP, POSTED, delivery_record, shop
from capistream.embedded import ensure_secrets, free_port
from capistream.supervisor import Child, Supervisor
from manage.publish import publish
from runtime.clock import SystemClock
from runtime.kafka import client_config
from runtime.settings import SECRETS_FILE, STACK_FILE, Settings, load_settings
from runtime.vault import Vault
from schemas.record import Record
from schemas.topics import AUDIT, topic_table

PATIENCE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.2
_CALL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Bed:
    """The servers that all runs share."""

    directory: Path
    servers: Mapping[str, Any]
    sandbox: Door
    _session: aiohttp.ClientSession

    async def stats(self, platform: str) -> dict[str, int]:
        """Requests and events that the platform had, accepted and refused, since it was started."""
        told = await self._control("GET", "stats")
        found: dict[str, int] = told["platforms"].get(platform, {})
        return dict.fromkeys(("requests", "accepted", "refused", "duplicates"), 0) | found

    async def script(self, platform: str, **step: Any) -> None:
        """Make the platform misbehave until ``behave``."""
        steps = [step | {"times": None}]
        await self._control("POST", "script", {"platform": platform, "steps": steps})

    async def behave(self) -> None:
        """Let all platforms behave again."""
        await self._control("DELETE", "script")

    async def _control(self, method: str, path: str, body: Any = None) -> Any:
        url = f"http://127.0.0.1:{self.sandbox.port}/_sandbox/{path}"
        async with self._session.request(method, url, json=body) as answer:
            answer.raise_for_status()
            return orjson.loads(await answer.read() or b"null")


@asynccontextmanager
async def made_bed(directory: Path) -> AsyncIterator[Bed]:
    """Start log, Valkey and sandbox, and stop them when the body ends."""
    supervisor = Supervisor(SystemClock())
    try:
        ensure_secrets(directory)
        servers = await start_servers(supervisor, directory)
        sandbox = await _start_sandbox(supervisor, directory)
        url = {"base_url": f"http://127.0.0.1:{sandbox.port}"}
        # The embedded broker cannot do transactions.
        servers["audit"] = {"transactions": bool(os.environ.get("KAFKA_BOOTSTRAP"))}
        servers["platforms"] = dict.fromkeys(FED, url)
        async with aiohttp.ClientSession() as session:
            yield Bed(directory, servers, sandbox, session)
    finally:
        await supervisor.stop_together()


async def _start_sandbox(supervisor: Supervisor, directory: Path) -> Door:
    port = free_port()
    command = [sys.executable, "-m", "capistream", "sandbox", "--port", str(port)]
    child = Child(
        "sandbox", [*command, "--data", str(directory)], directory / "sandbox.log", restarts=False
    )
    await supervisor.start(child)
    assert child.process is not None  # noqa: S101 - it was started
    async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/_sandbox/health"):
                    return Door("sandbox", port, child.process.pid)
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Told:
    """An outcome as it lies on audit."""

    platform: str
    event_id: str
    outcome: str
    received_at: int
    produced_at: int
    """The record's own timestamp; like ``received_at`` in Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What draining some deliveries took."""

    seconds: float
    cpu_seconds: float
    """Of the process, with all its threads."""
    outcomes: dict[str, str]
    """Event id → final outcome."""


class Audit:
    """Reads audit on from where it stopped."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(
            client_config(settings.kafka)
            | {"group.id": "reader", "enable.auto.commit": False, "fetch.wait.max.ms": 50}
        )
        (row,) = (row for row in topic_table(()) if row.name == AUDIT)
        topic = settings.topic(AUDIT)
        self._consumer.assign([TopicPartition(topic, n, 0) for n in range(row.partitions)])

    def read(self, seconds: float) -> Told | None:
        """The next outcome, if there is one within so many seconds."""
        message = self._consumer.poll(seconds)
        if message is None or message.error() is not None:
            return None
        told = orjson.loads(message.value() or b"{}")
        if told.get("kind") != "outcome":
            return None
        return Told(
            told["platform"],
            told["eventId"],
            told["outcome"],
            told["receivedAt"],
            message.timestamp()[1],
        )

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()


class Run:
    """One sinks process on topics of its own."""

    def __init__(self, bed: Bed, name: str) -> None:
        """Nothing is running yet."""
        self.bed = bed
        self._name = f"{name}-{secrets.token_hex(3)}"
        self._directory = bed.directory / self._name
        self.settings = self._write_settings()
        self._supervisor = Supervisor(SystemClock())
        self._numbers = itertools.count()
        self._ends: dict[tuple[str, int], int] = {}
        kafka = client_config(self.settings.kafka)
        self._producer = Producer(
            kafka | {"acks": "all", "linger.ms": 5, "queue.buffering.max.messages": 1_000_000}
        )
        # The offsets as they are, not only those that no transaction can change any more.
        self._offsets = Consumer(
            kafka | {"group.id": self.settings.topic(GROUP), "isolation.level": "read_uncommitted"}
        )
        self.audit = Audit(self.settings)

    def _write_settings(self) -> Settings:
        self._directory.mkdir()
        kafka = self.bed.servers["kafka"]
        own = kafka | {"topic_prefix": f"{kafka['topic_prefix']}{self._name}-"}
        (self._directory / STACK_FILE).write_bytes(orjson.dumps({**self.bed.servers, "kafka": own}))
        sealed_with = (self.bed.directory / SECRETS_FILE).read_bytes()
        (self._directory / SECRETS_FILE).write_bytes(sealed_with)
        return load_settings(self._directory)

    async def start(self) -> None:
        """Start the process and wait until it has worked something for each destination."""
        await make_topics(self.settings, FED)
        await publish(self.settings, [shop(Vault(self.settings.vault))])
        command = [sys.executable, "-m", "capistream", "sinks", "--data", str(self._directory)]
        command += itertools.chain(*(("--platform", slug) for slug in FED))
        log = self._directory / "sinks.log"
        await self._supervisor.start(Child("sinks", command, log, restarts=False))
        for slug in FED:
            self.feed(slug, [f"{self._name}-warm-up-{n}" for n in range(100)])
        await self._until_committed()

    async def stop(self) -> None:
        """End the process and everything that it left: nobody waits for it any more."""
        for child in self._supervisor.children:
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
        await self._supervisor.stop_together()
        self._offsets.close()
        self.audit.close()
        await asyncio.to_thread(self._delete_topics)

    def _delete_topics(self) -> None:
        names = [self.settings.topic(row.name) for row in topic_table(FED)]
        admin = AdminClient(client_config(self.settings.kafka))
        for future in admin.delete_topics(names, operation_timeout=_CALL_SECONDS).values():
            with suppress(KafkaException):  # there were none yet
                future.result(_CALL_SECONDS)

    def feed(self, platform: str, event_ids: Sequence[str]) -> None:
        """Put deliveries of this moment on the log."""
        self._produce(self._records(platform, event_ids))

    def _records(self, platform: str, event_ids: Sequence[str]) -> list[Record]:
        now_ms = _now_ms()
        return [delivery_record(platform, one, next(self._numbers), now_ms) for one in event_ids]

    def _produce(self, records: Sequence[Record]) -> None:
        for record in records:
            self._producer.produce(
                self.settings.topic(record.topic),
                record.value,
                record.key,
                headers=record.headers,
                on_delivery=self._on_delivery,
            )
            self._producer.poll(0)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            raise SystemExit(f"the log could not be filled: {error.str()}")
        place = message.topic() or "", message.partition() or 0
        self._ends[place] = max(self._ends.get(place, 0), (message.offset() or 0) + 1)

    async def drain(self, event_ids: Sequence[str]) -> Drained:
        """Have these delivered, all of which lie on the log when the first one is taken.

        Raises ``SystemExit`` when the process ends, takes too long, or leaves one out.
        """
        records = self._records(
            POSTED, event_ids
        )  # before, for Kafka waits 10 s for who stands still
        self._tell(signal.SIGSTOP)
        try:
            await asyncio.to_thread(self._produce, records)
            await asyncio.to_thread(self._flush)
            cpu, started_at = cpu_seconds(self._pid), _now_ms()
        finally:
            self._tell(signal.SIGCONT)
        await self._until_committed()
        cpu = cpu_seconds(self._pid) - cpu
        told = await asyncio.to_thread(lambda: list(self._told(set(event_ids))))
        seconds = (max(one.produced_at for one in told) - started_at) / 1000
        return Drained(seconds, cpu, {one.event_id: one.outcome for one in told})

    def _told(self, waiting: set[str]) -> Iterator[Told]:
        """The outcomes of these, one each."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting:
            told = self.audit.read(0.2)
            if told is not None and told.event_id in waiting:
                waiting.remove(told.event_id)
                yield told
            elif time.monotonic() > deadline:
                raise SystemExit(f"{len(waiting)} deliveries have no outcome")

    def _flush(self) -> None:
        if self._producer.flush(PATIENCE_SECONDS):
            raise SystemExit("the log could not be filled in time")

    async def _until_committed(self) -> None:
        """Until all that was fed is finished."""
        await asyncio.to_thread(self._flush)
        asked = [TopicPartition(*place) for place in self._ends]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = await asyncio.to_thread(self._offsets.committed, asked, _CALL_SECONDS)
            if all(one.offset >= self._ends[one.topic, one.partition] for one in found):
                return
            self.check()
            if time.monotonic() > deadline:
                self._give_up("did not drain the log in time")
            await asyncio.sleep(_LOOK_SECONDS)

    def check(self) -> None:
        """Raises ``SystemExit`` when the process has ended."""
        if self._supervisor.failed.done():
            self._give_up("ended")

    def _give_up(self, why: str) -> None:
        sys.stderr.write((self._directory / "sinks.log").read_text(errors="replace")[-3000:])
        raise SystemExit(f"the sinks process {why}")

    @property
    def _pid(self) -> int:
        (child,) = self._supervisor.children
        assert child.process is not None  # noqa: S101 - it was started
        return child.process.pid

    def _tell(self, sign: signal.Signals) -> None:
        self.check()
        os.kill(self._pid, sign)


@asynccontextmanager
async def running(bed: Bed, name: str) -> AsyncIterator[Run]:
    """A started process, stopped when the body ends."""
    run = Run(bed, name)
    try:
        await run.start()
        yield run
    finally:
        await run.stop()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
