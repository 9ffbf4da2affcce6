"""HTTP as bytes: for clients that are many, cheap, or not well-behaved."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One answer, as it came."""

    status: int
    headers: Mapping[str, str]
    """By their names in lower case."""
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object."""
        found: dict[str, Any] = json.loads(self.body)
        return found


def post(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A request as one goes over the wire; ``Content-Length`` unless the headers have one."""
    known = {"Content-Length": str(len(body))} | dict(headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in known.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


async def read_answer(reader: asyncio.StreamReader) -> RawAnswer | None:
    """The next answer on a connection; None when it was closed in place of one."""
    try:
        head = await reader.readuntil(_END_OF_HEAD)
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return RawAnswer(int(first.split(" ")[1]), headers, body)
