"""The event log, read: what becomes of events, by many filters, a page at a time."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from audit.fold import ACCEPTED, UNDER_WAY
from audit.query import (
    Branch,
    Filters,
    Found,
    can_be_told,
    cursor_of,
    filters_of,
    laterally,
    place_of,
    read_cursor,
    together,
)
from audit.rows import Rows, rows_of
from audit.tables import ATTEMPTS, COUNTERS, DELIVERIES, EVENTS, HOUR_MS, TEXTS, USAGE, upgrade
from audit.timeline import Passing, TextKey, Texts, said_in, timeline_of
from runtime.database import Database
from schemas.event_log import (
    AccuracyRow,
    EventPage,
    EventQuery,
    LoggedDelivery,
    State,
    Timeline,
    UsageDay,
)
from schemas.outcome import OutcomeKind, Reason

_DAY_MS: Final = 24 * HOUR_MS

_MOST_TEXTS: Final = 1000
"""Texts that match and are looked up one by one; more than that are met soon by reading on."""
_MOST_COPIES: Final = 1000
"""Rows of one event or one order that are looked at: far more than there should be."""
_AT_ONCE: Final = 200
"""Below the parts that SQLite takes in a query."""

_FAILED: Final = {OutcomeKind.REJECTED, OutcomeKind.EXPIRED}
_UNTOLD: Final = {
    OutcomeKind.REJECTED: Reason.REFUSED_BY_PLATFORM,
    OutcomeKind.EXPIRED: Reason.PLATFORM_UNAVAILABLE,
    OutcomeKind.DUPLICATE: Reason.SAME_EVENT_ID,
    OutcomeKind.SKIPPED: Reason.EXCLUDED,
}
"""What outcomes are counted by that have no reason, as every one of ours has."""


class SqlEventLog:
    """The ``schemas.event_log.EventLog`` of a database that has the tables (``audit.tables``)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def events(self, domain_ids: Sequence[str], query: EventQuery) -> EventPage:
        """A page. Raises ``ValueError`` for a cursor that is not ours."""
        filters = filters_of(query)
        if not all(map(can_be_told, query.model_dump().values())):
            return EventPage(events=(), nextCursor=None)
        own = [one for one in dict.fromkeys(domain_ids) if query.domain_id in {None, one}]
        async with self._database.reading() as session:
            rows = await rows_of(session)
            branches = [Branch(one) for one in own]
            if query.text is not None:
                branches, matches = await _saying(session, own, query.text)
                filters += matches
            if query.order_id is not None:
                filters += await _of_order(session, own, query)
            found = await self._newest(session, branches, filters, query.limit + 1)
            page = found[: query.limit]
            events = await _deliveries(rows, page)
        following = cursor_of(page[-1]) if len(found) > query.limit else None
        return EventPage(events=tuple(events), nextCursor=following)

    async def _newest(
        self, session: AsyncSession, branches: Sequence[Branch], filters: Filters, limit: int
    ) -> Found:
        """Of each branch the newest that pass the filters, and of these the newest."""
        if not branches:
            return []
        if not self._database.is_sqlite:
            return (await session.execute(laterally(branches, filters, limit))).all()
        found: list[Row[Any]] = []
        for start in range(0, len(branches), _AT_ONCE):
            some = branches[start : start + _AT_ONCE]
            found += (await session.execute(together(some, filters, limit))).all()
        return sorted(found, key=place_of, reverse=True)[:limit]

    async def timeline(self, domain_ids: Sequence[str], event_id: str) -> Sequence[Timeline]:
        """The event of this id, of each domain that has one."""
        if not can_be_told(event_id):
            return []
        async with self._database.reading() as session:
            rows = await rows_of(session)
            events = await _copies(session, EVENTS, domain_ids, event_id)
            deliveries = await _copies(session, DELIVERIES, domain_ids, event_id)
            attempts = await rows.find(
                ATTEMPTS,
                ("state", "attempt", "at", "reason", "text_id"),
                [place_of(one) for one in deliveries],
            )
            passing: defaultdict[tuple[int, bytes], list[Passing]] = defaultdict(list)
            for received_at, name, *told in attempts:
                passing[received_at, name].append(Passing(*told))
            texts = await _texts(rows, said_in(deliveries, passing))
        told_of = {one.domain_id for one in (*events, *deliveries)}
        return [
            timeline_of(
                [one for one in events if one.domain_id == domain_id],
                [one for one in deliveries if one.domain_id == domain_id],
                passing,
                texts,
            )
            for domain_id in sorted(told_of)
        ]

    async def accuracy(
        self, domain_ids: Sequence[str], since: int, until: int
    ) -> Sequence[AccuracyRow]:
        """By day, domain and destination, of the days that ``since`` to ``until`` touch."""
        columns = COUNTERS.c
        day = (columns.hour // 24).label("day")
        parts = (columns.domain_id, columns.destination_id, columns.platform)
        query = (
            select(day, *parts, columns.outcome, columns.reason, func.sum(columns.n).label("n"))
            .where(columns.domain_id.in_(domain_ids), *_hours(columns.hour, since, until))
            .where(columns.is_replay.is_(False))
            .group_by(day, *parts, columns.outcome, columns.reason)
        )
        async with self._database.reading() as session:
            found = (await session.execute(query)).all()
        counted: defaultdict[tuple[int, str, str, str], dict[tuple[str, str], int]]
        counted = defaultdict(dict)
        for one in found:
            place = int(one.day), one.domain_id, one.destination_id, one.platform
            counted[place][one.outcome, one.reason] = int(one.n)
        return [_accuracy(place, counts) for place, counts in sorted(counted.items())]

    async def usage(self, domain_ids: Sequence[str], since: int, until: int) -> Sequence[UsageDay]:
        """By day, of the days that ``since`` to ``until`` touch and that have any, the first one
        first."""
        columns = USAGE.c
        day = (columns.hour // 24).label("day")
        query = (
            select(
                day,
                func.sum(columns.accepted).label("accepted"),
                func.sum(columns.billable).label("billable"),
            )
            .where(columns.domain_id.in_(domain_ids), *_hours(columns.hour, since, until))
            .group_by(day)
            .order_by(day)
        )
        async with self._database.reading() as session:
            found = (await session.execute(query)).all()
        return [
            UsageDay(day=_date(one.day), accepted=int(one.accepted), billable=int(one.billable))
            for one in found
        ]


async def open_log(database: Database) -> SqlEventLog:
    """The event log of a database, whose tables are brought to their newest revision.

    Raises ``UnavailableError`` when the database cannot be reached.
    """
    await upgrade(database)
    return SqlEventLog(database)


async def _saying(
    session: AsyncSession, domain_ids: Sequence[str], wanted: str
) -> tuple[list[Branch], Filters]:
    """Where the deliveries lie whose code or sentence contains a text."""
    columns = TEXTS.c
    matches = select(columns.domain_id, columns.text_id).where(
        columns.domain_id.in_(domain_ids),
        columns.folded.contains(wanted.casefold(), autoescape=True),
    )
    found = (await session.execute(matches.limit(_MOST_TEXTS + 1))).all()
    if len(found) <= _MOST_TEXTS:
        return [Branch(domain_id, text_id) for domain_id, text_id in found], []
    both = tuple_(DELIVERIES.c.domain_id, DELIVERIES.c.text_id)
    return [Branch(domain_id) for domain_id in domain_ids], [both.in_(matches)]


async def _of_order(session: AsyncSession, domain_ids: Sequence[str], query: EventQuery) -> Filters:
    """What the deliveries of an order's events have in common."""
    columns = EVENTS.c
    keys = (
        select(columns.received_at, columns.event_key)
        .where(columns.domain_id.in_(domain_ids), columns.order_id == query.order_id)
        .order_by(columns.received_at.desc())
        .limit(_MOST_COPIES)
    )
    if query.cursor is not None:
        keys = keys.where(columns.received_at <= read_cursor(query.cursor)[0])
    found = (await session.execute(keys)).all()
    return [
        DELIVERIES.c.received_at.in_({received_at for received_at, _ in found}),
        DELIVERIES.c.event_key.in_({key for _, key in found}),
    ]


async def _texts(rows: Rows, keys: Iterable[TextKey]) -> Texts:
    found = await rows.find(TEXTS, ("code", "detail"), sorted(set(keys)))
    return {(domain_id, text_id): (code, detail) for domain_id, text_id, code, detail in found}


async def _deliveries(rows: Rows, page: Found) -> list[LoggedDelivery]:
    texts = await _texts(rows, said_in(page, {}))
    keys = {(one.received_at, one.event_key) for one in page}
    found = await rows.find(EVENTS, ("order_id",), sorted(keys))
    orders = {(received_at, key): order_id for received_at, key, order_id in found}
    return [_delivery(one, texts, orders.get((one.received_at, one.event_key))) for one in page]


def _delivery(row: Row[Any], texts: Texts, order_id: str | None) -> LoggedDelivery:
    code, detail = texts.get((row.domain_id, row.text_id), (None, None))
    return LoggedDelivery(
        deliveryId=row.delivery_id.hex(),
        domainId=row.domain_id,
        destinationId=row.destination_id or None,
        platform=row.platform or None,
        eventId=row.event_id,
        eventName=row.event_name,
        eventTime=row.event_time,
        orderId=order_id,
        receivedAt=row.received_at,
        outcome=State(row.state),
        reason=Reason(row.reason) if row.reason else None,
        code=code,
        detail=detail,
        attempt=row.attempt,
        at=row.at,
        source=row.source,
        firstSource=row.first_source,
        dispatchKey=row.dispatch_key,
        replayId=row.replay_id,
    )


async def _copies(
    session: AsyncSession, table: Any, domain_ids: Sequence[str], event_id: str
) -> Found:
    query = (
        select(table)
        .where(table.c.domain_id.in_(domain_ids), table.c.event_id == event_id)
        .order_by(*table.primary_key.columns)
        .limit(_MOST_COPIES)
    )
    return (await session.execute(query)).all()


def _hours(hour: ColumnElement[int], since: int, until: int) -> tuple[ColumnElement[bool], ...]:
    """Of the days that are touched from ``since`` to just before ``until``."""
    return hour >= since // _DAY_MS * 24, hour < -(-until // _DAY_MS) * 24


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * _DAY_MS // 1000, UTC).date().isoformat()


def _accuracy(
    place: tuple[int, str, str, str], counts: Mapping[tuple[str, str], int]
) -> AccuracyRow:
    day, domain_id, destination_id, platform = place
    skipped: defaultdict[Reason, int] = defaultdict(int)
    failed: defaultdict[Reason, int] = defaultdict(int)
    for (outcome, reason), n in counts.items():
        if outcome in {ACCEPTED, UNDER_WAY, OutcomeKind.DELIVERED}:
            continue
        kind = OutcomeKind(outcome)
        why = Reason(reason) if reason else _UNTOLD[kind]
        (failed if kind in _FAILED else skipped)[why] += n
    return AccuracyRow(
        day=_date(day),
        domainId=domain_id,
        destinationId=destination_id or None,
        platform=platform or None,
        accepted=counts.get((ACCEPTED, ""), 0),
        delivered=sum(n for (outcome, _), n in counts.items() if outcome == OutcomeKind.DELIVERED),
        skipped=dict(skipped),
        failed=dict(failed),
        underWay=counts.get((UNDER_WAY, ""), 0),
    )
