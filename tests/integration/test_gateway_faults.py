"""A log that goes away in mid-flow: what was answered 2xx is in it, and nobody waits for long.

On Apache Kafka the broker is killed and stopped, and starts again on what it had written. The
embedded one keeps its log in memory and would come back empty, so it is only frozen.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.integration.parts import (
    Door,
    bare_system,
    embedded_broker,
    gateway,
    redis_url,
    until_known,
    valkey,
)
from tests.integration.raw_http import RawAnswer, post, read_answer
from tests.integration.system import Shop
from tests.kafka.apache import kafka_node

ON_APACHE: Final = os.environ.get("REQUIRE_KAFKA") == "1"

REQUESTS: Final = 20_000 if ON_APACHE else 4_000
CONNECTIONS: Final = 64
OUTAGE_SECONDS: Final = 7.0
"""So long that an answer that waits for the end of it comes too late."""

LATEST_SECONDS: Final = 5.5
"""4.0 s for the producer, 0.5 s for a broker that holds the request, 1 s for a busy machine."""

Fault = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Log:
    """A Kafka of the test's own, and the ways in which it goes away and comes back."""

    bootstrap: str
    faults: Sequence[Fault]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """Apache Kafka where it is asked for, else the embedded broker."""
    with ExitStack() as cleanup:
        if ON_APACHE:
            node = cleanup.enter_context(kafka_node(tmp_path / "kafka"))
            faults = [_outage(node.kill, node.start), _outage(node.stop, node.start)]
            yield Log(node.bootstrap, faults)
        else:
            part = cleanup.enter_context(embedded_broker(tmp_path / "broker"))
            yield Log(f"127.0.0.1:{part.port}", [_outage(part.freeze, part.thaw)] * 2)


def _outage(begin: Fault, end: Fault) -> Fault:
    def fault() -> None:
        begin()
        time.sleep(OUTAGE_SECONDS)
        end()

    return fault


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was answered."""

    number: int
    answer: RawAnswer
    began_at: float
    took: float


@dataclass(slots=True)
class Load:
    """Many connections that stay open, one request at a time on each, one event in each."""

    shop: Shop
    port: int
    asked: list[Asked] = field(default_factory=list)

    async def send(self, numbers: Sequence[int]) -> None:
        """Send an event for each number, and read every answer.

        Fails when the gateway closes a connection instead of answering.
        """
        waiting = iter(numbers)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONNECTIONS, len(numbers))):
                group.create_task(self._send(waiting))

    async def _send(self, numbers: Iterator[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for number in numbers:
                began_at = time.monotonic()
                writer.write(self._request(number))
                answer = await read_answer(reader)
                assert answer is not None, f"no answer to request {number}"
                self.asked.append(Asked(number, answer, began_at, time.monotonic() - began_at))
        finally:
            writer.close()

    def _request(self, number: int) -> bytes:
        body = b'{"events":[{"eventId":"%d","eventName":"PageVisit","eventTime":%d}]}'
        return post("/v1/events", self.shop.headers(), body % (number, time.time()))

    async def reaches(self, count: int) -> None:
        """Wait until so many are answered."""
        while len(self.asked) < count:
            await asyncio.sleep(0.02)


@pytest.fixture
def door(log: Log, tmp_path: Path) -> Iterator[Door]:
    """A gateway alone: nobody reads what it writes."""
    with valkey(tmp_path / "valkey") as redis:
        system = bare_system(
            tmp_path / "data",
            log.bootstrap,
            CAPISTREAM_REDIS__URL=redis_url(redis),
            CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE="0",
        )
        with gateway(system) as opened:
            yield opened


@pytest.mark.chaos
@pytest.mark.slow
async def test_what_was_answered_2xx_is_in_the_log_whatever_became_of_the_broker(
    log: Log, door: Door
) -> None:
    shop = await asyncio.to_thread(door.system.make_shop, "flow")
    await asyncio.to_thread(until_known, shop)
    load = Load(shop, door.port)

    outages: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.send(range(REQUESTS)))
        for quarter, fault in enumerate(log.faults, start=1):
            await load.reaches(quarter * REQUESTS // 4)
            began_at = time.monotonic()
            await asyncio.to_thread(fault)
            outages.append((began_at, time.monotonic()))

    assert {asked.answer.status for asked in load.asked} <= {200, 503}
    refused = [asked for asked in load.asked if asked.answer.status == 503]
    for outage in outages:
        assert any(_is_within(asked, outage) for asked in refused), "nobody noticed the fault"
    for asked in refused:
        assert asked.answer.json()["error"]["code"] == "unavailable"
        assert int(asked.answer.headers["retry-after"]) >= 1
    assert max(asked.took for asked in load.asked) < LATEST_SECONDS
    assert all(asked.answer.status == 200 for asked in load.asked[-CONNECTIONS:])

    stored = await asyncio.to_thread(_stored, door)
    accepted = {str(asked.number) for asked in load.asked if asked.answer.status == 200}
    assert accepted - stored == set(), "answered 200 and not in the log"
    assert stored <= {str(number) for number in range(REQUESTS)}

    again = Load(shop, door.port)
    await again.send([asked.number for asked in refused])
    assert {asked.answer.status for asked in again.asked} == {200}
    assert len(await asyncio.to_thread(_stored, door)) == REQUESTS


def _is_within(asked: Asked, outage: tuple[float, float]) -> bool:
    began_at, ended_at = outage
    return began_at - LATEST_SECONDS < asked.began_at < ended_at


def _stored(door: Door) -> set[str]:
    keys = (record.key().decode() for record in door.system.records("raw-events"))
    return {key.rpartition(":")[2] for key in keys}
