"""Whatever comes over the wire: an answer that is no 5xx, and nothing kept of what is refused."""

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import orjson
import pytest

from tests.integration.nonsense import BOMB_BYTES, ROUTES, STATUS, Case, Nonsense
from tests.integration.parts import Door, beside, gateway, until_known
from tests.integration.raw_http import RawAnswer, post, read_answer
from tests.integration.system import System

WARM_UP: Final = 520
ROUNDS: Final = 4
CASES: Final = 390
"""In each round."""
AT_ONCE: Final = 16
LATEST_SECONDS: Final = 5.0

KEPT_BYTES: Final = CASES * 2048
"""What a round may add: bodies, heads or connections that are never let go take more, in every
round, while the allocator takes its share now and then."""

PEAK_BYTES: Final = AT_ONCE * BOMB_BYTES // 2
"""Less than the bombs take when each is unpacked before it is measured."""


@pytest.fixture
def door(system: System) -> Iterator[Door]:
    """A gateway of the test's own that writes to a log of its own, where nobody reads."""
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    apart = beside(system, CAPISTREAM_KAFKA__TOPIC_PREFIX=f"{prefix}fuzz-")
    apart.cli("topics", "apply")
    with gateway(
        apart,
        CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE="0",
        CAPISTREAM_GATEWAY__BODY_TIMEOUT_SECONDS="1",
        CAPISTREAM_GATEWAY__IDLE_TIMEOUT_SECONDS="1",
    ) as opened:
        yield opened


@dataclass(slots=True)
class Told:
    """What was answered."""

    port: int
    statuses: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, list[str]] = field(default_factory=dict)
    """Request id → event ids, of requests whose events were taken."""
    harm: list[object] = field(default_factory=list)
    """Cases that were neither answered nor hung up on in time, or were answered with a 5xx."""

    async def send(self, cases: Iterable[Case]) -> None:
        """Several at a time, each on a connection of its own."""
        waiting = iter(cases)
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._send(waiting))

    async def _send(self, cases: Iterator[Case]) -> None:
        for case in cases:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                # Whoever is refused in the middle of a sentence may find the door shut.
                with contextlib.suppress(ConnectionError):
                    writer.write(case.sent)
                    await asyncio.wait_for(writer.drain(), LATEST_SECONDS)
                await self._read(case, reader)
            finally:
                writer.close()

    async def _read(self, case: Case, reader: asyncio.StreamReader) -> None:
        count = 0
        while case.answers is None or count < case.answers:
            try:
                answer = await asyncio.wait_for(read_answer(reader), LATEST_SECONDS)
            except TimeoutError:
                self.harm.append((case.name, "hangs", case.sent[:1_000]))
                return
            if answer is None:
                break
            count += 1
            if answer.status >= 500:
                self.harm.append((case.name, answer, case.sent[:1_000]))
            self._note(case, answer)
        if count == 0:
            self.statuses["closed"] += 1

    def _note(self, case: Case, answer: RawAnswer) -> None:
        self.statuses[str(answer.status)] += 1
        if answer.status == 200:
            body = answer.json()
            if STATUS not in case.name and not body.get("alreadyAccepted"):
                self.accepted[body["requestId"]] = body["eventIds"]


@pytest.mark.chaos
@pytest.mark.slow
async def test_nothing_that_comes_over_the_wire_harms_the_gateway(door: Door) -> None:
    shop = await asyncio.to_thread(door.system.make_shop, "fuzz")
    await asyncio.to_thread(until_known, shop)
    told = Told(door.port)
    await told.send(Nonsense(shop, Random(1)).cases(WARM_UP))
    held = [_memory(door.pid)]
    for number in range(ROUNDS):
        await told.send(Nonsense(shop, Random(2 + number)).cases(CASES))
        held.append(_memory(door.pid))

    assert told.harm == []
    assert {"200", "400", "401", "404", "closed"} <= told.statuses.keys(), "the cases are of use"
    grown = [after["VmRSS"] - before["VmRSS"] for before, after in itertools.pairwise(held)]
    assert min(grown) < KEPT_BYTES, grown
    assert held[-1]["VmHWM"] - held[0]["VmRSS"] < PEAK_BYTES
    stored: dict[str, list[str]] = {}
    for record in await asyncio.to_thread(door.system.records, "raw-events"):
        raw = orjson.loads(record.value())
        said = raw.get("event") or raw["blocks"]
        stored.setdefault(raw["requestId"], []).append(said["eventId"])
    assert stored == told.accepted

    after_all, good = Told(door.port), Nonsense(shop, Random(99))
    for path in ROUTES:
        sent = post(path, good.headers(path), orjson.dumps(good.document(path)))
        await after_all.send([Case(path, sent)])
    assert after_all.statuses == {"200": len(ROUTES)}


def _memory(pid: int) -> dict[str, int]:
    """Bytes that a process holds now, and the most that it has held."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        name: int(kilobytes) * 1024
        for name, kilobytes in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE)
    }
