"""A sink for each test, which leaks no credential."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.unit.runtime.clocks import JumpingClock
from tests.unit.sinks.sink import EXPIRED, NOW_MS, TOKEN, Sink, running_sink


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> JumpingClock:
    """Time passes only by sleeping; a test may ask for another clock (``standing``)."""
    kind: type[JumpingClock] = getattr(request, "param", JumpingClock)
    return kind(NOW_MS)


@pytest.fixture
async def sink(
    clock: JumpingClock, redis_client: Redis, capfd: pytest.CaptureFixture[str]
) -> AsyncIterator[Sink]:
    """A sink that has committed what came up when the test ends."""
    async with running_sink(clock, redis_client) as it:
        yield it
        await it.journal.flush()
    shown = capfd.readouterr()
    written = repr(it.log.records) + shown.out + shown.err
    assert TOKEN not in written
    assert EXPIRED not in written
