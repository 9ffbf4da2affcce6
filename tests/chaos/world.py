"""A whole system whose every part can be taken away: its processes, the log, Redis, the platforms.

On Apache Kafka the broker is killed and started again on what it had written. The embedded one
keeps its log in memory and would come back empty, so it is only frozen; a cluster that
``KAFKA_BOOTSTRAP`` names is not ours to touch.
"""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition
from redis import Redis

from capistream.embedded import ensure_secrets
from tests.chaos.oracle import Receipt
from tests.integration.conftest import ON_APACHE, _answers
from tests.integration.parts import Part, embedded_broker, redis_url, valkey
from tests.integration.system import PLATFORMS, System, eventually
from tests.kafka.apache import BOOTSTRAP_VARIABLE, apache_kafka, kafka_node

SETTINGS: Final = {
    "CAPISTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
    "CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE": "0",
    # Slow answers are given up on, and what outlives a few tries goes through the retry topics.
    "CAPISTREAM_SINKS__REQUEST_TIMEOUT_SECONDS": "2",
    "CAPISTREAM_SINKS__BACKOFF_CAP_SECONDS": "2",
    "CAPISTREAM_SINKS__IN_PLACE_SECONDS": "2",
    "CAPISTREAM_SINKS__RETRY_SECONDS": "1,2,4",
    "CAPISTREAM_SINKS__PARKED_SECONDS": "2",
    "CAPISTREAM_AUDIT__TRANSACTIONS": json.dumps(ON_APACHE),
    "CAPISTREAM_MANAGE__DEVELOPMENT": "true",
}
GROUPS: Final = {
    "streams": "raw-events",
    "sinks": "deliveries.",
    "audit": "audit",
    "audit-log": "audit",
}
"""Consumer group → how the names of the topics that it reads begin."""

_TIMEOUT_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Log:
    """A broker, and how it goes away for so many seconds; None where it must stay."""

    bootstrap: str
    outage: Callable[[float], None] | None


