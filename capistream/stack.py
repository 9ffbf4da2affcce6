"""The whole system in one data directory: what is started in which order, and how it is found."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Final

import aiohttp
import orjson

from capistream.embedded import (
    broker_command,
    ensure_secrets,
    free_port,
    is_free,
    valkey_command,
)
from capistream.supervisor import Child, Supervisor
from manage.publish import publish
from manage.store import Store
from platforms.registry import PLATFORMS
from runtime.clock import Clock
from runtime.database import Database
from runtime.errors import CapistreamError, ConfigError, UnavailableError
from runtime.kafka import TopicAdmin
from runtime.lifecycle import Heartbeat
from runtime.logs import get_logger
from runtime.redis import connect
from runtime.settings import STACK_FILE, GatewaySettings, ManageSettings, Settings, load_settings
from runtime.vault import DomainTokens, Vault
from schemas.topics import topic_table

log = get_logger(__name__)

START_SECONDS: Final = 30.0
PROCESSES_FILE: Final = "processes.json"
LOCK_FILE: Final = "up.lock"
WORKERS: Final = ("streams", "sinks", "audit")
"""In the order in which an event meets them."""


class Stack:
    """A running system in one data directory.

    Use as ``async with``: entering starts everything and returns when it serves, leaving stops
    everything.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        embedded: bool,
        port: int | None = None,
        manage_port: int | None = None,
        manages: bool = True,
        quiet: bool = False,
    ) -> None:
        """``port`` is the gateway's, ``manage_port`` that of the management API (0: any free one),
        which is left out if nobody ``manages``; ``quiet`` sends the children's logs to files in the
        data directory instead of standard error."""
        self.directory = directory.absolute()
        self._clock = clock
        self._embedded = embedded
        self._doors = ("gateway", "manage") if manages else ("gateway",)
        self._ports = {"gateway": port, "manage": manage_port}
        self._quiet = quiet
        self._lock: IO[str] | None = None
        self._supervisor = Supervisor(clock, on_restart=self._write_processes)
        self.failed = self._supervisor.failed
        """Done, with a sentence, when the stack cannot go on."""
        self.settings: Settings = load_settings(self.directory)
        self.sandbox_url: str | None = None

    async def __aenter__(self) -> "Stack":
        """Start everything.

        Raises ``CapistreamError`` with one sentence when it cannot.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        # A stack that was killed outright leaves its file, and ports that nobody answers at.
        (self.directory / STACK_FILE).unlink(missing_ok=True)
        self.settings = load_settings(self.directory)
        try:
            if self._embedded:
                await self._start_embedded()
            else:
                self._write_stack({name: {"port": self._port_of(name)} for name in self._ports})
            await self._prepare()
            await self._start_workers()
            # The doors last: what comes in through them is worked at once.
            for name in self._doors:
                await self._supervisor.start(self._ours(name))
            for name in self._doors:
                await self._wait(partial(_serves, self._url_of(name)), name)
            self._write_processes()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything, the door first."""
        await self._stop()

    @property
    def gateway_url(self) -> str:
        """Where the gateway is reached."""
        return self._url_of("gateway")

    def describe(self) -> dict[str, object]:
        """What a person, or a script, needs to use the stack."""
        return {
            "gateway": self.gateway_url,
            "manage": self._url_of("manage") if "manage" in self._doors else None,
            "kafka": self.settings.kafka.bootstrap,
            "sandbox": self.sandbox_url,
            "data": str(self.directory),
            "pid": os.getpid(),
            "processes": {c.name: c.process.pid for c in self._supervisor.children if c.process},
        }

    def store(self) -> Store:
        """The configuration store of this stack."""
        return open_store(self.settings, self._clock)

    def _take_lock(self) -> None:
        self._lock = (self.directory / LOCK_FILE).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"a stack is running in {self.directory} already; choose another with --data"
            ) from None

    def _url_of(self, door: str) -> str:
        settings = self._settings_of(door)
        return f"http://{settings.host}:{settings.port}"

    def _settings_of(self, door: str) -> GatewaySettings | ManageSettings:
        return self.settings.gateway if door == "gateway" else self.settings.manage

    def _port_of(self, door: str) -> int:
        settings = self._settings_of(door)
        given = self._ports[door]
        wanted = settings.port if given is None else given
        if wanted == 0:
            return free_port()
        if not is_free(settings.host, wanted):
            option = "--port" if door == "gateway" else "--manage-port"
            raise ConfigError(f"port {wanted} is in use; choose another with {option}")
        return wanted

    async def _start_embedded(self) -> None:
        named = {"kafka": {"bootstrap"}, "redis": {"url"}}
        for section, fields in named.items():
            if fields & getattr(self.settings, section).model_fields_set:
                raise ConfigError(
                    f"--embedded starts its own {section}, but the settings name one; "
                    "leave out --embedded or the setting"
                )
        ensure_secrets(self.directory)
        if self._ports["manage"] is None and "port" not in self.settings.manage.model_fields_set:
            self._ports["manage"] = 0
        broker, valkey, sandbox = free_port(), free_port(), free_port()
        self.sandbox_url = f"http://127.0.0.1:{sandbox}"
        self._write_stack(
            {
                "kafka": {"bootstrap": f"127.0.0.1:{broker}", "session_timeout_seconds": 6},
                "redis": {"url": f"redis://127.0.0.1:{valkey}/0"},
                "gateway": {"port": self._port_of("gateway")},
                "manage": {
                    "port": self._port_of("manage"),
                    # Mails go to a file, and a shop of a test may be asked for its configuration.
                    "development": True,
                    "callback_networks": ["127.0.0.0/8", "::1/128"],
                },
                "platforms": {slug: {"base_url": self.sandbox_url} for slug in PLATFORMS},
                # The embedded broker shows what was aborted, and does not fence.
                "audit": {"transactions": False},
            }
        )
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        await self._supervisor.start(
            Child("broker", broker_command(broker), logs / "broker.log", restarts=False)
        )
        await self._supervisor.start(
            Child("valkey", valkey_command(valkey, self.directory), logs / "valkey.log", restarts=False)
        )  # fmt: skip
        sandbox_child = self._ours("sandbox", "--port", str(sandbox))
        sandbox_child.log_path = logs / "sandbox.log"
        await self._supervisor.start(sandbox_child)

    async def _prepare(self) -> None:
        """Wait for the log and the cache, make the topics, publish the configuration."""
        admin = TopicAdmin(self.settings.kafka)
        await self._wait(lambda: _reaches(admin), f"Kafka at {self.settings.kafka.bootstrap}")
        await asyncio.to_thread(admin.create, topic_table(PLATFORMS))
        await self._wait(self._redis_answers, "Redis")
        store = self.store()
        try:
            await store.upgrade()
            await publish(self.settings, await store.configs())
        finally:
            await store.close()

    async def _start_workers(self) -> None:
        beats = {name: Heartbeat(self.directory, name) for name in WORKERS}
        for name, beat in beats.items():
            beat.forget()
            await self._supervisor.start(self._ours(name))

        async def work() -> bool:
            return all(beat.age_seconds(self._clock) is not None for beat in beats.values())

        await self._wait(work, f"{', '.join(WORKERS[:-1])} or {WORKERS[-1]}")

    def _write_stack(self, document: Mapping[str, object]) -> None:
        path = self.directory / STACK_FILE
        path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
        self.settings = load_settings(self.directory)

    def _write_processes(self) -> None:
        path = self.directory / PROCESSES_FILE
        # Whoever reads it while a process is started again must not find half of it.
        whole = path.with_suffix(".new")
        whole.write_bytes(orjson.dumps(self.describe(), option=orjson.OPT_INDENT_2))
        whole.replace(path)

    def _ours(self, name: str, *arguments: str) -> Child:
        command = [sys.executable, "-m", "capistream", name, "--data", str(self.directory)]
        if self._ports.get(name) is not None:
            arguments = ("--port", str(self._settings_of(name).port))
        path = None
        if self._quiet:
            path = self.directory / "logs" / f"{name}.log"
            path.parent.mkdir(exist_ok=True)
        return Child(name, [*command, *arguments], path)

    async def _wait(self, is_ready: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = self._clock.monotonic() + START_SECONDS
        while not await is_ready():
            if self.failed.done():
                raise UnavailableError(self.failed.result())
            if self._clock.monotonic() > deadline:
                raise UnavailableError(f"{what} did not answer within {START_SECONDS:g} s")
            await self._clock.sleep(0.1)

    async def _redis_answers(self) -> bool:
        client = connect(self.settings.redis)
        try:
            return bool(await client.ping())
        except Exception:  # noqa: BLE001 - any failure means "not yet"; the caller has a deadline
            return False
        finally:
            await client.aclose()

    async def _stop(self) -> None:
        """The doors first, then each stage after what feeds it, the log last."""
        await self._supervisor.stop(["gateway", "manage", *WORKERS, "sandbox", "valkey", "broker"])
        for name in (STACK_FILE, PROCESSES_FILE):
            (self.directory / name).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


async def _serves(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    with suppress(aiohttp.ClientError, TimeoutError):
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/health") as answer,
        ):
            return answer.status == 200
    return False


async def _reaches(admin: TopicAdmin) -> bool:
    try:
        await asyncio.to_thread(admin.reach)
    except CapistreamError:
        return False
    return True


def open_store(settings: Settings, clock: Clock, database: Database | None = None) -> Store:
    """The configuration store that the settings name; ``database`` is theirs, if it is open already.

    Raises ``ConfigError`` when a key is missing.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault, tokens = Vault(settings.vault), DomainTokens(settings.tokens)
    return Store(
        database or Database(settings.database_url),
        vault,
        tokens,
        clock,
        default_plan=settings.manage.default_plan,
    )
