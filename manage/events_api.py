"""What became of an organisation's events: the log, the usage, the accuracy, and the live stream."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import ConfigDict, Field, StringConstraints
from sqlalchemy.exc import SQLAlchemyError

from manage import sessions, usage
from manage.errors import ErrorCode, invalid, not_found
from manage.live import LiveQuery, Subscription
from manage.routes import Access, Answer, Call, Handler, Route
from schemas.event_log import (
    AccuracyRow,
    EventPage,
    EventQuery,
    LoggedDelivery,
    Timeline,
    UsageDay,
)
from schemas.outcome import Reason
from schemas.wire import Wire

DAY_MS: Final = 24 * 3600 * 1000
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 400
"""For as long are the numbers of a day kept."""

HEARTBEAT_SECONDS: Final = 15.0
"""A stream that is silent for so long says that it is still there."""
_LOOK_SECONDS: Final = 1.0
"""How soon it is noticed that a silent stream's client is gone."""
_STUCK_SECONDS: Final = 60.0
"""A client that reads nothing for so long is left."""
_RETRY_MS: Final = 2000
"""After so long a browser opens a stream again that broke."""
_LIVE_SUMMARY: Final = (
    "Outcomes as they happen, as server-sent events: open (from here on none is missed; those between "
    "two of these may be), outcome (a LoggedDelivery, without its order), lost (how many the client "
    "was too slow for), end (log in again)"
)

_Moment = Annotated[int, Field(ge=0, le=4_102_444_800_000)]


class EventsQuery(EventQuery):
    """Which deliveries are asked for; an unknown parameter is refused."""

    model_config = ConfigDict(extra="forbid")


class Days(Wire):
    """Which days are asked for: those that the time between two moments touches."""

    model_config = ConfigDict(extra="forbid")

    since: _Moment | None = None
    """Unix milliseconds; 30 days before ``until`` when absent. What lies more than 400 days before
    ``until`` is left out."""
    until: _Moment | None = None
    """Not itself in it; Unix milliseconds. The end of today when absent."""

    def between(self, now_ms: int) -> tuple[int, int]:
        """From the first moment of the first day to that of the day after the last one."""
        until = _first_moment(now_ms if self.until is None else self.until - 1) + DAY_MS
        since = until - DEFAULT_DAYS * DAY_MS if self.since is None else self.since
        return max(_first_moment(since), until - MAX_DAYS * DAY_MS), until


class AccuracyQuery(Days):
    """Which days, and of which domain."""

    domain_id: Annotated[str, StringConstraints(min_length=1, max_length=300)] | None = None


class EventsAnswer(Answer, EventPage):
    """A page of the log, the last received first."""


class EventAnswer(Answer):
    """All that happened to an event."""

    timelines: tuple[Timeline, ...]
    """One for each domain that has an event of this id."""


class UsageAnswer(Answer):
    """The running month, in UTC."""

    period_start: int
    """Unix milliseconds."""
    period_end: int
    """The first moment of the next month; Unix milliseconds."""
    accepted: int
    """Events that the gateway took."""
    billable: int
    """Those of them that went to at least one destination."""
    limit: int | None
    """Billable events that the plan allows; null: any number."""
    percent: int | None
    """Of the limit."""
    quota_exceeded: bool


class DailyUsageAnswer(Answer):
    """Each day, the first one first, those without events too."""

    days: tuple[UsageDay, ...]


class Totals(Wire):
    """What became of the events of all rows."""

    accepted: int
    delivered: int
    skipped: dict[Reason, int]
    failed: dict[Reason, int]
    under_way: int


class AccuracyAnswer(Answer):
    """What became of each accepted event, by day and destination."""

    rows: tuple[AccuracyRow, ...]
    totals: Totals


async def list_events(call: Call[None, EventsQuery]) -> EventsAnswer:
    """``GET /v1/org/events``."""
    try:
        page = await call.services.event_log.events(await _domain_ids(call), call.query)
    except ValueError:
        raise invalid("this is not a nextCursor of an answer", "cursor") from None
    return EventsAnswer(events=page.events, nextCursor=page.next_cursor)


async def get_event(call: Call[None, None]) -> EventAnswer:
    """``GET /v1/org/events/{event_id}``."""
    found = await call.services.event_log.timeline(await _domain_ids(call), call.path("event_id"))
    if not found:
        raise not_found("event")
    return EventAnswer(timelines=tuple(found))


async def get_usage(call: Call[None, None]) -> UsageAnswer:
    """``GET /v1/org/usage``."""
    used = await usage.of_month(call.services, call.organisation_id)
    return UsageAnswer(
        periodStart=used.period.since,
        periodEnd=used.period.until,
        accepted=used.accepted,
        billable=used.billable,
        limit=used.limit,
        percent=used.percent,
        quotaExceeded=used.is_exceeded,
    )


async def list_daily_usage(call: Call[None, Days]) -> DailyUsageAnswer:
    """``GET /v1/org/daily-usage``."""
    since, until = call.query.between(call.services.clock.now_ms())
    known = await call.services.event_log.usage(await _domain_ids(call), since, until)
    return DailyUsageAnswer(days=tuple(_every_day(known, since, until)))


