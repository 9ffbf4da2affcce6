"""Requests that no good client sends, made of a seed: the same each time."""

import copy
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import brotli

from tests.integration.raw_http import post
from tests.integration.system import Shop, purchase

EVENTS: Final = "/v1/events"
BLOCKS: Final = "/v1/pmw-events"
PURCHASES: Final = "/v1/sync/purchase-events"
STATUS: Final = "/v1/sync/dispatch-status"
ROUTES: Final = (EVENTS, BLOCKS, PURCHASES, STATUS)

BOMB_BYTES: Final = 10 * 1024 * 1024
DEPTHS: Final = (100, 1_000, 10_000, 50_000)


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes for one connection."""

    name: str
    sent: bytes
    answers: int | None = 1
    """How many to wait for; None: as many as come until the connection is closed."""


@dataclass(frozen=True, slots=True)
class Nonsense:
    """Bad requests of one shop."""

    shop: Shop
    dice: Random

    def cases(self, count: int) -> Iterator[Case]:
        """Every kind in turn, on every route."""
        kinds: tuple[Callable[[str], Case], ...] = (
            self._random_bytes,
            self._damaged,
            self._ill_shaped,
            self._ill_shaped,
            self._nested,
            self._odd_text,
            self._cut_short,
            self._wrongly_packed,
            self._bomb,
            self._odd_headers,
            self._pipelined,
            self._no_http,
            self._bad_framing,
        )
        for number in range(count):
            yield kinds[number % len(kinds)](ROUTES[number // len(kinds) % len(ROUTES)])

    def headers(self, path: str) -> dict[str, str]:
        """Those of a good request."""
        if path in {EVENTS, BLOCKS}:
            return self.shop.headers()
        bearer = {"Authorization": f"Bearer {self.shop.sync_token}"}
        return {k: v for k, v in self.shop.headers().items() if k != "X-SSP-Token"} | bearer

    def document(self, path: str) -> dict[str, Any]:
        """A good body."""
        name = f"n-{self.dice.getrandbits(64):x}"
        if path == BLOCKS:
            meta = {"event_name": "Purchase", "event_id": name, "event_time": 1_790_000_000}
            tiktok = {"event": "CompletePayment", "event_id": name, "properties": {"value": 1}}
            return {"event": "purchase", "facebook": meta | {"user_data": {}}, "tiktok": tiktok}
        if path == STATUS:
            return {"dispatchKey": name}
        events = {"events": [purchase(name)]}
        return events if path == EVENTS else events | {"dispatchKey": name}

    def _case(self, path: str, name: str, body: bytes, **headers: str) -> Case:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return Case(f"{name} {path}", post(path, self.headers(path) | named, body))

    def _good(self, path: str) -> bytes:
        return json.dumps(self.document(path)).encode()

    def _random_bytes(self, path: str) -> Case:
        return self._case(path, "random bytes", self.dice.randbytes(self.dice.randrange(3_000)))

    def _damaged(self, path: str) -> Case:
        body = bytearray(self._good(path))
        for _ in range(self.dice.randrange(1, 6)):
            start = self.dice.randrange(len(body))
            body[start : start + self.dice.randrange(4)] = self.dice.randbytes(
                self.dice.randrange(4)
            )
        return self._case(path, "damaged", bytes(body))

    def _ill_shaped(self, path: str) -> Case:
        """JSON, with something else in one or two places."""
        document = self.document(path)
        for _ in range(self.dice.randrange(1, 3)):
            holder, key = self.dice.choice(list(_places(document)))
            odd = copy.deepcopy(self.dice.choice(_ODD_VALUES))
            if isinstance(holder, dict) and self.dice.random() < 0.2:
                holder[self.dice.choice(_ODD_TEXTS)] = odd
            else:
                holder[key] = odd
        # Whatever JSON has no word for, such as NaN, goes as Python writes it.
        return self._case(path, "ill-shaped", json.dumps(document).encode())

    def _nested(self, path: str) -> Case:
        depth = self.dice.choice(DEPTHS)
        opened, closed = self.dice.choice([(b"[", b"]"), (b'{"a":', b"}")])
        nest = opened * depth + b"1" + closed * depth
        if self.dice.random() < 0.5:
            return self._case(path, f"nested {depth}", nest)
        place = self.dice.choice([b'"customer@example.com"', b"49.99", b"{}", b"1}"])
        return self._case(path, f"nested {depth}", self._good(path).replace(place, nest))

    def _odd_text(self, path: str) -> Case:
        """A text that is none, and a key twice."""
        text = self.dice.choice(_RAW_TEXTS)
        body = self._good(path).replace(b'"n-', b'"' + text, 1)
        twice = b'{"events":[],"dispatchKey":"\\u0000","facebook":1,' + self._good(path)[1:]
        return self._case(path, "odd text", self.dice.choice([body, twice]))

    def _cut_short(self, path: str) -> Case:
        body = self._good(path)
        sent = body[: self.dice.randrange(len(body))]
        return self._case(path, "cut short", sent, Content_Length=str(len(body)))

    def _wrongly_packed(self, path: str) -> Case:
        coding = self.dice.choice(["gzip", "deflate", "br", "zstd", "bogus", "gzip, gzip", "\xff"])
        body = self._good(path)
        packed = self.dice.choice([body, gzip.compress(body)[:-9], zlib.compress(body)[1:], b""])
        return self._case(path, f"said to be {coding}", packed, Content_Encoding=coding)

    def _bomb(self, path: str) -> Case:
        """What unpacks to a hundred times of what may come."""
        coding, body = self.dice.choice(_BOMBS)
        return self._case(path, f"bomb {coding}", body, Content_Encoding=coding)

    def _odd_headers(self, path: str) -> Case:
        odd = self.dice.choice(_ODD_HEADERS)
        return Case(
            f"headers {min(odd)[:20]} {path}",
            post(path, self.headers(path) | odd, self._good(path)),
            answers=None,
        )

    def _pipelined(self, path: str) -> Case:
        requests = [post(path, self.headers(path), self._good(path)) for _ in range(10)]
        return Case(f"pipelined {path}", b"".join(requests), answers=len(requests))

    def _no_http(self, path: str) -> Case:
        begun = self.dice.choice(_BEGINNINGS) % {b"path": path.encode()}
        more = self.dice.randbytes(self.dice.choice([0, 1, 500]))
        return Case(f"no HTTP {begun[:40]!r}", begun + more, answers=None)

    def _bad_framing(self, path: str) -> Case:
        """Lengths that are none, and chunks that are none."""
        framing = self.dice.choice(_FRAMINGS)
        return Case(
            f"framing {framing} {path}",
            post(path, self.headers(path) | framing, b"FFFFFFFFFFFFFFFFF\r\n" + self._good(path)),
            answers=None,
        )


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Everything in a document that can be replaced: its holder, and where it is there."""
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _places(node[key])


