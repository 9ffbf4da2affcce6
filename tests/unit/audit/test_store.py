"""Batches of records become rows, whole or not at all, and once."""

import asyncio
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text

from audit.log import SqlEventLog
from audit.store import EventLogStore
from audit.tables import DELIVERIES, POSITIONS, TEXTS, upgrade
from capistream.embedded import free_port
from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord
from schemas.event_log import EventQuery
from schemas.outcome import OutcomeKind, Reason
from tests.unit.audit.told import DAY_MS, META, NOON, TIKTOK, Told, consumed, contents, elsewhere


def _log(events: int) -> list[ConsumedRecord]:
    """A day's records of several domains: what is told of an event lies in its own order."""
    dice = random.Random(7)
    values = []
    for number in range(events):
        one = Told(
            number,
            domain_id=f"dom_{number % 3}",
            received_at=NOON + number * 1000,
            order_id=f"T-{number}" if number % 2 else None,
        )
        values.append([one.routing(META, TIKTOK)])
        if dice.random() < 0.3:
            values[-1].append(one.outcome(OutcomeKind.RETRYING, attempt=1, reason=Reason.THROTTLED))
        if dice.random() < 0.8:
            values[-1].append(dice.choice([one.outcome(), one.refused(code=str(number % 4))]))
        values[-1].append(
            one.outcome(OutcomeKind.SKIPPED, TIKTOK, reason=Reason.NO_CONSENT, detail="No.")
        )
    log: list[bytes | None] = []
    while any(values):
        log.append(dice.choice([one for one in values if one]).pop(0))
    return consumed(log)


async def test_however_it_is_read_the_same_rows_come_of_it(
    store: EventLogStore, database: Database
) -> None:
    log = _log(60)
    await store.keep(log)
    whole = await contents(database)
    assert len(whole["log_deliveries"]) == 120
    assert len(whole["log_events"]) == 60

    await store.keep(log)
    await store.keep(elsewhere(log, 1))
    for start in range(0, len(log), 7):
        await EventLogStore(database).keep(elsewhere(log[start : start + 11], 2))
    assert await contents(database) == whole


async def test_in_batches_the_same_rows_come_of_it(
    store: EventLogStore, database: Database, new_database: Callable[[], Database]
) -> None:
    """Nor do outcomes that overtake their routing."""
    log = _log(60)
    await store.keep(log)
    for order in (log, consumed([record.value for record in reversed(log)])):
        other = new_database()
        await upgrade(other)
        for start in range(0, len(log), 7):
            await EventLogStore(other).keep(order[start : start + 7])
        assert await contents(other) == await contents(database)


async def test_what_was_given_up_is_not_counted_again(
    store: EventLogStore, database: Database
) -> None:
    log = consumed([Told().routing(META), Told().outcome()], start=40)
    await store.keep(log)
    async with database.changing.begin() as session:
        for table in ("log_deliveries", "log_events"):
            await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - of our own
    before = await contents(database)
    await store.keep(log)
    assert await contents(database) == before


async def test_a_log_that_begins_anew_is_taken(store: EventLogStore, log: SqlEventLog) -> None:
    """The embedded one does: younger records, at offsets where others were."""
    await store.keep(consumed([Told(number).outcome() for number in range(20)]))
    for start in (0, 5):
        again = [
            Told(100 + number, received_at=NOON + DAY_MS).outcome()
            for number in range(start, start + 5)
        ]
        await store.keep(consumed(again, start, at=NOON + DAY_MS))
    page = await log.events(["dom_1"], EventQuery(limit=200))
    assert len(page.events) == 30


