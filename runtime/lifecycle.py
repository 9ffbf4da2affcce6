"""How a process starts, drains and stops."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import uvloop

from runtime.clock import Clock
from runtime.errors import EXIT_CRASHED
from runtime.logs import get_logger

log = get_logger(__name__)


_YOUNG_OBJECTS: Final = 3_000
"""New objects between two looks at the young ones. As many are alive under load; far more would
keep the bodies of closed connections for as long."""


class Shutdown:
    """The first SIGTERM or SIGINT asks for a drain; the second one stops at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def install(self) -> None:
        """Take over the signals of the running loop."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._on_signal, sign)

    def _on_signal(self, sign: signal.Signals) -> None:
        if self._asked.is_set():
            stop_at_once(128 + sign)
        log.info("Draining; another signal stops at once.", signal=sign.name)
        self._asked.set()

    def ask(self) -> None:
        """Ask for a drain from inside."""
        self._asked.set()

    @property
    def is_asked(self) -> bool:
        """Whether a drain was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return when a drain is asked for."""
        await self._asked.wait()


def settle_memory(young_objects: int = _YOUNG_OBJECTS) -> None:
    """Spare the collector what is loaded by now and stays: to be called when a process is ready.

    ``young_objects`` is how many new ones there may be before it looks at them: more than are alive
    at a time under load.

    A full collection walks a hundred thousand objects of libraries and schemas, in tens of
    milliseconds during which nobody is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_objects)


def run_until_shutdown(main: Callable[[Shutdown], Awaitable[None]]) -> None:
    """Run a process on uvloop until ``main`` returns."""

    async def guarded() -> None:
        shutdown = Shutdown()
        shutdown.install()
        await main(shutdown)

    uvloop.run(guarded())


async def first_of(*waits: Awaitable[Any]) -> None:
    """Return when any of the awaitables is done; the coroutines among the others are cancelled."""
    waiting = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for wait, future in zip(waits, waiting, strict=True):
        if future is not wait:
            future.cancel()


def stop_at_once(code: int = EXIT_CRASHED) -> NoReturn:
    """End the process here and now: nothing is flushed, acknowledged or committed on the way.

    For the moment when going on could acknowledge what was not done. The supervisor starts the
    process again and the log has everything that was not committed.
    """
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


class Heartbeat:
    """A file that is touched while a process makes progress; ``capistream health`` looks at it."""

    INTERVAL_SECONDS = 2.0
    STALE_SECONDS = 15.0

    def __init__(self, directory: Path, process: str) -> None:
        self._path = directory / f"{process}.heartbeat"

    def beat(self) -> None:
        """Say that the process is alive."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.touch()

    def forget(self) -> None:
        """Remove the beat of an earlier life."""
        self._path.unlink(missing_ok=True)

    async def keep_beating(self, clock: Clock) -> None:
        """Beat until cancelled; a loop that hangs stops the beat with it."""
        while True:
            self.beat()
            await clock.sleep(self.INTERVAL_SECONDS)

    def age_seconds(self, clock: Clock) -> float | None:
        """Seconds since the last beat, or None when there never was one."""
        with suppress(FileNotFoundError):
            return clock.now_ms() / 1000 - self._path.stat().st_mtime
        return None
