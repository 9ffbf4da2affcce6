"""The streams stage alone: raw events go in at a pace, and what comes out is read back."""

import random
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from schemas.dead_letter import DeadLetter
from schemas.delivery import Delivery
from schemas.raw_event import RawEvent
from schemas.topics import DEAD_LETTERS, RAW_EVENTS, deliveries
from tests.integration.parts import Part
from tests.integration.system import PLATFORMS, Shop, System, eventually, purchase

Named: TypeAlias = tuple[str, bytes | None]
"""A record for raw-events: its name, which is the event's id where it is one, and its bytes."""

_ID: Final = "@event-id@"
_PACE_SECONDS: Final = 0.02


class Writer:
    """Turns ids into raw events of one shop, fast."""

    def __init__(self, domain_id: str) -> None:
        """All of them are received now."""
        bought = purchase(_ID)
        bought["customData"]["orderId"] = _ID
        raw = RawEvent.model_validate(
            {
                "domainId": domain_id,
                "door": "events",
                "requestId": "r",
                "receivedAt": time.time_ns() // 1_000_000,
                "event": bought,
            }
        )
        self._template = raw.model_dump_json(exclude_none=True)

    def events(self, event_ids: Iterable[str]) -> list[Named]:
        """A purchase for each id."""
        return [(one, self._template.replace(_ID, one).encode()) for one in event_ids]


def with_repeats(event_ids: Sequence[str], dice: random.Random, share: float) -> list[str]:
    """The same, with a ``share`` of them accepted a second time, a little or much later."""
    placed = [(float(place), one) for place, one in enumerate(event_ids)]
    placed += [
        (place + dice.uniform(0.5, len(event_ids) / 10), one)
        for place, one in enumerate(event_ids)
        if dice.random() < share
    ]
    return [one for _, one in sorted(placed)]