@dataclass(frozen=True, slots=True)
class World:
    """The system under test and all that it stands on."""

    system: System
    log: Log
    redis: Part
    emptied: list[tuple[int, int]] = field(default_factory=list)
    """Between which moments, Unix milliseconds, Redis was emptied."""
    expired: list[tuple[str, str]] = field(default_factory=list)
    """(domain id, platform) of each destination whose token ran out."""

    def kill(self, name: str) -> None:
        """``kill -9`` for a stage; waits for it where it has just ended by itself."""
        eventually(lambda: self._is_killed(name), within=30, until=bool)

    def _is_killed(self, name: str) -> bool:
        try:
            self.system.kill(name)
        except ProcessLookupError:
            return False
        return True

    def empty_redis(self) -> None:
        """``FLUSHALL``."""
        began_at = now_ms()
        with Redis(port=self.redis.port) as client:
            client.flushall()
        self.emptied.append((began_at, now_ms()))

    def misbehave(self, platform: str, steps: Sequence[Mapping[str, Any]]) -> None:
        """Have a platform play steps (``sandbox.script``)."""
        self._ask("POST", "script", {"platform": platform, "steps": list(steps)})

    def behave(self) -> None:
        """Have every platform answer truly again."""
        self._ask("DELETE", "script")

    def receipts(self) -> dict[Receipt, bool]:
        """Each event that a platform got, and whether the platform took it."""
        return {Receipt(*name): taken for *name, taken in json.loads(self._ask("GET", "receipts"))}

    def reposted(self) -> dict[str, int]:
        """Platform → how many of the events that it took it had taken before."""
        platforms = json.loads(self._ask("GET", "stats"))["platforms"]
        return {slug: counts["duplicates"] for slug, counts in platforms.items()}

    def _ask(self, method: str, path: str, body: Any = None) -> bytes:
        call = urllib.request.Request(  # noqa: S310 - our own sandbox
            f"{self.system.sandbox_url}/_sandbox/{path}",
            None if body is None else json.dumps(body).encode(),
            method=method,
        )
        with urllib.request.urlopen(call, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the same
            found: bytes = answer.read()
            return found

    def audit(self) -> list[dict[str, Any]]:
        """Every committed record of audit."""
        return [json.loads(record.value()) for record in self.system.records("audit")]

    def lag(self) -> dict[str, int]:
        """How many records each group has still to do, by topic; empty when all is done.

        The groups are asked in the order in which an event meets them: what one has done with by
        then, the next one has before it.
        """
        found: dict[str, int] = {}
        for group, prefix in GROUPS.items():
            found |= self._lag(group, prefix)
        return found

    def _lag(self, group: str, prefix: str) -> dict[str, int]:
        """Reads from where the group is to the end of each partition: what the embedded broker
        says of its ends is wrong."""
        before = self.system.environment["CAPISTREAM_KAFKA__TOPIC_PREFIX"]
        consumer = Consumer(
            {
                "bootstrap.servers": self.log.bootstrap,
                "group.id": before + group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            topics = consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics.values()
            partitions = [
                TopicPartition(topic.topic, number)
                for topic in topics
                if topic.topic.startswith(before + prefix)
                for number in topic.partitions
            ]
            reached = consumer.committed(partitions, timeout=_TIMEOUT_SECONDS)
            consumer.assign(
                [TopicPartition(p.topic, p.partition, max(0, p.offset)) for p in reached]
            )
            return _left(consumer, len(partitions), before)
        finally:
            consumer.close()


def _left(consumer: Consumer, partitions: int, before: str) -> dict[str, int]:
    """How many records there are to the end of what is assigned, by topic."""
    found: dict[str, int] = {}
    ended: set[tuple[str | None, int | None]] = set()
    while len(ended) < partitions:
        for message in consumer.consume(1000, 0.05):
            if message.error() is None:
                name = (message.topic() or "").removeprefix(before)
                found[name] = found.get(name, 0) + 1
            else:
                ended.add((message.topic(), message.partition()))
    return found


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


@contextmanager
def world(directory: Path) -> Iterator[World]:
    """A running system with a log, a Redis and a sandbox of its own."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    ensure_secrets(data)
    with ExitStack() as cleanup:
        log = cleanup.enter_context(_log(directory / "log"))
        redis = cleanup.enter_context(valkey(directory / "valkey"))
        sandbox = cleanup.enter_context(_sandbox(directory))
        url = f"http://127.0.0.1:{sandbox.port}"
        environment = SETTINGS | {
            "CAPISTREAM_KAFKA__BOOTSTRAP": log.bootstrap,
            "CAPISTREAM_KAFKA__TOPIC_PREFIX": f"chaos-{os.getpid()}-{directory.name}-",
            "CAPISTREAM_REDIS__URL": redis_url(redis),
            **{f"CAPISTREAM_PLATFORMS__{slug.upper()}__BASE_URL": url for slug in PLATFORMS},
        }
        system = System(data, [], environment, sandbox_url=url)
        cleanup.callback(_stop, system)
        system.start()
        yield World(system, log, redis)


def _stop(system: System) -> None:
    if system.process is not None and system.process.poll() is None:
        system.stop()


@contextmanager
def _log(directory: Path) -> Iterator[Log]:
    if not ON_APACHE:
        with embedded_broker(directory) as part:
            yield Log(f"127.0.0.1:{part.port}", _outage(part.freeze, part.thaw))
    elif os.environ.get(BOOTSTRAP_VARIABLE):
        with apache_kafka(directory) as bootstrap:
            yield Log(bootstrap, None)
    else:
        with kafka_node(directory) as node:
            yield Log(node.bootstrap, _outage(node.kill, node.start))


def _outage(begin: Callable[[], None], end: Callable[[], None]) -> Callable[[float], None]:
    def go_away(seconds: float) -> None:
        begin()
        time.sleep(seconds)
        end()

    return go_away


@contextmanager
def _sandbox(directory: Path) -> Iterator[Part]:
    part = Part(
        lambda port: [sys.executable, "-m", "tests.chaos.stand_in", "--port", str(port)],
        lambda port: _answers(f"http://127.0.0.1:{port}/_sandbox/health"),
        directory / "sandbox.log",
    )
    part.start()
    try:
        yield part
    finally:
        part.kill()