_ODD_TEXTS: Final = (
    "",
    " ",
    "\0",
    "\ud800",
    "\udfff\ud800",
    "é" * 90,
    "🛒",
    "x" * 20_000,
    "__proto__",
)
_ODD_VALUES: Final[tuple[Any, ...]] = (
    *_ODD_TEXTS,
    *(None, True, [], {}, [[]], [None], {"": None}, [1, "2", {"3": 4}]),
    *(0, -1, 1 << 53, 1 << 64, -(1 << 63) - 1, 10**400, 1e308, -1e308, 5e-324, 0.1 + 0.2),
    *(float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", "1e400", "1_000", "\uff11\uff12"),
    *("2026-11-20T10:00:00Z", "9" * 5_000, "-0", "0x10", "::1", "999.999.999.999", "fe80::1%eth0"),
    *([{"id": "x", "quantity": 10**30}] * 501, {"n" * 100: {"n": {"n": {}}}}),
)  # fmt: skip
_RAW_TEXTS: Final = (
    b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\\ud800", b"\\udc00\\ud800",
    b"\\u0000", b"\x00", b"\n", b"\\x41", b"\\", b'"', b"\xef\xbb\xbf", b"a" * 90_000,
)  # fmt: skip
_BLANK: Final = b" " * BOMB_BYTES
_ZEROES: Final = b"\0" * BOMB_BYTES
_BOMBS: Final = tuple(
    (coding, pack(content))
    for coding, pack in (
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", lambda content: brotli.compress(content, quality=1)),
        ("gzip", lambda content: gzip.compress(content[: 1 << 20]) * 10),
    )
    for content in (_BLANK, _ZEROES, b"[" * BOMB_BYTES)
)
_ODD_HEADERS: Final[tuple[dict[str, str], ...]] = (
    {f"X-Header-{number}": "value" for number in range(90)},
    {f"X-Header-{number}": "value" for number in range(5_000)},
    {"X-Enormous": "x" * 1_000_000},
    {"User-Agent": "x" * 8_000},
    {"User-Agent": "\xff\xfe\x80"},
    {"User-Agent": ""},
    {"Host": ""},
    {"Host": "[::1"},
    {"Host": "\xff.example"},
    {"Host": "x" * 5_000},
    {"Content-Type": "application/json; charset=bogus"},
    {"Content-Type": "\xff/\x80; ;;="},
    {"Authorization": "Bearer \xff\xfe"},
    {"Authorization": "bearer"},
    {"X-SSP-Token": "\xff" * 64},
    {"X-Forwarded-For": "," * 5_000},
    {"Origin": "https://["},
    {"Origin": "null"},
    {"Origin": "https://\xff.example:99999999"},
    {"Expect": "100-continue"},
    {"Expect": "a-miracle"},
    {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"},
    {"Connection": "keep-alive, close, \xff"},
    {"X-Split": "a\r\nInjected: yes"},
    {"X-Nul": "\0"},
    {" X-Space": "x"},
)
_BEGINNINGS: Final = (
    b"", b"\r\n\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST %(path)s HTTP/9.9\r\n\r\n", b"POST %(path)s HTTP/1.1\r\n", b"GET\r\n\r\n",
    b"POST " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n", b"POST %%00%%ff%%zz HTTP/1.1\r\n\r\n",
    b"CONNECT shop.example:443 HTTP/1.1\r\n\r\n", b"TRACE * HTTP/1.1\r\n\r\n",
    b"POST http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS %(path)s HTTP/1.1\r\nOrigin: \r\n\r\n",
    b"POST %(path)s?token=%%ff&token[]=\x80 HTTP/1.0\r\n\r\n",
)  # fmt: skip
_FRAMINGS: Final[tuple[dict[str, str], ...]] = (
    {"Content-Length": "-1"},
    {"Content-Length": "1e3"},
    {"Content-Length": "9" * 40},
    {"Content-Length": "+10"},
    {"Content-Length": ""},
    {"Content-Length": "0"},
    {"Content-Length": "5, 6"},
    {"Transfer-Encoding": "chunked"},
    {"Transfer-Encoding": "chunked, chunked", "Content-Length": "3"},
    {"Transfer-Encoding": "\xff"},
)
