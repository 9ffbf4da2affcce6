"""The sinks stage alone: deliveries go in, and what comes out is read back."""

import json
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import orjson
from confluent_kafka import Producer

from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.delivery import Delivery
from schemas.event import Event
from schemas.topics import AUDIT, DEAD_LETTERS, deliveries
from tests.integration.flow import Workers
from tests.integration.parts import Part
from tests.integration.system import FINAL, Shop, System, eventually, purchase

_ID: Final = "@event-id@"


@dataclass
class Outflow:
    """A shop's way through the sinks."""

    system: System
    redis: Part
    shop: Shop
    sandbox_url: str
    sent: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Platform → the ids that were fed."""
    _count: int = 0

    def feed(self, platform: str, event_ids: Iterable[str], **headers: Any) -> None:
        """Put a delivery of each event onto the log."""
        prefix = self.system.environment["CAPISTREAM_KAFKA__TOPIC_PREFIX"]
        for event_id in event_ids:
            delivery = self._delivery(platform, event_id, headers)
            record = delivery.to_record(self._payload(platform, event_id))
            while True:
                try:
                    self._producer.produce(
                        prefix + deliveries(platform), record.value, record.key,
                        headers=record.headers,
                    )  # fmt: skip
                except BufferError:
                    self._producer.poll(0.1)
                else:
                    break
            self.sent[platform].append(event_id)
        assert self._producer.flush(30) == 0

    def _delivery(self, platform: str, event_id: str, headers: Mapping[str, Any]) -> Delivery:
        self._count += 1
        now_ms = time.time_ns() // 1_000_000
        said: dict[str, Any] = {
            "domain_id": self.shop.domain_id,
            "destination_id": self.shop.destinations[platform],
            "platform": platform,
            "event_id": event_id,
            "event_name": "Purchase",
            "event_time": now_ms - 5000,
            "received_at": now_ms,
            "source": f"raw-events-0-{self._count}",
        }
        return Delivery(**(said | dict(headers)))

    def _payload(self, platform: str, event_id: str) -> bytes:
        return self._templates[platform].replace(_ID, event_id).encode()

    @cached_property
    def _templates(self) -> dict[str, str]:
        event = Event.model_validate(purchase(_ID))
        found = {}
        for slug, platform in PLATFORMS.items():
            destination = Destination(id="dst", platform=slug, account="a", sealed="s")
            payload = platform.payload(event, destination)
            found[slug] = orjson.dumps(payload).decode()
        return found

    @cached_property
    def _producer(self) -> Producer:
        return Producer(
            {"bootstrap.servers": self.system.description["kafka"], "linger.ms": 5, "acks": "all"}
        )

    @contextmanager
    def workers(self, count: int = 1, module: str = "capistream") -> Iterator[Workers]:
        """So many sinks, each started again when it ends."""
        command = [sys.executable, "-m", module, "sinks", "--data", str(self.system.directory)]
        log = self.system.directory.parent / "sinks.log"
        workers = Workers(command, self.system._environment(), log)
        closing = threading.Event()
        watcher = threading.Thread(target=workers.watch, args=(closing,))
        workers.add(count)
        watcher.start()
        try:
            yield workers
        finally:
            closing.set()
            watcher.join()
            while workers.pids:
                workers.dismiss()

    def script(self, platform: str, *steps: Mapping[str, Any]) -> None:
        """Make the platform misbehave."""
        self._control("POST", "script", {"platform": platform, "steps": steps})

    def behave(self) -> None:
        """Drop what is left of the scripts."""
        self._control("DELETE", "script")

    def stats(self, platform: str) -> dict[str, int]:
        """Requests, accepted, refused and duplicates at the platform."""
        found: dict[str, int] = self._control("GET", "stats")["platforms"].get(platform, {})
        return Counter(found)

    def received(self, platform: str) -> Counter[str]:
        """Event id → how often the platform accepted it."""
        events = self._control("GET", f"received?platform={platform}")["events"]
        return Counter(one["eventId"] for one in events if one["accepted"])

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self.sandbox_url}/_sandbox/{path}"
        data = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(url, data, method=method)  # noqa: S310 - our own sandbox
        with urllib.request.urlopen(call, timeout=20) as answer:  # noqa: S310 - the same
            return json.loads(answer.read() or b"null")

    def told(self) -> list[dict[str, Any]]:
        """All on audit, as it lies there: what is there twice comes twice."""
        return [json.loads(record.value()) for record in self.system.records(AUDIT)]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts on audit."""
        return [one for one in self.told() if one.get("kind") == "alert"]

    def fates(self, platform: str) -> dict[str, list[str]]:
        """Event id → its outcomes, in order, as they lie on audit."""
        found = defaultdict(list)
        for one in sorted(self.told(), key=lambda told: int(told["at"])):
            if one["kind"] == "outcome" and one["platform"] == platform:
                found[one["eventId"]].append(one["outcome"])
        return dict(found)

    def until_final(self, platform: str, within: float) -> dict[str, list[str]]:
        """Wait until every delivery to a platform has a final outcome."""
        return self._until_any(platform, FINAL, within)

    def until_told(self, platform: str, outcome: str, within: float) -> dict[str, list[str]]:
        """Wait until every delivery to a platform has this outcome."""
        return self._until_any(platform, {outcome}, within)

    def _until_any(self, platform: str, kinds: set[str], within: float) -> dict[str, list[str]]:
        fates: dict[str, list[str]] = {}

        def missing() -> int:
            fates.update(self.fates(platform))
            told = {one for one, outcomes in fates.items() if kinds & set(outcomes)}
            return len(set(self.sent[platform]) - told)

        eventually(missing, within=within, until=lambda count: count == 0)
        return fates

    def letters(self) -> list[Any]:
        """The dead letters."""
        return self.system.records(DEAD_LETTERS)


@contextmanager
def sandbox(system: System) -> Iterator[str]:
    """A sandbox of one's own; answers its address."""
    part = Part(
        lambda port: [
            *(sys.executable, "-m", "capistream", "sandbox", "--port", str(port)),
            *("--data", str(system.directory)),
        ],
        _answers,
        system.directory.parent / "sandbox.log",
    )
    part.start()
    try:
        yield f"http://127.0.0.1:{part.port}"
    finally:
        part.kill()


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/_sandbox/health", timeout=1).close()
    except OSError:
        return False
    return True
