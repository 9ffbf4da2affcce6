"""The system under test, driven as its users drive it: by its command line and over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, TopicPartition

PLATFORMS: Final = ("meta", "tiktok", "pinterest", "snapchat", "reddit", "snackvideo")
START_SECONDS: Final = 60.0
FINAL: Final = {"delivered", "rejected", "expired", "skipped", "duplicate"}
_FORGOTTEN: Final = "CAPISTREAM_"

Found = TypeVar("Found")


def eventually(
    look: Callable[[], Found], *, within: float, until: Callable[[Found], bool]
) -> Found:
    """What ``look`` sees once ``until`` holds; fails with the last sight."""
    deadline = time.monotonic() + within
    while not until(found := look()):
        assert time.monotonic() < deadline, f"not within {within} s; last seen: {found!r}"
        time.sleep(0.1)
    return found


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway answered."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Shop:
    """A domain with a destination at each platform."""

    system: "System"
    host: str
    domain_id: str
    token: str
    sync_token: str
    destinations: Mapping[str, str] = field(default_factory=dict)
    """Platform → the id of its destination there, where that was told."""

    def post(self, *events: Mapping[str, Any]) -> Answer:
        """Send events as this shop."""
        return self.system.request(
            "/v1/events", json.dumps({"events": events}).encode(), self.headers()
        )

    def status_of(self, *events: Mapping[str, Any]) -> int:
        """What is answered to events; 0: nobody is there."""
        with suppress(OSError):
            return self.post(*events).status
        return 0

    def let_in(self, *events: Mapping[str, Any], within: float = 10) -> None:
        """Send events until they are taken: of a new shop the gateway learns a moment later."""
        eventually(
            lambda: self.status_of(*events), within=within, until=lambda status: status == 200
        )

    def deliver(self, event_id: str, within: float = 40) -> None:
        """Send a purchase, and wait until it is delivered everywhere."""
        self.let_in(purchase(event_id), within=within)
        wanted = everywhere([event_id])
        fates = eventually(self.fates, within=within, until=lambda found: wanted <= found.keys())
        assert {fates[pair][0] for pair in wanted} == {"delivered"}

    def headers(self) -> dict[str, str]:
        """The headers of a good request."""
        return {
            "Host": self.host,
            "X-SSP-Token": self.token,
            "Content-Type": "application/json",
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
        }

    def outcomes(self) -> list[dict[str, Any]]:
        """What is on audit about this shop."""
        return self.system.outcomes(self.domain_id)

    def fates(self) -> dict[tuple[str, str], list[str]]:
        """(event id, platform) → its final outcomes, in order."""
        found = defaultdict(list)
        for outcome in self.outcomes():
            if outcome["outcome"] in FINAL and "platform" in outcome:
                found[outcome["eventId"], outcome["platform"]].append(outcome["outcome"])
        return dict(found)

    def received(self) -> list[tuple[str, str]]:
        """(platform, event id) of all that the sandbox accepted of this shop, repeats included."""
        account = f"pixel{self.host.partition('.')[0]}"
        return [
            (entry["platform"], entry["eventId"])
            for entry in self.system.received()
            if entry["account"] == account and entry["accepted"]
        ]


@dataclass
class System:
    """A running ``capistream up``."""

    directory: Path
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    description: dict[str, Any] = field(default_factory=dict)
    sandbox_url: str | None = None

    def start(self) -> None:
        """Start and wait until it serves."""
        log = (self.directory.parent / f"{self.directory.name}.log").open("a")
        self.process = subprocess.Popen(
            self._command("up", "--port", "0", "--manage-port", "0", "--json", *self.arguments),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=self._environment(),
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"did not start; see {log.name}: {Path(log.name).read_text()[-2000:]}"
        self.description = json.loads(line)
        self.sandbox_url = self.description["sandbox"] or self.sandbox_url

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Stop; answers the exit code."""
        assert self.process is not None
        self.process.send_signal(sign)
        code = self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def pid(self, name: str) -> int:
        """The process id of a stage, as it is now."""
        found = json.loads((self.directory / "processes.json").read_text())
        pid: int = found["processes"][name]
        return pid

    def kill(self, *names: str) -> None:
        """``kill -9``."""
        for name in names:
            os.kill(self.pid(name), signal.SIGKILL)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on this system's data directory."""
        return self._run(self._command(*arguments), check=check)

    def _run(self, line: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, capture_output=True, text=True, check=check, env=self._environment(), timeout=60
        )

    def records(self, topic: str) -> list[Any]:
        """Everything on a topic, read to the end of each partition."""
        name = self.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "") + topic
        consumer = Consumer(
            {
                "bootstrap.servers": self.description["kafka"],
                "group.id": "test-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            unread = set(consumer.list_topics(name, timeout=10).topics[name].partitions)
            consumer.assign([TopicPartition(name, number, 0) for number in unread])
            found = []
            while unread:
                for message in consumer.consume(500, 0.05):
                    if message.error() is None:
                        found.append(message)
                    else:
                        unread.discard(message.partition())
            return found
        finally:
            consumer.close()

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command of this system's that runs until the body ends."""
        log = (self.directory.parent / f"{arguments[0]}.log").open("a")
        process = subprocess.Popen(
            self._command(*arguments), stdout=log, stderr=log, env=self._environment()
        )
        log.close()
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=30)

    def outcomes(self, domain_id: str) -> list[dict[str, Any]]:
        """The outcomes of a domain, each name once, in the order of the log."""
        found: dict[str, dict[str, Any]] = {}
        for record in self.records("audit"):
            try:
                outcome = json.loads(record.value())
            except ValueError:
                continue  # another test's, to see what is made of it
            if outcome["domainId"] == domain_id and outcome.get("kind", "outcome") == "outcome":
                found.setdefault(outcome["outcomeId"], outcome)
        return sorted(found.values(), key=lambda outcome: int(outcome["at"]))

    def add_shop(self, name: str, *options: str) -> Shop:
        """Register ``<name>.example`` with a destination at each platform, by the commands."""
        host = f"{name}.example"
        made = self.cli("domain", "add", host, "--org", "Test", "--json", *options)
        for platform in PLATFORMS:
            self.set_token(host, platform, "good-token")
        return self._shop(host, made.stdout)

    def make_shop(
        self,
        name: str,
        *,
        tokens: Mapping[str, str] | None = None,
        publishes: bool = True,
        **options: Any,
    ) -> Shop:
        """The same in one process, and with other tokens; the database alone knows of it unless it
        ``publishes``."""
        host = f"{name}.example"
        wanted = json.dumps({"options": options, "tokens": tokens or {}, "publishes": publishes})
        made = self._run(
            [sys.executable, "-m", "tests.integration.shop", host, str(self.directory), wanted]
        )
        return self._shop(host, made.stdout)

    def _shop(self, host: str, told: str) -> Shop:
        added = json.loads(told)
        tokens = added["domainToken"], added["syncToken"]
        return Shop(self, host, added["domainId"], *tokens, added.get("destinations", {}))

    def set_token(self, host: str, platform: str, token: str) -> None:
        """Give a destination credentials."""
        account = f"pixel{host.partition('.')[0]}"
        given = ["--pixel-id", account, "--access-token", token]
        if platform == "pinterest":
            given += ["--ad-account-id", account]
        self.cli("destination", "set", host, platform, *given)

    def request(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One HTTP call to the gateway."""
        call = urllib.request.Request(  # noqa: S310 - our own gateway
            self.description["gateway"] + path, body, dict(headers or {})
        )
        try:
            with urllib.request.urlopen(call, timeout=20) as answer:  # noqa: S310 - the same
                return Answer(answer.status, json.loads(answer.read()), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.loads(error.read()), dict(error.headers))

    def received(self) -> list[dict[str, Any]]:
        """What the sandbox holds."""
        url = f"{self.sandbox_url}/_sandbox/received"
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own sandbox
            events: list[dict[str, Any]] = json.loads(answer.read())["events"]
            return events

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "capistream", *arguments, "--data", str(self.directory)]

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(_FORGOTTEN)}
        return kept | self.environment


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


def purchase(event_id: str, **changes: Any) -> dict[str, Any]:
    """A purchase of this moment, as the replaced API's own example has it."""
    return {
        "eventId": event_id,
        "eventName": "Purchase",
        "eventTime": int(time.time()) - 5,
        "eventSourceUrl": "https://yourshop.com/checkout/order-received/123/",
        "userData": {
            "email": "customer@example.com",
            "ipAddress": "203.0.113.42",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
            "fbc": "fb.1.1700000000.AbCdEf",
            "fbp": "fb.1.1700000000.1234567890",
            # SnackVideo has no event id: what arrives there is known by its click id.
            "kwaiClickId": event_id,
        },
        "customData": {
            "currency": "USD",
            "value": 49.99,
            "orderId": "T-12345",
            "contents": [{"id": "SKU-001", "name": "Widget", "quantity": 1, "price": 49.99}],
            "numItems": 1,
        },
    } | changes


def everywhere(event_ids: Iterable[str]) -> set[tuple[str, str]]:
    """(event id, platform) for every pair."""
    return {(event_id, platform) for event_id in event_ids for platform in PLATFORMS}
