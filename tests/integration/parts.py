"""Parts of a system, started one by one, so that a test can take one away and give it back."""

import dataclasses
import os
import signal
import subprocess
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from capistream.embedded import broker_command, ensure_secrets, free_port, valkey_command
from tests.integration.system import Shop, System, eventually
from tests.kafka.node import answers, free_ports


class Part:
    """A process on a port of its own, which it keeps from one start to the next."""

    def __init__(
        self, command: Callable[[int], list[str]], is_there: Callable[[int], bool], log: Path
    ) -> None:
        """``command`` and ``is_there`` are given the port; nothing is running yet."""
        # Not one of those that are given to who dials: see free_ports.
        self.port = free_ports(1)[0]
        self._command = command(self.port)
        self._is_there = is_there
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(lambda: self._is_there(self.port), within=30, until=bool)

    def freeze(self) -> None:
        """It holds still: connections stay open and nothing answers."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self._send(signal.SIGCONT)

    def kill(self) -> None:
        """``kill -9``: what it kept in memory is gone."""
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _send(self, sign: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, sign)


@contextmanager
def valkey(directory: Path) -> Iterator[Part]:
    """A started Valkey, in memory."""
    directory.mkdir(parents=True, exist_ok=True)
    part = Part(
        lambda port: valkey_command(port, directory), _redis_answers, directory / "valkey.log"
    )
    part.start()
    try:
        yield part
    finally:
        part.kill()


@contextmanager
def embedded_broker(directory: Path) -> Iterator[Part]:
    """A started embedded broker, in memory."""
    directory.mkdir(parents=True, exist_ok=True)
    part = Part(
        broker_command, lambda port: answers(f"127.0.0.1:{port}", 1.0), directory / "broker.log"
    )
    part.start()
    try:
        yield part
    finally:
        part.kill()


def redis_url(part: Part) -> str:
    """Where a Valkey is reached."""
    return f"redis://127.0.0.1:{part.port}/0"


def _redis_answers(port: int) -> bool:
    with Redis(port=port, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def bare_system(directory: Path, bootstrap: str, **environment: str) -> System:
    """A data directory and the topics on a log: no process of ours, until a test starts one."""
    directory.mkdir()
    ensure_secrets(directory)
    log = {"CAPISTREAM_KAFKA__BOOTSTRAP": bootstrap}
    bare = System(directory, [], log | environment, description={"kafka": bootstrap})
    bare.cli("topics", "apply")
    return bare


def beside(system: System, **environment: str) -> System:
    """The same system as one sees it who has other settings."""
    return dataclasses.replace(system, environment=system.environment | environment)


@dataclasses.dataclass(frozen=True, slots=True)
class Door:
    """A gateway of the test's own, and the system as it looks from there."""

    system: System
    pid: int
    port: int


@contextmanager
def gateway(system: System, *arguments: str, **environment: str) -> Iterator[Door]:
    """A gateway beside whatever else runs, which has read the configuration."""
    port = free_port()
    url = {"gateway": f"http://127.0.0.1:{port}"}
    seen = dataclasses.replace(beside(system, **environment), description=system.description | url)
    with seen.running("gateway", "--port", str(port), *arguments) as process:
        eventually(lambda: _is_ready(seen), within=30, until=bool)
        yield Door(seen, process.pid, port)


def _is_ready(system: System) -> bool:
    # Several processes may share the port: one answer is not the answer of all.
    try:
        return all(system.request("/ready").status == 200 for _ in range(12))
    except (urllib.error.URLError, ConnectionError):
        return False


def until_known(shop: Shop) -> None:
    """Wait until the gateway knows the shop, by a request that leaves nothing behind."""
    at_the_gateway(shop, 400)


def at_the_gateway(shop: Shop, status: int) -> None:
    """Wait until the gateway answers an empty request of the shop's so."""
    eventually(
        lambda: shop.system.request("/v1/events", b"{}", shop.headers()).status,
        within=10,
        until=lambda found: found == status,
    )
