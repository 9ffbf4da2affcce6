"""Records of ``audit`` into the event log's tables, each batch in one transaction."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import asyncpg  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import Table, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from audit.fold import (
    DELIVERY_COLUMNS,
    Attempt,
    Change,
    CounterKey,
    Event,
    Key,
    Known,
    Standing,
    Text,
    change,
    fold,
    readable,
)
from audit.fold import Batch as Folded
from audit.rows import Rows, rows_of
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
from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord
from runtime.logs import get_logger
from schemas.outcome import Outcome
from schemas.routing import Routing

if TYPE_CHECKING:
    from schemas.audit import Told

log = get_logger(__name__)

_Place: TypeAlias = tuple[str, int]
"""Topic and partition."""
_Position: TypeAlias = tuple[int, int]
"""The next offset, and the newest timestamp so far."""
_Read: TypeAlias = tuple[ConsumedRecord, Outcome | Routing]
Month: TypeAlias = tuple[int, int]
"""Year and month (UTC)."""

FAILURES: Final = (
    OSError,
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)
"""What a database that is away, or in the middle of something, answers with."""

_DAY_MS: Final = 24 * HOUR_MS

PARTITIONS_LOCK: Final = 0x6C6F6770
"""Names, in PostgreSQL, the lock of whoever makes or drops partitions."""


class EventLogStore:
    """Writes the event log."""

    def __init__(self, database: Database) -> None:
        """The tables are there (``audit.tables.upgrade``)."""
        self._database = database
        self._months: set[Month] = set()
        """Those that are known to have partitions."""

    async def keep(self, records: Sequence[ConsumedRecord]) -> None:
        """Take records of ``audit``; what was taken before changes nothing.

        Raises ``UnavailableError`` when the database did not take them; then none is taken.
        """
        read = list(_read(records))
        await self._guarded(read, _reached(records), since=None)

    async def keep_again(self, records: Sequence[ConsumedRecord], since: int) -> None:
        """The same for a log that is read from its beginning: all records count, but for those about
        events that were received before ``since`` (Unix milliseconds)."""
        read = [one for one in _read(records) if one[1].received_at >= since]
        await self._guarded(read, _reached(records), since=since)

    async def _guarded(
        self, read: Sequence[_Read], reached: dict[_Place, _Position], since: int | None
    ) -> None:
        try:
            if not self._database.is_sqlite:
                await self.make_partitions(told.received_at for _, told in read)
            async with self._database.changing.begin() as session:
                await _keep(session, read, reached, since)
        except FAILURES as error:
            self._months.clear()  # some of them may be gone
            raise UnavailableError(f"the database does not take it: {error}") from error

    async def make_partitions(self, moments: Iterable[int]) -> None:
        """Make what PostgreSQL lacks of the months of some moments (Unix milliseconds)."""
        missing = sorted(
            {_month_of(day * _DAY_MS) for day in {one // _DAY_MS for one in moments}} - self._months
        )
        if not missing:
            return
        async with self._database.changing.begin() as session:
            await session.execute(text(f"SELECT pg_advisory_xact_lock({PARTITIONS_LOCK})"))
            for month in missing:
                for table in PARTITIONED:
                    await session.execute(text(_partition(table, month)))
        self._months.update(missing)


def _read(records: Iterable[ConsumedRecord]) -> Iterator[_Read]:
    unreadable = 0
    for record in records:
        told: Told | None = readable(record.value)
        if isinstance(told, Outcome | Routing):
            yield record, told
        unreadable += told is None
    if unreadable:
        log.warning("Records on audit cannot be read; passed over.", records=unreadable)


def _reached(records: Sequence[ConsumedRecord]) -> dict[_Place, _Position]:
    """Up to where these records go."""
    reached: dict[_Place, _Position] = {}
    for record in records:
        place = record.topic, record.partition
        _, newest = reached.get(place, (0, 0))
        reached[place] = record.offset + 1, max(newest, record.timestamp_ms)
    return reached


async def _keep(
    session: AsyncSession,
    read: Sequence[_Read],
    reached: dict[_Place, _Position],
    since: int | None,
) -> None:
    rows = await rows_of(session)
    positions = await _positions(session, rows, reached)
    if since is None:
        read = [one for one in read if not _was_read(one[0], positions)]
    batch = fold(told for _, told in read)
    events = await _known_events(rows, batch)
    await _write(rows, batch, change(batch, events, await _known_deliveries(rows, batch)))
    moved = {
        place: (offset, max(newest, positions[place][1]))
        for place, (offset, newest) in reached.items()
        if _is_ahead((offset, newest), positions[place])
    }
    await rows.merge(
        POSITIONS,
        ("topic", "partition", "next_offset", "reached_at"),
        [(*place, *position) for place, position in moved.items()],
        otherwise="UPDATE SET next_offset = excluded.next_offset, reached_at = excluded.reached_at",
    )


async def _positions(
    session: AsyncSession, rows: Rows, places: Iterable[_Place]
) -> dict[_Place, _Position]:
    """How far the partitions have been read. Until the transaction ends, nobody else keeps records of
    them: not even who has not noticed yet that they were given to somebody else."""
    wanted = sorted(places)
    columns = ("topic", "partition", "next_offset", "reached_at")
    await rows.merge(POSITIONS, columns, [(*place, 0, 0) for place in wanted], otherwise="NOTHING")
    query = (
        POSITIONS.select()
        .where(POSITIONS.c.topic.in_({topic for topic, _ in wanted}))
        .order_by(POSITIONS.c.topic, POSITIONS.c.partition)
    )
    numbers = {partition for _, partition in wanted}
    query = query.where(POSITIONS.c.partition.in_(numbers)).with_for_update()
    found = await session.execute(query)
    return {(row.topic, row.partition): (row.next_offset, row.reached_at) for row in found}


def _was_read(record: ConsumedRecord, positions: dict[_Place, _Position]) -> bool:
    """Whether the record lies before what was read, in this life of the log: one that began anew has
    younger records at the same offsets.

    What rests on this is small. A record that is read twice finds what it tells; but not after that was
    given up for its age, and would be counted again.
    """
    next_offset, newest = positions[record.topic, record.partition]
    return record.offset < next_offset and record.timestamp_ms <= newest


def _is_ahead(reached: _Position, position: _Position) -> bool:
    return reached[0] > position[0] or reached[1] > position[1]


async def _known_events(rows: Rows, batch: Folded) -> list[Key]:
    found = await rows.find(EVENTS, (), list(batch.events))
    return [(row[0], row[1]) for row in found]


async def _known_deliveries(rows: Rows, batch: Folded) -> dict[Key, Known]:
    columns = ("state", "at", "attempt", "routed_at")
    found = await rows.find(DELIVERIES, columns, list(batch.deliveries))
    return {
        (received_at, name): Known(Standing(state, at, attempt), routed_at)
        for received_at, name, state, at, attempt, routed_at in found
    }


async def _write(rows: Rows, batch: Folded, changed: Change) -> None:
    await rows.insert(EVENTS, Event._fields, changed.events)
    await rows.insert(DELIVERIES, DELIVERY_COLUMNS, [one.row() for one in changed.new])
    key = ("received_at", "delivery_id")
    await rows.update(DELIVERIES, (*key, *Standing._fields), changed.advanced, keys=2)
    await rows.update(DELIVERIES, (*key, "routed_at"), changed.routed, keys=2)
    await rows.merge(ATTEMPTS, Attempt._fields, list(batch.attempts.values()), otherwise="NOTHING")
    await rows.merge(
        TEXTS,
        (*Text._fields, "last_hour"),
        sorted(
            ((*said, hour) for said, hour in batch.texts.items()), key=lambda row: (row[0], row[1])
        ),
        otherwise="UPDATE SET last_hour = excluded.last_hour WHERE log_texts.last_hour < excluded.last_hour",
    )
    await rows.merge(
        COUNTERS,
        (*CounterKey._fields, "n"),
        sorted((*counted, n) for counted, n in changed.counters.items()),
        otherwise="UPDATE SET n = log_counters.n + excluded.n",
    )
    await rows.merge(
        USAGE,
        ("domain_id", "hour", "accepted", "billable"),
        sorted((*place, *counts) for place, counts in changed.usage.items()),
        otherwise="UPDATE SET accepted = log_usage.accepted + excluded.accepted, "
        "billable = log_usage.billable + excluded.billable",
    )


def _month_of(moment_ms: int) -> Month:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.year, moment.month


def month_start(month: Month) -> int:
    """Unix milliseconds."""
    return int(datetime(*month, 1, tzinfo=UTC).timestamp() * 1000)


def next_month(month: Month) -> Month:
    """The one after."""
    year, number = month
    return (year, number + 1) if number < 12 else (year + 1, 1)


def partition_name(table: Table, month: Month) -> str:
    """What a month's partition is called."""
    return f"{table.name}_{month[0]:04}_{month[1]:02}"


def _partition(table: Table, month: Month) -> str:
    return (
        f"CREATE TABLE IF NOT EXISTS {partition_name(table, month)} PARTITION OF {table.name} "
        f"FOR VALUES FROM ({month_start(month)}) TO ({month_start(next_month(month))})"
    )
