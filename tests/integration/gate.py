"""A server between the sinks and the sandbox. It passes requests on as they are; to those of one
account it answers as a platform would that quotes what it was sent."""

import contextlib
import json
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from typing_extensions import override

Refusal: TypeAlias = Callable[[Any, str], tuple[int, dict[str, Any]]]
"""A code (None: the platform's own for a bad event) and a text → status and body."""

REFUSALS: Final[Mapping[str, Refusal]] = {
    "/v24.0/": lambda code, text: (400, {"error": {"code": code or 100, "message": text}}),
    "/open_api/": lambda code, text: (400, {"code": code or 40002, "message": text}),
    "/v5/": lambda code, text: (400, {"code": code or 4196, "message": text}),
    "/v3/": lambda code, text: (
        400,
        {"status": "INVALID", "reason": text, "errors": {"codes": [code], "error_msgs": [text]}},
    ),
    "/api/v3/": lambda code, text: (400, {"error": {"code": code or 400, "message": text}}),
    "/log/": lambda code, text: (200, {"result": code or 10002, "error_msg": text}),
}
"""How a path begins → how the platform there refuses."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def quotes(head: str, body: str) -> list[str]:
    """What a platform may quote of a request: a line of its head, or the last word of one, which may
    be the token alone, or its body from some field on."""
    fields = body.split(",")
    parts = [",".join(fields[start:]) for start in range(0, len(fields), 3)]
    lines = head.splitlines()
    return [*lines, *(line.rpartition(" ")[2] for line in lines[1:]), *parts]


class Gate(socketserver.ThreadingTCPServer):
    """The server; ``sandbox`` is to be named before anything comes in."""

    daemon_threads = True
    sandbox = ""

    def __init__(self, account: str, event_id: str, told: str) -> None:
        """Requests for ``account`` are answered with ``told`` and a quote: the one of the number
        behind ``event_id`` in the request."""
        super().__init__(("127.0.0.1", 0), _Passage)
        self.account = account.encode()
        self.numbers = re.compile(re.escape(event_id).encode() + rb"(\d+)")
        self.told = told
        self.quoted: dict[str, set[str]] = {start: set() for start in REFUSALS}
        """How a path begins → what was quoted there."""
        self._answered: set[tuple[str, int]] = set()

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refusal(self, head: bytes, body: bytes) -> tuple[int, dict[str, Any]]:
        """The answer to a request of the account. More events than one are refused without a
        quote, so that they come again one by one; so is one that comes again, which ends it."""
        path = head.split(b" ", 2)[1].decode()
        begins = next(start for start in REFUSALS if path.startswith(start))
        numbers = {int(found) for found in self.numbers.findall(body)}
        if len(numbers) > 1 or (begins, min(numbers)) in self._answered:
            return REFUSALS[begins](None, "this is wrong")
        number = min(numbers)
        self._answered.add((begins, number))
        known = quotes(head.decode(), body.decode())
        quote = known[number % len(known)]
        self.quoted[begins].add(quote)
        # In every other answer it stands in the place of the code too.
        return REFUSALS[begins](quote if number % 2 else None, f"{self.told}: {quote}")


class _Passage(socketserver.StreamRequestHandler):
    """One connection."""

    server: Gate

    @override
    def handle(self) -> None:
        while head := self._head():
            length = re.search(rb"(?im)^content-length: *(\d+)", head)
            body = self.rfile.read(int(length[1]) if length else 0)
            if self.server.account not in head + body:
                self._pass_on(head, body)
                return
            status, document = self.server.refusal(head, body)
            text = json.dumps(document).encode()
            self.wfile.write(
                b"HTTP/1.1 %d Told\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                % (status, len(text))
                + text
            )

    def _head(self) -> bytes:
        """The lines before the blank one; nothing when no request comes any more."""
        lines = []
        with contextlib.suppress(ConnectionError):
            while (line := self.rfile.readline()).strip():
                lines.append(line)
        return b"".join(lines)

    def _pass_on(self, head: bytes, body: bytes) -> None:
        """Ask the sandbox, and give back what it answers, byte for byte, also how it ends."""
        there = urlsplit(self.server.sandbox)
        with socket.create_connection((there.hostname or "", there.port or 0)) as sandbox:
            sandbox.sendall(head + b"Connection: close\r\n\r\n" + body)
            try:
                while part := sandbox.recv(65536):
                    self.wfile.write(part)
            except ConnectionResetError:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                self.request.close()


@contextmanager
def gate(account: str, event_id: str, told: str) -> Iterator[Gate]:
    """A running gate."""
    with Gate(account, event_id, told) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
