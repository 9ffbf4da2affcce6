"""Posting a file of events to a gateway, as a shop would."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from ingest.guards import TOKEN_HEADER
from runtime.clock import Clock
from runtime.errors import CapistreamError, UnavailableError
from schemas.limits import MAX_BODY_BYTES, MAX_EVENT_TIME_SECONDS, MAX_EVENTS_PER_REQUEST

NOT_YET_SECONDS: Final = 10.0
"""How long a host that the gateway does not know yet is tried again: a domain that was added a
moment ago is on its way there."""

BUSY_SECONDS: Final = 180.0
"""How long a body is sent again to a gateway that asks to come later, as a shop would."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What the gateway answered to a file."""

    event_ids: list[str]
    warnings: list[str]


def read_events(text: bytes) -> list[dict[str, Any]]:
    """The events of a file: ``{"events":[…]}``, a list of events, or one event a line.

    Raises ``CapistreamError`` when it is none of these.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = _read_lines(text)
    events = document.get("events", [document]) if isinstance(document, dict) else document
    if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
        raise CapistreamError(
            'the file must hold {"events": [...]}, a list of events, or one a line'
        )
    return events


def _read_lines(text: bytes) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError as error:
        raise CapistreamError(f"the file is not JSON: {error}") from None


def bring_to_now(events: Sequence[dict[str, Any]], now_seconds: int) -> list[dict[str, Any]]:
    """The same events, moved in time together so that the newest is of this moment: platforms
    take no event of last month."""
    times = [_seconds(event.get("eventTime")) for event in events]
    shift = now_seconds - max((time for time in times if time is not None), default=now_seconds)
    return [
        event if time is None else event | {"eventTime": time + shift}
        for event, time in zip(events, times, strict=True)
    ]


def _seconds(event_time: Any) -> int | float | None:
    """An event's time in seconds, whichever unit it came in; None when it is no time at all."""
    if isinstance(event_time, bool) or not isinstance(event_time, int | float):
        return None
    return event_time / 1000 if event_time >= MAX_EVENT_TIME_SECONDS else event_time


def in_requests(events: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Bodies that keep to the gateway's limits."""
    part: list[bytes] = []
    size = 0
    for event in events:
        text = orjson.dumps(event)
        if part and (
            len(part) >= MAX_EVENTS_PER_REQUEST or size + len(text) > MAX_BODY_BYTES - 100
        ):
            yield _body(part)
            part, size = [], 0
        part.append(text)
        size += len(text) + 1
    if part:
        yield _body(part)


def _body(events: Sequence[bytes]) -> bytes:
    return b'{"events":[' + b",".join(events) + b"]}"


async def send_events(
    events: Sequence[dict[str, Any]], *, url: str, host: str, token: str, clock: Clock
) -> Sent:
    """Post events to the gateway at ``url`` as the shop ``host``.

    Raises ``CapistreamError`` with the gateway's message when it refuses, ``UnavailableError``
    when it does not answer.
    """
    headers = {"Host": host, TOKEN_HEADER: token, "Content-Type": "application/json"}
    sent = Sent([], [])
    async with aiohttp.ClientSession(headers=headers) as session:
        for body in in_requests(events):
            answer = await _post(session, f"{url}/v1/events", body, clock)
            sent.event_ids.extend(answer["eventIds"])
            sent.warnings.extend(answer.get("warnings", []))
    return sent


async def _post(session: aiohttp.ClientSession, url: str, body: bytes, clock: Clock) -> Any:
    not_yet_until = clock.monotonic() + NOT_YET_SECONDS
    busy_until = clock.monotonic() + BUSY_SECONDS
    while True:
        try:
            async with session.post(url, data=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"no gateway answers at {url}: {type(error).__name__}") from None
        if response.status == 200:
            return answer
        refusal = answer["error"]
        match refusal["code"]:
            case "domain_not_configured" if clock.monotonic() < not_yet_until:
                await clock.sleep(0.2)
            case "rate_limited" | "unavailable" if clock.monotonic() < busy_until:
                await clock.sleep(int(response.headers.get("Retry-After", 1)))
            case code:
                where = f"{refusal['field']}: " if "field" in refusal else ""
                raise CapistreamError(
                    f"the gateway answered {response.status} {code}: {where}{refusal['message']}"
                )


def read_file(path: str) -> bytes:
    """The bytes of a file, or of standard input for ``-``.

    Raises ``CapistreamError`` when it cannot be read.
    """
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CapistreamError(f"{path} cannot be read: {error.strerror}") from None
