"""The servers of the gateway's measurement, each a process of its own, and their processor time.

The log is the embedded broker, or the cluster that ``KAFKA_BOOTSTRAP`` names. Streams and sinks do
not run: they would take processor time from what is measured.
"""

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from benchmarks.load import HOST, TOKEN_HEADER
from capistream.embedded import broker_command, ensure_secrets, free_port, valkey_command
from capistream.supervisor import Child, Supervisor
from manage.publish import publish
from platforms.registry import PLATFORMS
from runtime.clock import SystemClock
from runtime.errors import CapistreamError
from runtime.kafka import TopicAdmin
from runtime.settings import STACK_FILE, Settings, load_settings
from runtime.vault import DomainTokens
from schemas.config import DomainConfig
from schemas.topics import topic_table

START_SECONDS: Final = 30.0
ANY_NUMBER: Final = 1_000_000_000
"""A limit that is checked for every request and never reached."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

_SHOP: Final = DomainConfig.model_validate(
    {
        "domainId": "d-bench",
        "orgId": "o-bench",
        "host": HOST,
        "revision": 1,
        "syncTokenSha256": "0" * 64,
        # Each guard has something to look for.
        "excludedAddresses": ["192.0.2.0/24", "2001:db8::/32"],
        "excludedAgents": ["ShopMonitor", "UptimeCheck"],
        "monthlyEvents": ANY_NUMBER,
    }
)


@dataclass(frozen=True, slots=True)
class Door:
    """One running server."""

    name: str
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Processor time, user and system, of the process and of those that it started."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(cpu_seconds(pid) for pid in (self.pid, *map(int, children)))


@dataclass(frozen=True, slots=True)
class Doors:
    """The servers side by side, and the token that the gateways ask for."""

    bare: Door
    validated: Door
    gateway: Door
    gateway_of_two: Door
    token: str


@asynccontextmanager
async def open_doors(directory: Path) -> AsyncIterator[Doors]:
    """Start everything, and stop it when the body ends.

    Raises ``SystemExit`` when something does not start.
    """
    supervisor = Supervisor(SystemClock())
    try:
        settings = await _start_log(supervisor, directory)
        ours = [sys.executable, "-m", "capistream", "gateway", "--data", str(directory)]
        plain = [sys.executable, "-m", "benchmarks.bare"]
        token = DomainTokens(settings.tokens).issue(_SHOP.domain_id, _SHOP.token_generation)
        doors = Doors(
            bare=await _start(supervisor, directory, "bare", plain),
            validated=await _start(supervisor, directory, "validated", [*plain, "--validate"]),
            gateway=await _start(supervisor, directory, "gateway", ours),
            gateway_of_two=await _start(supervisor, directory, "two", [*ours, "--workers", "2"]),
            token=token,
        )
        for door in (doors.bare, doors.validated, doors.gateway, doors.gateway_of_two):
            await _until_it_serves(door, token)
        yield doors
    finally:
        await supervisor.stop_together()


async def _start_log(supervisor: Supervisor, directory: Path) -> Settings:
    """Broker and Valkey, the topics, and the shop's configuration."""
    ensure_secrets(directory)
    servers = await start_servers(supervisor, directory)
    found = servers | {"gateway": {"requests_per_minute": ANY_NUMBER}}
    (directory / STACK_FILE).write_bytes(orjson.dumps(found))
    settings = load_settings(directory)
    await make_topics(settings, PLATFORMS)
    await publish(settings, [_SHOP])
    return settings


async def start_servers(supervisor: Supervisor, directory: Path) -> dict[str, dict[str, Any]]:
    """Broker and Valkey; answers the settings by which they are found."""
    kafka: dict[str, Any] = {"bootstrap": os.environ.get("KAFKA_BOOTSTRAP"), "topic_prefix": ""}
    if kafka["bootstrap"]:
        kafka["topic_prefix"] = f"bench-{secrets.token_hex(4)}-"
    else:
        port = free_port()
        kafka["bootstrap"] = f"127.0.0.1:{port}"
        await supervisor.start(
            Child("broker", broker_command(port), directory / "broker.log", restarts=False)
        )
    port = free_port()
    await supervisor.start(
        Child("valkey", valkey_command(port, directory), directory / "valkey.log", restarts=False)
    )
    return {"kafka": kafka, "redis": {"url": f"redis://127.0.0.1:{port}/0"}}


async def make_topics(settings: Settings, platforms: Iterable[str]) -> None:
    """The topics of a system that feeds ``platforms``, as soon as the broker answers.

    Raises ``TimeoutError``.
    """
    admin = TopicAdmin(settings.kafka)
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                await asyncio.to_thread(admin.create, topic_table(platforms))
                return
            except CapistreamError:
                await asyncio.sleep(0.2)


async def _start(supervisor: Supervisor, directory: Path, name: str, command: list[str]) -> Door:
    port = free_port()
    child = Child(name, [*command, "--port", str(port)], directory / f"{name}.log", restarts=False)
    await supervisor.start(child)
    assert child.process is not None  # noqa: S101 - it was started
    return Door(name, port, child.process.pid)


async def _until_it_serves(door: Door, token: str) -> None:
    """Until the door answers, and a gateway knows the shop."""
    headers = {"Host": HOST, TOKEN_HEADER: token, "Content-Type": "application/json"}
    body = b'{"events":[{"eventName":"PageVisit","eventTime":1767225600}]}'
    url = f"http://127.0.0.1:{door.port}/v1/events"
    told = "nothing"
    async with aiohttp.ClientSession(headers=headers) as session:
        for _ in range(int(START_SECONDS / 0.1)):
            try:
                async with session.post(url, data=body) as answer:
                    told = await answer.text()
                    if answer.status == 200:
                        return
            except aiohttp.ClientError as error:
                told = str(error)
            await asyncio.sleep(0.1)
    raise SystemExit(f"{door.name} does not serve: {told}")


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, of one process with all its threads."""
    # The name, in brackets, may hold anything; utime and stime are the fields 14 and 15 of all.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
