"""What the topic tells no more is not lost with what it tells again."""

from sqlalchemy import select, text

from audit.rebuild import _empty
from audit.retention import REBUILDING
from audit.store import EventLogStore
from audit.tables import POSITIONS
from runtime.database import Database
from tests.unit.audit.told import HOUR_MS, META, NOON, Told, consumed, contents


async def test_what_is_older_than_the_topic_stays(store: EventLogStore, database: Database) -> None:
    told = [Told(number, received_at=NOON + number * HOUR_MS) for number in range(6)]
    log = consumed([value for one in told for value in (one.routing(META), one.refused())])
    await store.keep(log)
    async with database.changing.begin() as session:  # given up for its age, and counted still
        await session.execute(text("DELETE FROM log_deliveries WHERE event_id = 'e-1'"))
    before = await contents(database)

    # The topic has lost the first three records: all of one event, the routing of the next.
    since = NOON + 2 * HOUR_MS
    await _empty(database, since)
    left = await contents(database)
    assert (len(left["log_deliveries"]), len(left["log_events"])) == (1, 2)
    await store.keep_again(log[3:], since)
    await store.keep_again(log[3:], since)
    assert await contents(database) == before


async def test_what_is_damaged_is_mended(store: EventLogStore, database: Database) -> None:
    log = consumed([Told(number).routing(META) for number in range(5)])
    await store.keep(log)
    before = await contents(database)
    async with database.changing.begin() as session:
        for damage in (
            "UPDATE log_counters SET n = 77",
            "UPDATE log_deliveries SET state = 'delivered'",
            "DELETE FROM log_usage",
        ):
            await session.execute(text(damage))
    await _empty(database, 0)
    await store.keep_again(log, 0)
    assert await contents(database) == before
    async with database.reading() as session:
        topics = set((await session.execute(select(POSITIONS.c.topic))).scalars())
    assert topics == {"audit", REBUILDING}


async def test_the_audit_process_may_go_on_meanwhile(
    store: EventLogStore, database: Database
) -> None:
    told = [Told(number) for number in range(20)]
    log = consumed([value for one in told for value in (one.routing(META), one.outcome())])
    await store.keep(log)
    whole = await contents(database)
    await _empty(database, 0)
    newer = consumed([Told(number).routing(META) for number in range(30, 33)], start=len(log))
    await store.keep(newer)
    await store.keep_again(log[:15], 0)
    await store.keep(newer)
    await store.keep_again(log[15:] + newer, 0)
    found = await contents(database)
    assert len(found["log_deliveries"]) == 23
    numbers = {f"e-{number}" for number in range(20)}
    assert [row for row in found["log_events"] if row[3] in numbers] == whole["log_events"]