async def get_accuracy(call: Call[None, AccuracyQuery]) -> AccuracyAnswer:
    """``GET /v1/org/accuracy``."""
    since, until = call.query.between(call.services.clock.now_ms())
    domain_ids = await _domain_ids(call)
    asked = call.query.domain_id
    if asked is not None:
        domain_ids = [asked] if asked in domain_ids else []
    rows = await call.services.event_log.accuracy(domain_ids, since, until)
    return AccuracyAnswer(rows=tuple(rows), totals=_totals(rows))


async def follow_events(call: Call[None, LiveQuery]) -> web.StreamResponse:
    """``GET /v1/org/events/live``."""
    live = call.services.live
    domain_ids = await _domain_ids(call)
    async with live.subscribed(call.user.session_sha256, domain_ids, call.query) as subscription:
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        # For nginx, which would keep it until there is more.
        response.headers["X-Accel-Buffering"] = "no"
        await response.prepare(call.request)
        # Nobody reads it any more, or the database is away: the client asks again, and is told.
        with suppress(OSError, SQLAlchemyError):
            await _stream(call, subscription, response)
    return response


async def _stream(
    call: Call[None, LiveQuery], subscription: Subscription, response: web.StreamResponse
) -> None:
    """Write until the client is gone, may not look any more, or the process stops.

    Raises ``OSError`` when the client is gone, or stuck, and ``SQLAlchemyError``.
    """
    clock, live = call.services.clock, call.services.live
    await _write(response, f"retry: {_RETRY_MS}\n\n")
    is_open = False
    looked_at = clock.monotonic()
    while not live.is_closed and not _is_gone(call.request):
        await subscription.wait(_LOOK_SECONDS)
        text = _shown(*subscription.take())
        if live.is_caught_up is not is_open:
            is_open = live.is_caught_up
            text = ("event: open\ndata: {}\n\n" if is_open else "") + text
        if clock.monotonic() - looked_at >= HEARTBEAT_SECONDS:
            looked_at = clock.monotonic()
            if not await _may_look(call):
                await _write(response, "event: end\ndata: {}\n\n")
                return
            subscription.domain_ids = frozenset(await _domain_ids(call))
            text += ": still here\n\n"
        if text:
            await _write(response, text)


def _shown(lost: int, told: Iterable[LoggedDelivery]) -> str:
    """Outcomes as server-sent events, after how many are missing before them."""
    text = f'event: lost\ndata: {{"count":{lost}}}\n\n' if lost else ""
    return text + "".join(f"event: outcome\ndata: {one.model_dump_json()}\n\n" for one in told)


async def _write(response: web.StreamResponse, text: str) -> None:
    await asyncio.wait_for(response.write(text.encode()), _STUCK_SECONDS)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _may_look(call: Call[None, LiveQuery]) -> bool:
    """Whether whoever opened the stream is still logged in, and a member of the same organisation."""
    now = await sessions.who(call.services, call.request)
    return (
        now is not None and now.may(Access.MEMBER) and now.organisation_id == call.organisation_id
    )


async def _domain_ids(call: Call[None, Any]) -> list[str]:
    async with call.services.database.reading() as session:
        return await usage.domain_ids(session, call.organisation_id)


def _first_moment(moment_ms: int) -> int:
    """Of the UTC day that a moment lies in."""
    return moment_ms // DAY_MS * DAY_MS


def _every_day(known: Iterable[UsageDay], since: int, until: int) -> Iterator[UsageDay]:
    by_day = {each.day: each for each in known}
    for moment in range(since, until, DAY_MS):
        day = f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d}"
        yield by_day.get(day) or UsageDay(day=day, accepted=0, billable=0)


def _totals(rows: Sequence[AccuracyRow]) -> Totals:
    skipped: Counter[Reason] = Counter()
    failed: Counter[Reason] = Counter()
    for row in rows:
        skipped.update(row.skipped)
        failed.update(row.failed)
    return Totals(
        accepted=sum(row.accepted for row in rows),
        delivered=sum(row.delivered for row in rows),
        skipped=dict(skipped),
        failed=dict(failed),
        underWay=sum(row.under_way for row in rows),
    )


def _get(
    path: str,
    summary: str,
    handler: Handler,
    answer: type[Answer] | None,
    query: type[Wire] | None = None,
    codes: tuple[ErrorCode, ...] = (),
) -> Route:
    return Route(
        "GET", path, summary, handler, Access.MEMBER, answer, query=query, codes=codes, tag="events"
    )


ROUTES: Final = (
    _get("/v1/org/usage", "The events of the running month, and how many the plan allows", get_usage, UsageAnswer),
    _get("/v1/org/daily-usage", "The events of each day", list_daily_usage, DailyUsageAnswer, Days),
    _get("/v1/org/accuracy", "What became of every event, by day and destination", get_accuracy, AccuracyAnswer, AccuracyQuery),
    _get("/v1/org/events", "The event log: every event at every destination", list_events, EventsAnswer, EventsQuery),
    # Before the next one, which would take "live" for an event's id.
    _get("/v1/org/events/live", _LIVE_SUMMARY, follow_events, None, LiveQuery),
    _get("/v1/org/events/{event_id}", "All that happened to an event", get_event, EventAnswer),
)  # fmt: skip
