"""Child processes: started, watched, started again when they end, ended in order."""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runtime.clock import Clock
from runtime.errors import EXIT_CONFIG
from runtime.logs import get_logger

log = get_logger(__name__)

STOP_SECONDS: Final = 25.0
RESTART_SECONDS: Final = 0.5

_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Child:
    """One process."""

    name: str
    command: list[str]
    log_path: Path | None = None
    """Where its output goes; to ours when absent."""
    restarts: bool = True
    """Whether it is started again when it ends; what keeps its state in memory is not, for it
    would come back empty."""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)


class Supervisor:
    """Keeps children running until it is told to stop."""

    def __init__(self, clock: Clock, on_restart: Callable[[], None] = lambda: None) -> None:
        """``on_restart`` is called when a child has a new process id."""
        self._clock = clock
        self._on_restart = on_restart
        self._watchers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.children: list[Child] = []
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with a sentence, when a child ended that cannot be started again."""

    async def start(self, child: Child) -> None:
        """Start a child and watch it."""
        self.children.append(child)
        await self._spawn(child)
        watcher = asyncio.create_task(self._watch(child))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def stop(self, order: Sequence[str]) -> None:
        """End the children one after the other, in the order of their names in ``order``."""
        self._stopping.set()
        for child in sorted(self.children, key=lambda c: order.index(c.name)):
            await _end(child)

    async def stop_together(self) -> None:
        """End the children all at once."""
        self._stopping.set()
        await asyncio.gather(*(_end(child) for child in self.children))

    async def _spawn(self, child: Child) -> None:
        output = child.log_path.open("ab") if child.log_path else None
        try:
            child.process = await asyncio.create_subprocess_exec(
                *child.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    async def _watch(self, child: Child) -> None:
        while not self._stopping.is_set() and child.process is not None:
            code = await child.process.wait()
            if self._stopping.is_set():
                return
            if not child.restarts or code == EXIT_CONFIG:
                where = f"; see {child.log_path}" if child.log_path else ""
                if not self.failed.done():
                    self.failed.set_result(f"{child.name} ended with code {code}{where}")
                return
            log.warning("A process ended; starting it again.", name=child.name, code=code)
            await self._clock.sleep(RESTART_SECONDS)
            if not self._stopping.is_set():
                await self._spawn(child)
                self._on_restart()


async def _end(child: Child) -> None:
    process = child.process
    if process is None or process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        log.warning("A process did not stop in time; killing it.", name=child.name)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _die_with_parent() -> None:
    """Ask the kernel to end the child when this process is killed outright (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
