"""What the event log gives up for its age: a plan says for how long it is kept."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from audit.fold import FINAL
from audit.rows import plan_by_index
from audit.store import FAILURES, PARTITIONS_LOCK, month_start, next_month, partition_name
from audit.tables import (
    ATTEMPTS,
    COUNTERS,
    DELIVERIES,
    EVENTS,
    HOUR_MS,
    PARTITIONED,
    POSITIONS,
    TEXTS,
    USAGE,
)
from runtime.clock import Clock
from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.logs import get_logger
from schemas.topics import DAY_SECONDS

log = get_logger(__name__)

_DAY_MS: Final = DAY_SECONDS * 1000
COUNTED_MS: Final = 400 * _DAY_MS
"""How long the counters are kept."""
UNDER_WAY_MS: Final = 60 * _DAY_MS
"""How long a delivery is kept, whatever the plan, that has come to no end: nothing waits for longer."""

_AT_ONCE: Final = 2000
"""Rows in one transaction."""

REBUILDING: Final = "rebuilding"
"""In ``log_positions`` while the log is made anew: then nothing is given up, for what comes again
of it would be counted again."""


async def sweep(
    database: Database, clock: Clock, retention_seconds: Callable[[str], int]
) -> dict[str, int]:
    """Give up what is older than its domain's retention; answers how many rows there were of each
    table, without those that went with a whole month.

    Deliveries that are under way stay until they have come to an end, and are then counted. A sweep
    may break off anywhere and another one goes on.

    Raises ``UnavailableError`` when the database does not do it.
    """
    now_ms = clock.now_ms()
    gone: dict[str, int] = {}
    try:
        if await _is_rebuilding(database):
            log.warning("The event log is being made anew, or that broke off; nothing is given up.")
            return gone
        before = {
            domain_id: now_ms - retention_seconds(domain_id) * 1000
            for domain_id in await _domains(database)
        }
        if before and not database.is_sqlite:
            await _drop_months(database, min(*before.values(), now_ms - UNDER_WAY_MS))
        for domain_id, moment in before.items():
            for table, old in _old(domain_id, moment, now_ms):
                gone[table.name] = gone.get(table.name, 0) + await _delete(database, table, old)
    except FAILURES as error:
        raise UnavailableError(f"the database gives nothing up: {error}") from error
    return gone


def _old(domain_id: str, before: int, now_ms: int) -> Iterable[tuple[Table, ColumnElement[bool]]]:
    """Of each table, what a domain's retention ends for."""
    longest = min(before, now_ms - UNDER_WAY_MS)
    ended = or_(DELIVERIES.c.state.in_(sorted(FINAL)), DELIVERIES.c.received_at < longest)
    yield DELIVERIES, _of(DELIVERIES, domain_id) & (DELIVERIES.c.received_at < before) & ended
    yield ATTEMPTS, _of(ATTEMPTS, domain_id) & (ATTEMPTS.c.received_at < before)
    yield EVENTS, _of(EVENTS, domain_id) & (EVENTS.c.received_at < before)
    yield TEXTS, _of(TEXTS, domain_id) & (TEXTS.c.last_hour < longest // HOUR_MS)
    for table in (COUNTERS, USAGE):
        yield table, _of(table, domain_id) & (table.c.hour < (now_ms - COUNTED_MS) // HOUR_MS)


def _of(table: Table, domain_id: str) -> ColumnElement[bool]:
    found: ColumnElement[bool] = table.c.domain_id == domain_id
    return found


async def _is_rebuilding(database: Database) -> bool:
    async with database.reading() as session:
        query = select(POSITIONS.c.topic).where(POSITIONS.c.topic == REBUILDING)
        return (await session.execute(query)).first() is not None


async def _domains(database: Database) -> list[str]:
    """Those that the log has anything of. One step into an index for each, however many rows."""
    found: set[str] = set()
    async with database.reading() as session:
        await plan_by_index(session)
        for table in (*PARTITIONED, TEXTS, COUNTERS, USAGE):
            found.update(await _domains_in(session, table))
    return sorted(found)


async def _domains_in(session: AsyncSession, table: Table) -> list[str]:
    sql = (
        f"WITH RECURSIVE domains (id) AS (SELECT min(domain_id) FROM {table.name} UNION ALL "  # noqa: S608 - names of our own
        f"SELECT (SELECT min(domain_id) FROM {table.name} WHERE domain_id > domains.id) "
        "FROM domains WHERE domains.id IS NOT NULL) SELECT id FROM domains WHERE id IS NOT NULL"
    )
    return list((await session.execute(text(sql))).scalars())


async def _delete(database: Database, table: Table, old: ColumnElement[bool]) -> int:
    """In small transactions: whoever writes meanwhile does not wait for long, and not at all when there
    is nothing to give up."""
    key: Any = tuple_(*table.primary_key.columns)
    some = select(*table.primary_key.columns).where(old).limit(_AT_ONCE)
    async with database.reading() as session:
        await plan_by_index(session)
        if (await session.execute(some.limit(1))).first() is None:
            return 0
    gone = 0
    while True:
        async with database.changing.begin() as session:
            await plan_by_index(session)
            found = await session.execute(delete(table).where(key.in_(some)))
        deleted: int = found.rowcount  # type: ignore[attr-defined]  # of what a DELETE answers
        gone += deleted
        if deleted < _AT_ONCE:
            return gone


async def _drop_months(database: Database, before: int) -> None:
    """Drop the partitions that end before a moment."""
    for table in PARTITIONED:
        async with database.reading() as session:
            found = await session.execute(
                text(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = :of ::regclass"
                ),
                {"of": table.name},
            )
            names = sorted(found.scalars())
        for name in names:
            year, month = map(int, name.rsplit("_", 2)[1:])
            if month_start(next_month((year, month))) > before:
                break
            await _drop(database, partition_name(table, (year, month)))
            log.info("A month of the event log was given up.", partition=name)


async def _drop(database: Database, partition: str) -> None:
    async with database.changing.begin() as session:
        await session.execute(text(f"SELECT pg_advisory_xact_lock({PARTITIONS_LOCK})"))
        # Whoever comes after us waits as long as we do.
        await session.execute(text("SET LOCAL lock_timeout = '2s'"))
        await session.execute(text(f"DROP TABLE IF EXISTS {partition}"))
