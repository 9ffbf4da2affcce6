"""Misbehaviour on request: a queue of steps for each platform, one step used up by one request."""

from collections import defaultdict, deque
from dataclasses import replace
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from sandbox.exchange import Answer, Batch, Call, Platform

MAX_SECONDS = 3600


class Strict(BaseModel):
    """Of a script everything is checked, so that a misspelt step is not a test that passes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Step(Strict):
    """What is done to the next request."""

    times: int | None = Field(default=1, ge=1)
    """How many requests it is done to; None until the script is cleared."""


class Status(Step):
    """Answer with this status and a line of text, as a broken server or proxy does."""

    kind: Literal["status"]
    status: int = Field(ge=400, le=599)


class Slow(Step):
    """Let the time pass, then answer as usual."""

    kind: Literal["slow"]
    seconds: float = Field(ge=0, le=MAX_SECONDS)


class Throttle(Step):
    """Answer as the platform does to too many requests."""

    kind: Literal["throttle"]
    retry_after: float | None = Field(default=None, ge=0, le=MAX_SECONDS)


class Reset(Step):
    """Reset the connection without an answer; the events are not stored."""

    kind: Literal["reset"]


class Truncated(Step):
    """Store the events, then break off in the middle of the answer."""

    kind: Literal["truncated"]


class Html(Step):
    """Answer with a page for people, as proxies do; under HTTP 200 it must not pass for success."""

    kind: Literal["html"]
    status: int = Field(default=502, ge=200, le=599)


class FailedIn200(Step):
    """Refuse under HTTP 200, in the platform's own form."""

    kind: Literal["200_but_failed"]


class ExpiredToken(Step):
    """Answer as the platform does to a token that has run out."""

    kind: Literal["expired_token"]


class Poison(Step):
    """Refuse one event of the request, as the platform does a bad one."""

    kind: Literal["poison"]
    event: int = Field(ge=0)
    """Its position in the request; a shorter request is answered truly."""


AnyStep = Annotated[
    Status | Slow | Throttle | Reset | Truncated | Html | FailedIn200 | ExpiredToken | Poison,
    Field(discriminator="kind"),
]


class Order(Strict):
    """Body of ``POST /_sandbox/script``."""

    platform: Literal["meta", "tiktok", "pinterest", "snapchat", "reddit", "snackvideo"]
    account: str | None = None
    """Only requests for this account; None for every one of the platform."""
    steps: list[AnyStep] = Field(min_length=1)


class Script:
    """The steps that are still to be played."""

    def __init__(self) -> None:
        self._queues: defaultdict[tuple[str, str | None], deque[AnyStep]] = defaultdict(deque)

    def add(self, order: Order) -> None:
        """Queue an order's steps behind those that are there."""
        self._queues[order.platform, order.account].extend(order.steps)

    def take(self, platform: str, account: str) -> AnyStep | None:
        """The step for this request, if any; an account's own steps come first."""
        for key in ((platform, account), (platform, None)):
            queue = self._queues.get(key)
            if queue:
                return _use(queue)
        return None

    def clear(self) -> None:
        """Behave again."""
        self._queues.clear()


def _use(queue: deque[AnyStep]) -> AnyStep:
    step = queue[0]
    if step.times == 1:
        queue.popleft()
    elif step.times is not None:
        queue[0] = step.model_copy(update={"times": step.times - 1})
    return step


def play(step: AnyStep | None, platform: Platform, call: Call, batch: Batch) -> Answer:
    """The answer under this step; None and those that spoil only the way back answer truly."""
    match step:
        case Status() | Html() | Reset():
            return _before_the_api(step)
        case Throttle(retry_after=seconds):
            return platform.throttled(call, seconds)
        case FailedIn200():
            return platform.failed_in_200(call, batch)
        case ExpiredToken():
            return platform.expired_token(call)
        case Poison(event=position):
            bad = _poisoned(platform, call, position)
            return platform.answer(bad, platform.read(bad))
        case Slow() | Truncated() | None:
            return platform.answer(call, batch)


def _before_the_api(step: Status | Html | Reset) -> Answer:
    match step:
        case Status(status=status):
            return _no_api(status, "text/plain", f"{status}: upstream failure\n", step.kind)
        case Html(status=status):
            page = "<!DOCTYPE html><html><body><h1>We will be right back</h1></body></html>\n"
            return _no_api(status, "text/html", page, step.kind)
        case Reset():
            return _no_api(0, "text/plain", "", step.kind)


def _poisoned(platform: Platform, call: Call, position: int) -> Call:
    """The call as it would be if the event at ``position`` asked by its id to be refused."""
    events = platform.read(call).events
    event = events[position] if position < len(events) else None
    event_id = platform.event_id(event) if isinstance(event, dict) else None
    if not isinstance(event_id, str):
        return call
    renamed = _renamed(call.document, event_id, f"{event_id}-refuse-at-{platform.SLUG}")
    return replace(call, body=orjson.dumps(renamed))


def _renamed(value: Any, old: str, new: str) -> Any:
    """The same JSON with ``new`` for every text that is ``old``."""
    match value:
        case dict():
            return {key: _renamed(inner, old, new) for key, inner in value.items()}
        case list():
            return [_renamed(inner, old, new) for inner in value]
        case _:
            return new if value == old else value


def _no_api(status: int, content_type: str, text: str, kind: str) -> Answer:
    """What comes from something before the API; its code in the records is the step's kind."""
    return Answer(status, text.encode(), {"Content-Type": content_type}, code=kind)
