"""Clocks that a test drives."""

import asyncio

from typing_extensions import override


class JumpingClock:
    """Time passes only by sleeping, and sleeping takes no time."""

    def __init__(self, now_ms: int = 1_795_176_060_000) -> None:
        self.ms = now_ms
        self.slept: list[float] = []

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self.ms

    def monotonic(self) -> float:
        """Seconds."""
        return self.ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Be ``seconds`` later at once."""
        self.slept.append(seconds)
        self.ms += round(seconds * 1000)
        await asyncio.sleep(0)


class StandingClock(JumpingClock):
    """A clock on which no sleep ever ends: what goes on was woken by something else."""

    @override
    async def sleep(self, seconds: float) -> None:
        """Wait for good."""
        self.slept.append(seconds)
        await asyncio.Event().wait()