async def test_a_batch_is_taken_whole_or_not_at_all(
    store: EventLogStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await contents(database)
    async with database.changing.begin() as session:
        await session.execute(text("ALTER TABLE log_usage RENAME TO log_usage_away"))
    with pytest.raises(UnavailableError):
        await store.keep(_log(10))
    async with database.changing.begin() as session:
        await session.execute(text("ALTER TABLE log_usage_away RENAME TO log_usage"))
    assert await contents(database) == before
    await store.keep(_log(10))
    assert len((await contents(database))["log_events"]) == 10


async def test_bad_records_stand_in_nobodys_way(store: EventLogStore, log: SqlEventLog) -> None:
    def outcome(number: int, old: bytes, new: bytes) -> bytes:
        return (Told(number).refused(detail="Bad.") or b"").replace(old, new)

    # Of repeated letters an index takes any number.
    long = random.Random(1).randbytes(3000).hex().encode()

    nasty = [
        None,
        b"\xff",
        b"{}",
        outcome(2, b'"e-2"', b'"' + "\U0001f600".encode() * 300 + long + b'"'),
        outcome(3, b'"e-3"', b'"nul\\u0000"'),
        outcome(4, b'"dst_meta"', b'"' + long + b'"'),
        outcome(5, b'"raw-events-0-5"', b'"' + long + b'"'),
        outcome(6, b"Bad.", b"\\u0000" + long * 5),
        (Told(7).routing(META) or b"").replace(b'"Purchase"', b'"' + long + b'"'),
    ]
    await store.keep(consumed([*nasty, Told(8).outcome()]))
    page = await log.events(["dom_1"], EventQuery())
    assert len(page.events) == 7
    assert {one.source for one in page.events} >= {f"raw-events-0-{n}" for n in (2, 3, 4, 6, 7, 8)}


async def test_a_database_that_is_away_is_told_of_and_taken_up_again(
    store: EventLogStore, database: Database, database_url: str
) -> None:
    if database.is_sqlite:
        lost = Database("sqlite+aiosqlite:////nowhere/at/all.db")
    else:
        lost = Database(
            database_url.replace(database_url.split("/")[2], f"x@127.0.0.1:{free_port()}")
        )
    before = set(threading.enumerate())
    with pytest.raises(UnavailableError, match="database"):
        await EventLogStore(lost).keep(_log(3))
    await lost.close()
    # The driver's thread has yet to tell this loop that it ends.
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, 5)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_connections_that_broke_are_made_anew(
    store: EventLogStore, database: Database
) -> None:
    await store.keep(_log(3))
    async with database.changing.begin() as session:
        own = "pid <> pg_backend_pid() AND datname = current_database()"
        await session.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}")  # noqa: S608 - of our own
        )
    for attempt in range(2):
        try:
            await store.keep(_log(6))
        except UnavailableError:
            assert attempt == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_each_month_has_a_partition(store: EventLogStore, database: Database) -> None:
    days = [datetime(2025, 12, 31, 23, 59, 59, 999_000, UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    told = [Told(received_at=int(day.timestamp() * 1000)) for day in days]
    await store.keep(consumed([one.outcome() for one in told]))
    names = "SELECT tableoid::regclass::text FROM log_deliveries ORDER BY received_at"
    async with database.reading() as session:
        found = list((await session.execute(text(names))).scalars())
    assert found == ["log_deliveries_2025_12", "log_deliveries_2026_01"]

    # Another process drops one that this one believes in.
    async with database.changing.begin() as session:
        for table in ("events", "deliveries", "attempts"):
            await session.execute(text(f"DROP TABLE log_{table}_2025_12"))
    with pytest.raises(UnavailableError):
        await store.keep(consumed([told[0].outcome()], start=5, at=NOON + 1))
    await store.keep(consumed([told[0].outcome()], start=5, at=NOON + 1))
    async with database.reading() as session:
        assert len((await session.execute(select(DELIVERIES))).all()) == 2


async def test_two_who_believe_that_a_partition_is_theirs_do_not_collide(
    store: EventLogStore, database: Database, new_store: Callable[[], EventLogStore]
) -> None:
    log = _log(40)
    for some in (log[:50], log[30:]):
        await asyncio.gather(*(new_store().keep(some) for _ in range(4)))
    found = await contents(database)
    assert len(found["log_deliveries"]) == 80
    async with database.reading() as session:
        (position,) = await session.execute(select(POSITIONS))
    assert position.next_offset == len(log)


async def test_a_text_is_kept_once(store: EventLogStore, database: Database) -> None:
    refused = [Told(number).refused(detail="The same.") for number in range(50)]
    await store.keep(consumed([*refused, Told(99, domain_id="dom_2").refused(detail="The same.")]))
    async with database.reading() as session:
        found = [
            tuple(row) for row in await session.execute(select(TEXTS.c.domain_id, TEXTS.c.detail))
        ]
    assert sorted(found) == [("dom_1", "The same."), ("dom_2", "The same.")]
