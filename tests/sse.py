"""Reading a stream of server-sent events as a browser does."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse


@dataclass(frozen=True, slots=True)
class Sent:
    """One block of a stream."""

    event: str
    """``comment`` for a line that browsers pass over."""
    data: Any = None


async def blocks(response: ClientResponse) -> AsyncIterator[Sent]:
    """What comes, until the stream ends."""
    while line := await response.content.readline():
        lines = []
        while line not in (b"\n", b""):
            lines.append(line.decode().rstrip("\n"))
            line = await response.content.readline()
        fields = dict(part.partition(": ")[::2] for part in lines)
        if "event" in fields:
            yield Sent(fields["event"], json.loads(fields["data"]))
        elif "" in fields:
            yield Sent("comment")


async def next_of(sent: AsyncIterator[Sent], event: str, within: float = 10.0) -> Sent:
    """The next block of this kind."""
    async with asyncio.timeout(within):
        async for block in sent:
            if block.event == event:
                return block
    raise AssertionError(f"the stream ended without {event}")


async def until_end(sent: AsyncIterator[Sent], within: float = 10.0) -> list[Sent]:
    """All that still comes before the stream ends."""
    async with asyncio.timeout(within):
        return [block async for block in sent]
