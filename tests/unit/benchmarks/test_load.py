"""The load sends what it says, and understands answers that come in pieces."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from typing_extensions import override

from benchmarks.load import press, request_template


def test_every_request_has_events_of_its_own() -> None:
    """The template is a whole request whose Content-Length is true."""
    head, _, body = (request_template(2, "token") % (7, 8)).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    first, second = (event["eventId"] for event in json.loads(body)["events"])
    assert first.endswith("-000000000007")
    assert second.endswith("-000000000008")


class _InPieces(asyncio.Protocol):
    """Answers each request with the pieces, a millisecond apart."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"POST /v1/events")
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(self._pieces):
            loop.call_later(number / 1000, self._transport.write, piece)


async def _serve(*pieces: bytes) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _InPieces(pieces), "127.0.0.1", 0)


async def test_an_answer_may_come_in_pieces() -> None:
    """Each is counted once, when its last byte is there."""
    server = await _serve(b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 4\r\n\r\n{", b"   ")
    async with server:
        found = await press(server.sockets[0].getsockname()[1], 1, "token", 0.2)
    assert found["requests"] > 2
    assert found["p50_ms"] >= 2  # two pauses of a millisecond


async def test_an_answer_that_is_not_200_ends_the_run() -> None:
    """With the answer as the message."""
    server = await _serve(b"HTTP/1.1 429 Too Many\r\nContent-Length: 6\r\n\r\nslower")
    async with server:
        with pytest.raises(SystemExit, match="slower"):
            await press(server.sockets[0].getsockname()[1], 1, "token", 5)
