"""A log full of events, a worker that drains it, and what the output tells of the time it took.

A run has topics and a consumer group of its own. Its workers join on a few events first, so that
nothing is measured of start and rebalance, then stand still (SIGSTOP) while the topic is filled. The
time of a run is that between the first and the last record that came of it, by the records' own
timestamps, read when all is over: nobody else reads or polls while a worker runs, but for a look at
the group's offsets five times a second. The embedded broker's watermarks would be wrong.
"""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks.doors import cpu_seconds, make_topics
from benchmarks.streams_work import FED, GROUP, RECORDS, SHOP, raw_record
from capistream.supervisor import Child, Supervisor
from manage.publish import publish
from runtime.clock import SystemClock
from runtime.kafka import client_config
from runtime.settings import STACK_FILE, Settings, load_settings
from schemas.topics import AUDIT, RAW_EVENTS, deliveries, topic_table

WARM_UP_EVENTS: Final = 600
PATIENCE_SECONDS: Final = 180.0
_LOOK_SECONDS: Final = 0.2
_CALL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A way to do the work."""

    name: str
    command: tuple[str, ...]
    """Of one worker; ``--data DIR`` is added."""
    workers: int = 1
    share: float = 1.0
    """Of the events that the others get: a slow one takes as long with fewer."""


@dataclass(frozen=True, slots=True)
class Drained:
    """One run."""

    events_per_second: float
    cpu_us_per_event: float
    """Of the workers' processes, with all their threads."""
    least_busy_share: float
    """What the least busy worker did of the processor time of all."""


@dataclass(frozen=True, slots=True)
class Bed:
    """The servers that all runs share."""

    directory: Path
    servers: dict[str, dict[str, Any]]


