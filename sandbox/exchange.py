"""One HTTP exchange with a stand-in, as values: what was asked, what it held, what is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from sandbox.schema import Schema

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One request as it came in."""

    account: str
    """The pixel or ad account id of the path; empty where the platform has it in the body."""
    headers: Mapping[str, str]
    """Looked up without regard to case."""
    query: Mapping[str, str]
    body: bytes
    now: float
    """Unix time in seconds at which the platform looks at it."""
    path: str = ""

    @cached_property
    def document(self) -> Any:
        """The decoded JSON body, or None when it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    @cached_property
    def trace(self) -> str:
        """The id that an answer calls this request by; the same request has the same one."""
        return blake2b(self.body, digest_size=12).hexdigest()

    def field(self, *path: str) -> Any:
        """The value at ``path`` in the body's objects, or None where there is no such thing."""
        value = self.document
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def text(self, *path: str) -> str | None:
        """The text at ``path`` in the body, or None where there is something else."""
        value = self.field(*path)
        return value if isinstance(value, str) else None

    def events(self, *path: str) -> list[Any]:
        """The list at ``path`` in the body, empty when there is none."""
        value = self.field(*path)
        return value if isinstance(value, list) else []

    def bearer(self) -> str:
        """The token of an ``Authorization: Bearer`` header, or an empty string."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a request held, read tolerantly: also of a request that will be refused."""

    account: str
    events: Sequence[Any] = ()
    test_event_code: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a platform says, and what that meant for the events of the request."""

    status: int
    """The HTTP status; 0 when the connection is closed instead."""
    body: bytes
    headers: Mapping[str, str]
    code: str | None = None
    """Why nothing was stored, as the platform's own code (``100/2804003``); None when it was."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """Position in the batch → code, where a platform refuses single events of a stored batch."""

    def code_of(self, index: int) -> str | None:
        """The code of one event of the batch; None when it was stored."""
        return self.failed.get(index, self.code)


def reply(
    status: int,
    body: Any,
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
    failed: Mapping[int, str] | None = None,
) -> Answer:
    """A JSON answer. Without a ``code`` it says that the events were stored."""
    return Answer(
        status=status,
        body=orjson.dumps(body),
        headers={"Content-Type": "application/json", **(headers or {})},
        code=code,
        failed=failed or {},
    )


def wait_header(retry_after: float | None) -> dict[str, str]:
    """``Retry-After`` in whole seconds, rounded up, or no header."""
    return {} if retry_after is None else {"Retry-After": str(-int(-retry_after // 1))}


class Platform(Protocol):
    """The shape of a platform's module in this package.

    Everything in it is a pure function of the call; ``batch`` is what ``read`` made of that call.
    """

    SLUG: str
    NAME: str
    PATH: str
    """The vendor's path as an aiohttp route; ``{account}`` is the id in it."""
    EVENT: Schema
    """What an event may hold, to name the keys that an open platform ignores."""

    def read(self, call: Call, /) -> Batch:
        """The events of a request, whatever is wrong with it."""
        ...

    def answer(self, call: Call, batch: Batch, /) -> Answer:
        """What the platform says when nothing is the matter with it."""
        ...

    def expired_token(self, call: Call, /) -> Answer:
        """The answer to a token that has run out."""
        ...

    def throttled(self, call: Call, retry_after: float | None, /) -> Answer:
        """The answer to too many requests; ``retry_after`` in seconds, None to name no time."""
        ...

    def failed_in_200(self, call: Call, batch: Batch, /) -> Answer:
        """A refusal under HTTP 200, in the platform's own form; nothing is stored."""
        ...

    def event_id(self, event: Event, /) -> Any:
        """The deduplication id of an event, or what comes nearest to one, or None."""
        ...

    def event_name(self, event: Event, /) -> Any:
        """What the platform calls this kind of event, or None."""
        ...
