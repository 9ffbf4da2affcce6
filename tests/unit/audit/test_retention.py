"""What is given up for its age, and what is not."""

from collections.abc import Mapping

import pytest
from sqlalchemy import insert, text

from audit.log import SqlEventLog
from audit.retention import COUNTED_MS, REBUILDING, sweep
from audit.store import EventLogStore
from audit.tables import COUNTERS, POSITIONS, USAGE
from runtime.database import Database
from schemas.event_log import EventQuery
from schemas.outcome import OutcomeKind, Reason
from tests.unit.audit.told import DAY_MS, HOUR_MS, META, NOON, TIKTOK, Told, consumed, contents
from tests.unit.runtime.clocks import JumpingClock

OWN = ["dom_1", "dom_2"]


async def give_up(database: Database, now_ms: int, **hours: int) -> Mapping[str, int]:
    """Sweep at a moment, with so many hours for each domain, and 24 for all others."""
    clock = JumpingClock()
    clock.ms = now_ms
    return await sweep(database, clock, lambda domain: hours.get(domain, 24) * 3600)


async def left(log: SqlEventLog) -> list[str]:
    """The events that there still are."""
    page = await log.events(OWN, EventQuery(limit=200))
    return sorted({one.event_id for one in page.events})


async def test_each_domain_is_kept_as_long_as_its_plan_says(
    store: EventLogStore, log: SqlEventLog, database: Database
) -> None:
    values = []
    for number in range(12):
        one = Told(number, domain_id=OWN[number % 2], received_at=NOON + number * HOUR_MS)
        retried = {"attempt": 1, "reason": Reason.THROTTLED}
        values += [
            one.routing(META),
            one.outcome(OutcomeKind.RETRYING, **retried),  # type: ignore[arg-type]
            one.refused(),
        ]
    await store.keep(consumed(values))
    counted = (await contents(database))["log_counters"]
    gone = await give_up(database, NOON + 12 * HOUR_MS, dom_1=3, dom_2=6)
    assert await left(log) == ["e-10", "e-11", "e-7", "e-9"]
    assert (gone["log_deliveries"], gone["log_events"], gone["log_attempts"]) == (8, 8, 8)
    found = await contents(database)
    assert [len(found[f"log_{name}"]) for name in ("deliveries", "events", "attempts")] == [4] * 3
    assert found["log_counters"] == counted
    assert not any((await give_up(database, NOON + 12 * HOUR_MS, dom_1=3, dom_2=6)).values())


async def test_what_is_under_way_stays_until_its_end(
    store: EventLogStore, log: SqlEventLog, database: Database
) -> None:
    one = Told(1)
    await store.keep(consumed([one.routing(META, TIKTOK), one.outcome(to=TIKTOK)]))
    await give_up(database, NOON + 30 * DAY_MS)
    (waiting,) = (await log.events(OWN, EventQuery())).events
    assert (waiting.destination_id, waiting.outcome) == ("dst_meta", "routed")
    await store.keep(consumed([one.outcome()], start=2))
    (row, _) = await log.accuracy(OWN, 0, 10**14)
    assert (row.accepted, row.delivered, row.under_way) == (1, 1, 0)
    await give_up(database, NOON + 30 * DAY_MS)
    assert await left(log) == []


async def test_what_never_ends_goes_in_the_end(
    store: EventLogStore, log: SqlEventLog, database: Database
) -> None:
    await store.keep(consumed([Told().routing(META)]))
    await give_up(database, NOON + 59 * DAY_MS)
    assert await left(log) == ["e-1"]
    await give_up(database, NOON + 61 * DAY_MS)
    assert await left(log) == []
    (row,) = await log.accuracy(OWN, 0, 10**14)
    assert (row.accepted, row.under_way) == (1, 1)


async def test_texts_go_when_nothing_says_them_any_more(
    store: EventLogStore, database: Database
) -> None:
    await store.keep(consumed([Told().refused(detail="Old."), Told(2).refused(detail="New.")]))
    later = Told(3, received_at=NOON + 70 * DAY_MS).refused(detail="New.")
    await store.keep(consumed([later], start=2))
    await give_up(database, NOON + 70 * DAY_MS)
    assert [row[3] for row in (await contents(database))["log_texts"]] == ["New."]


async def test_counters_are_kept_for_longer(store: EventLogStore, database: Database) -> None:
    await store.keep(consumed([Told().routing(META), Told().outcome()]))
    for late, left in ((0, 3), (HOUR_MS, 0)):
        await give_up(database, NOON + COUNTED_MS + late)
        found = await contents(database)
        assert len(found[COUNTERS.name]) == left
        assert bool(found[USAGE.name]) is bool(left)


async def test_nothing_is_given_up_while_the_log_is_made_anew(
    store: EventLogStore, log: SqlEventLog, database: Database
) -> None:
    await store.keep(consumed([Told().outcome()]))
    async with database.changing.begin() as session:
        marker = {"topic": REBUILDING, "partition": 0, "next_offset": 0, "reached_at": 0}
        await session.execute(insert(POSITIONS).values(marker))
    assert await give_up(database, NOON + 30 * DAY_MS) == {}
    assert await left(log) == ["e-1"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_whole_months_are_dropped(
    store: EventLogStore, log: SqlEventLog, database: Database
) -> None:
    months = [Told(n, domain_id=OWN[n % 2], received_at=NOON + n * 31 * DAY_MS) for n in range(6)]
    await store.keep(
        consumed([value for one in months for value in (one.routing(META), one.outcome())])
    )
    names = (
        "SELECT inhrelid::regclass::text FROM pg_inherits "
        "WHERE inhparent = 'log_deliveries'::regclass ORDER BY 1"
    )
    # The longest of all plans decides about months, each plan about its own domain.
    await give_up(database, NOON + 5 * 31 * DAY_MS, dom_2=24 * 100)
    async with database.reading() as session:
        found = list((await session.execute(text(names))).scalars())
    assert found == [f"log_deliveries_2026_{month:02}" for month in (2, 3, 4, 5, 6)]
    assert await left(log) == ["e-3", "e-5"]

    replayed = consumed([Told(9, received_at=NOON).outcome()], start=12, at=NOON + 1)
    await EventLogStore(database).keep(replayed)
    assert await left(log) == ["e-3", "e-5", "e-9"]