@dataclass
class Fed:
    """What has been acknowledged by the log so far, and where it lies."""

    total: int
    places: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Name → ``topic-partition-offset`` of each of its records, in the order of the log."""
    ends: dict[int, int] = field(default_factory=dict)
    """Partition → the offset after its last record."""

    def on_delivery(self, name: str, error: KafkaError | None, message: Message) -> None:
        """Note where a record lies."""
        assert error is None, error
        partition, offset = message.partition() or 0, message.offset() or 0
        self.places[name].append(f"{message.topic()}-{partition}-{offset}")
        self.ends[partition] = offset + 1


class Workers:
    """Processes of the stage; each is started again when it ends without having been dismissed."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """None is running yet; each is one ``command``."""
        self.ended: list[int] = []
        """The exit codes of those that were started again."""
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log
        self._running: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()

    @property
    def pids(self) -> list[int]:
        """Of those that run now."""
        with self._lock:
            return [process.pid for process in self._running]

    def add(self, count: int = 1) -> None:
        """Start more of them."""
        with self._lock:
            self._running += [self._started() for _ in range(count)]

    def kill_one(self, dice: random.Random) -> None:
        """``kill -9`` for any of them; it is started again at once."""
        with self._lock:
            place = dice.randrange(len(self._running))
            self._running[place].kill()
            self._replace(place)

    def dismiss(self) -> tuple[int, float]:
        """SIGTERM for the oldest; answers its exit code and how many seconds it took."""
        with self._lock:
            process = self._running.pop(0)
        began_at = time.monotonic()
        process.terminate()
        try:
            return process.wait(timeout=60), time.monotonic() - began_at
        finally:
            process.kill()

    def watch(self, closing: threading.Event) -> None:
        """Start again whoever ends, until ``closing``."""
        while not closing.wait(0.1):
            with self._lock:
                for place, process in enumerate(self._running):
                    if process.poll() is not None:
                        self._replace(place)

    def _replace(self, place: int) -> None:
        self.ended.append(self._running[place].wait())
        self._running[place] = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log, env=self._environment)


@dataclass(frozen=True, slots=True)
class Flow:
    """A shop's events on their way through the stage, with a Redis that may be taken away."""

    system: System
    redis: Part
    shop: Shop
    offsets: Consumer
    """Asked for the group's offsets, and never reads."""

    @property
    def log(self) -> Path:
        """What the workers print."""
        return self.system.directory.parent / "streams.log"

    def topic(self, name: str) -> str:
        """The name of a topic on the cluster."""
        return self.system.environment["CAPISTREAM_KAFKA__TOPIC_PREFIX"] + name

    @contextmanager
    def feeding(self, records: Sequence[Named], *, per_second: float) -> Iterator[Fed]:
        """Put records on the log at this pace while the body runs; leaves when all are there."""
        fed, closing = Fed(len(records)), threading.Event()
        with ThreadPoolExecutor(1) as pool:
            feeding = pool.submit(self._feed, records, per_second, fed, closing)
            try:
                yield fed
                feeding.result()
            finally:
                closing.set()

    def feed(self, records: Sequence[Named], *, partition: int | None = None) -> Fed:
        """Put records on the log as fast as it takes them."""
        fed = Fed(len(records))
        self._feed(records, float("inf"), fed, threading.Event(), partition)
        return fed

    def _feed(
        self,
        records: Sequence[Named],
        per_second: float,
        fed: Fed,
        closing: threading.Event,
        partition: int | None = None,
    ) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.system.description["kafka"],
                "enable.idempotence": True,
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        place: dict[str, Any] = {} if partition is None else {"partition": partition}
        began_at = time.monotonic()
        for number, (name, value) in enumerate(records):
            while number > (time.monotonic() - began_at) * per_second:
                producer.poll(0)
                if closing.wait(_PACE_SECONDS):
                    return
            producer.produce(
                self.topic(RAW_EVENTS),
                value,
                RawEvent.key(self.shop.domain_id, name),
                on_delivery=partial(fed.on_delivery, name),
                **place,
            )
        assert producer.flush(60) == 0

    @contextmanager
    def workers(self, count: int, *, module: str = "capistream") -> Iterator[Workers]:
        """So many workers, watched while the body runs; then they are stopped."""
        command = [sys.executable, "-m", module, "streams", "--data", str(self.system.directory)]
        crew = Workers(command, self.system._environment(), self.log)
        closing = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(crew.watch, closing)
            try:
                crew.add(count)
                yield crew
            finally:
                closing.set()
                while crew.pids:
                    crew.dismiss()

    def committed(self, fed: Fed) -> int:
        """How many of the records that were fed the group has done with."""
        asked = [TopicPartition(self.topic(RAW_EVENTS), number) for number in fed.ends]
        found = self.offsets.committed(asked, timeout=20) if asked else []
        return sum(max(0, one.offset) for one in found)

    def comes_to(self, fed: Fed, count: int, within: float) -> None:
        """Wait until so many are done with."""
        eventually(lambda: self.committed(fed), within=within, until=lambda done: done >= count)

    def reaches_the_end(self, fed: Fed, within: float) -> float:
        """Wait until no partition lags; answers how many seconds that took."""
        began_at = time.monotonic()
        eventually(
            lambda: (sum(fed.ends.values()) - self.committed(fed), len(fed.ends)),
            within=within,
            until=lambda lag: lag[0] == 0,
        )
        return time.monotonic() - began_at

    def copies(self, platform: str) -> dict[str, list[str]]:
        """Event id → the sources of its deliveries to a platform, those produced again too."""
        found = defaultdict(list)
        for record in self.system.records(deliveries(platform)):
            delivery = Delivery.from_headers(record.headers())
            found[delivery.event_id].append(delivery.source)
        return found

    def letters(self) -> dict[str, DeadLetter]:
        """Where a record lay → its dead letter."""
        letters = [
            DeadLetter.from_record(record.key(), record.value(), record.headers())
            for record in self.system.records(DEAD_LETTERS)
        ]
        return {f"{one.topic}-{one.partition}-{one.offset}": one for one in letters}

    def only_first_copies_came(self, fed: Fed) -> int:
        """Each event is at each platform, and only as the first of its records.

        Answers how many deliveries were produced again.
        """
        first = {name: {places[0]} for name, places in fed.places.items()}
        again = 0
        for platform in PLATFORMS:
            found = self.copies(platform)
            lost = sorted(first.keys() - found.keys())
            assert not lost, f"{len(lost)} lost for {platform}, such as {lost[:3]}"
            others = {name: s for name, s in found.items() if set(s) != first.get(name)}
            assert not others, f"{len(others)} wrong for {platform}: {list(others.items())[:3]}"
            again += sum(len(sources) - 1 for sources in found.values())
        return again
