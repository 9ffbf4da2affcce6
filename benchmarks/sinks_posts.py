"""A bare aiohttp client: it posts bodies that were made beforehand, and nothing else.

No log, no ledger, no outcomes, no retries. A batch that is refused is split into single events, as many
clients do. Prints what it took as one JSON object. ``python -m benchmarks.sinks_posts``.
"""

import argparse
import asyncio
import itertools
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp
import uvloop

from benchmarks.sinks_work import BAD, FULL, POSTED, credentials, payload
from platforms.base import Request
from platforms.registry import PLATFORMS

Payloads: TypeAlias = Sequence[bytes]


class UnexpectedAnswerError(Exception):
    """An answer that is neither yes nor no: a figure with failures in it says nothing."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A request that is ready, and what is in it."""

    payloads: Payloads
    request: Request

    @classmethod
    def of(cls, payloads: Payloads) -> "Batch":
        """The request for these payloads."""
        return cls(payloads, PLATFORMS[POSTED].request(payloads, credentials(POSTED)))


def batches(events: int, in_request: int, bad: int) -> list[Batch]:
    """So many events that were never sent, the last ``bad`` of which are to be refused."""
    run = secrets.token_hex(4)
    ids = [f"{run}-{n:08d}{BAD if n >= events - bad else ''}" for n in range(events)]
    payloads = [payload(POSTED, event_id) for event_id in ids]
    return [
        Batch.of(payloads[first : first + in_request]) for first in range(0, events, in_request)
    ]


class Client:
    """Posts batches to one platform, so many at once."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, at_once: int) -> None:
        self._session = session
        self._base_url = base_url
        self._at_once = at_once
        self.requests = 0
        self.refused = 0
        """Events that were refused alone."""

    async def post(self, given: Sequence[Batch]) -> None:
        """Post all of them, and then what was refused, event by event.

        Raises ``UnexpectedAnswerError``.
        """
        waiting = iter(given)
        found = await asyncio.gather(*(self._post(waiting) for _ in range(self._at_once)))
        refused = [batch for some in found for batch in some]
        self.refused += sum(len(batch.payloads) == 1 for batch in refused)
        apart = [batch.payloads for batch in refused if len(batch.payloads) > 1]
        if apart:
            await self.post([Batch.of([one]) for one in itertools.chain(*apart)])

    async def _post(self, waiting: Iterator[Batch]) -> list[Batch]:
        refused = []
        for batch in waiting:
            request = batch.request
            async with self._session.post(
                self._base_url + request.path, data=request.body, headers=request.headers
            ) as answer:
                told = await answer.read()
            self.requests += 1
            if answer.status == 400:
                refused.append(batch)
            elif answer.status != 200:
                raise UnexpectedAnswerError(f"{answer.status}: {told[:300]!r}")
        return refused


async def measure(port: int, events: int, in_request: int, at_once: int, bad: int) -> dict[str, float]:  # fmt: skip
    """Post so many events."""
    ready = batches(events, in_request, bad)
    async with aiohttp.ClientSession() as session:
        client = Client(session, f"http://127.0.0.1:{port}", at_once)
        started, cpu = time.perf_counter(), time.process_time()
        await client.post(ready)
        return {
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - cpu,
            "requests": client.requests,
            "refused": client.refused,
        }


def main() -> None:
    """Read the options, post, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the sandbox")
    parser.add_argument("--events", type=int, default=FULL)
    parser.add_argument("--in-request", type=int, default=FULL, help="events in each request")
    parser.add_argument("--at-once", type=int, default=4, help="requests")
    parser.add_argument("--bad", type=int, default=0, help="how many events are to be refused")
    print(json.dumps(uvloop.run(measure(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