@dataclass(slots=True)
class Filling:
    """Where ``raw-events`` ends, by the delivery reports of who fills it."""

    ends: dict[int, int] = field(default_factory=dict)

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Note where one record came to lie."""
        if error is not None:
            raise SystemExit(f"the log could not be filled: {error.str()}")
        partition, offset = message.partition() or 0, message.offset() or 0
        self.ends[partition] = max(self.ends.get(partition, 0), offset + 1)


class Run:
    """One arrangement on topics of its own."""

    def __init__(self, bed: Bed, arrangement: Arrangement) -> None:
        self._arrangement = arrangement
        self._name = f"{arrangement.name}-{secrets.token_hex(3)}"
        self._directory = bed.directory / self._name
        self._settings = self._write_settings(bed)
        self._filling = Filling()
        self._supervisor = Supervisor(SystemClock())

    def _write_settings(self, bed: Bed) -> Settings:
        self._directory.mkdir()
        kafka = bed.servers["kafka"]
        own = kafka | {
            "topic_prefix": f"{kafka['topic_prefix']}{self._name}-",
            "session_timeout_seconds": 6,
        }
        (self._directory / STACK_FILE).write_bytes(orjson.dumps(bed.servers | {"kafka": own}))
        return load_settings(self._directory)

    async def drain(self, events: int) -> Drained:
        """Let the workers drain that many events.

        Raises ``SystemExit`` when a worker ends, takes too long, or leaves out a record.
        """
        await make_topics(self._settings, FED)
        await publish(self._settings, [SHOP])
        try:
            for number in range(self._arrangement.workers):
                await self._start_worker(number)
            await self._fill(WARM_UP_EVENTS)
            await self._until_committed()
            self._tell_workers(signal.SIGSTOP)
            await self._fill(events)
            before = self._cpu_seconds()
            started_ms = time.time_ns() // 1_000_000
            self._tell_workers(signal.SIGCONT)
            await self._until_committed()
            cpu = [now - then for now, then in zip(self._cpu_seconds(), before, strict=True)]
        finally:
            self._tell_workers(signal.SIGCONT)
            await self._supervisor.stop_together()
        seconds = await asyncio.to_thread(self._output_seconds, started_ms, events)
        await asyncio.to_thread(self._delete_topics)
        return Drained(events / seconds, sum(cpu) / events * 1e6, min(cpu) / sum(cpu))

    async def _start_worker(self, number: int) -> None:
        directory = self._directory / f"worker-{number}"
        directory.mkdir()
        (directory / STACK_FILE).write_bytes((self._directory / STACK_FILE).read_bytes())
        command = [*self._arrangement.command, "--data", str(directory)]
        name = f"{self._arrangement.name} {number}"
        await self._supervisor.start(Child(name, command, directory / "worker.log", restarts=False))

    def _tell_workers(self, sign: signal.Signals) -> None:
        for pid in self._pids():
            os.kill(pid, sign)

    def _cpu_seconds(self) -> list[float]:
        return [cpu_seconds(pid) for pid in self._pids()]

    def _pids(self) -> list[int]:
        found = (child.process for child in self._supervisor.children)
        return [one.pid for one in found if one is not None and one.returncode is None]

    async def _fill(self, events: int) -> None:
        producer = Producer(
            client_config(self._settings.kafka)
            | {"acks": "all", "linger.ms": 50, "queue.buffering.max.messages": 1_000_000}
        )
        run, received_at = secrets.token_hex(4), time.time_ns() // 1_000_000
        topic = self._settings.topic(RAW_EVENTS)
        for number in range(events):
            key, value = raw_record(number, received_at, run)
            producer.produce(topic, value, key, on_delivery=self._filling.on_delivery)
        if await asyncio.to_thread(producer.flush, PATIENCE_SECONDS):
            raise SystemExit("the log could not be filled in time")

    async def _until_committed(self) -> None:
        """Until the group's offsets are those of the end."""
        topic, ends = self._settings.topic(RAW_EVENTS), self._filling.ends
        looker = Consumer(
            client_config(self._settings.kafka) | {"group.id": self._settings.topic(GROUP)}
        )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            asked = [TopicPartition(topic, partition) for partition in ends]
            found = await asyncio.to_thread(looker.committed, asked, _CALL_SECONDS)
            if all(one.offset >= ends[one.partition] for one in found):
                break
            if self._supervisor.failed.done() or time.monotonic() > deadline:
                self._give_up()
            await asyncio.sleep(_LOOK_SECONDS)
        looker.close()

    def _give_up(self) -> None:
        for path in sorted(self._directory.glob("*/worker.log")):
            sys.stderr.write(path.read_text(errors="replace")[-2000:])
        raise SystemExit(f"{self._arrangement.name} ended, or did not drain the log in time")

    def _output_seconds(self, started_ms: int, events: int) -> float:
        times = [at for at in self._output_times() if at >= started_ms]
        wanted = events * RECORDS
        if len(times) < wanted:
            raise SystemExit(f"{self._arrangement.name}: {len(times)} of {wanted} records came out")
        if len(times) > wanted:
            more = len(times) - wanted
            print(f"  {more} records came twice, of a rebalance", file=sys.stderr)
        return (max(times) - min(times)) / 1000

    def _output_times(self) -> list[int]:
        """The timestamps of everything that was produced, Unix milliseconds."""
        consumer = Consumer(
            client_config(self._settings.kafka)
            | {"group.id": "reader", "enable.partition.eof": True, "enable.auto.commit": False}
        )
        rows = {row.name: row for row in topic_table(FED)}
        places = [
            TopicPartition(self._settings.topic(name), partition, 0)
            for name in (*map(deliveries, FED), AUDIT)
            for partition in range(rows[name].partitions)
        ]
        consumer.assign(places)
        times: list[int] = []
        left = len(places)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left and time.monotonic() < deadline:
            for message in consumer.consume(10_000, 0.5):
                if message.error() is None:
                    times.append(message.timestamp()[1])
                else:  # the only one is the end of a partition
                    left -= 1
        consumer.close()
        return times

    def _delete_topics(self) -> None:
        """The embedded broker holds everything in memory."""
        names = [self._settings.topic(row.name) for row in topic_table(FED)]
        admin = AdminClient(client_config(self._settings.kafka))
        for future in admin.delete_topics(names, operation_timeout=_CALL_SECONDS).values():
            future.result(_CALL_SECONDS)


async def drain(bed: Bed, arrangements: Sequence[Arrangement], events: int) -> dict[str, Drained]:
    """Each arrangement once, one after the other, by name."""
    found = {}
    for one in arrangements:
        count = max(int(events * one.share), 500)
        print(f"  {one.name}: {count} events", file=sys.stderr, flush=True)
        found[one.name] = await Run(bed, one).drain(count)
    return found
