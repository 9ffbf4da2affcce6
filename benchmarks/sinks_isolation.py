"""Whether a destination that fails and one that is slow hold up a third one: one process, all of its
settings as they come, a steady flow to each of the three.

What counts is the time from when an event was received until whoever reads audit has its outcome.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.sinks_bed import PATIENCE_SECONDS, Run
from benchmarks.sinks_work import FAILING, FED, POSTED, SLOW
from schemas.outcome import OutcomeKind

PER_SECOND: Final = 100
"""Deliveries to each destination."""
SLOW_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.05
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Isolation:
    """Seconds from receipt to outcome, of each of the third's deliveries."""

    undisturbed: Sequence[float]
    disturbed: Sequence[float]

    @property
    def ratio(self) -> float:
        """What the others' trouble makes of the third's p99."""
        return percentile(self.disturbed, 99) / percentile(self.undisturbed, 99)


def percentile(values: Sequence[float], number: int) -> float:
    """The value that so many in a hundred do not exceed."""
    return statistics.quantiles(values, n=100)[number - 1]


async def measure_isolation(run: Run, undisturbed: float, disturbed: float) -> Isolation:
    """Let the others behave for so many seconds, and then not.

    Raises ``SystemExit`` when they were no trouble.
    """
    watch = Watch(run)
    watching = asyncio.create_task(asyncio.to_thread(watch.run))
    try:
        calm = await watch.phase("calm", undisturbed)
        await run.bed.script(FAILING, kind="status", status=500)
        await run.bed.script(SLOW, kind="slow", seconds=SLOW_SECONDS)
        troubled = await watch.phase("troubled", disturbed)
    finally:
        await run.bed.behave()
        watch.end()
        await watching
    failing, slow = watch.told("troubled", FAILING), watch.told("troubled", SLOW)
    if {one.outcome for one in failing} != {OutcomeKind.RETRYING}:
        raise SystemExit("the destination that was to fail did not")
    if not slow or min(one.seconds for one in slow) < SLOW_SECONDS:
        raise SystemExit("the destination that was to be slow was not")
    return Isolation(calm, troubled)


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest outcome of a delivery, and how long after its receipt it was there to be read."""

    outcome: str
    seconds: float


class Watch:
    """Feeds the three destinations and watches audit for their outcomes."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._seen: dict[str, Seen] = {}
        """By event id."""
        self._ended = threading.Event()

    def run(self) -> None:
        """Read audit until ``end``; in a thread of its own."""
        while not self._ended.is_set():
            told = self._run.audit.read(0.1)
            if told is not None:
                seconds = time.time() - told.received_at / 1000
                self._seen[told.event_id] = Seen(told.outcome, seconds)

    def end(self) -> None:
        """Read no more."""
        self._ended.set()

    def told(self, phase: str, platform: str) -> list[Seen]:
        """What there is on audit of a phase's deliveries to a platform."""
        prefix = _event_id(phase, platform, "")
        seen_so_far = self._seen.copy()  # the thread goes on
        return [seen for event_id, seen in seen_so_far.items() if event_id.startswith(prefix)]

    async def phase(self, name: str, seconds: float) -> list[float]:
        """Feed for so many seconds and wait for the third's outcomes; answers how long each took."""
        started, fed = time.monotonic(), 0
        while (elapsed := time.monotonic() - started) < seconds:
            due = int(elapsed * PER_SECOND)
            for platform in FED:
                self._run.feed(platform, [_event_id(name, platform, n) for n in range(fed, due)])
            fed = due
            await asyncio.sleep(_TICK_SECONDS)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _are_delivered(third := self.told(name, POSTED), fed):
            self._run.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"of the third's {fed} deliveries only {len(third)} have outcomes")
            await asyncio.sleep(_LOOK_SECONDS)
        return [one.seconds for one in third]


def _are_delivered(told: Sequence[Seen], count: int) -> bool:
    return len(told) == count and all(one.outcome == OutcomeKind.DELIVERED for one in told)


def _event_id(phase: str, platform: str, number: int | str) -> str:
    return f"{phase}-{platform}-{number}"
