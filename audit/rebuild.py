"""The event log made anew from the ``audit`` topic."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Final

from confluent_kafka import TopicPartition
from sqlalchemy import delete, insert, text

from audit.read import from_the_start, read_records
from audit.retention import REBUILDING
from audit.store import FAILURES, EventLogStore
from audit.tables import COUNTERS, HOUR_MS, PARTITIONED, POSITIONS, USAGE, upgrade
from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.kafka import read_all
from runtime.settings import Settings

_POLL_SECONDS: Final = 0.2


async def rebuild(settings: Settings, progress: Callable[[int], None]) -> int:
    """Empty the event log and fill it again with what the topic tells; answers of how many records,
    and tells ``progress`` so on the way.

    What was received before all that the topic still has is left as it is: counters are kept for
    longer than the topic. The audit process may run meanwhile, and goes on by itself.

    Raises ``UnavailableError`` when Kafka or the database does not answer. What broke off is to be
    begun again; until then nothing is given up for its age.
    """
    database = Database(settings.database_url)
    try:
        await upgrade(database)
        since = await asyncio.to_thread(_complete_since, settings)
        return await _rebuild(database, settings, since, progress)
    except FAILURES as error:
        raise UnavailableError(f"the database does not take it: {error}") from error
    finally:
        await database.close()


async def _rebuild(
    database: Database, settings: Settings, since: int, progress: Callable[[int], None]
) -> int:
    await _empty(database, since)
    store = EventLogStore(database)
    done = 0
    with closing(read_records(settings, follow=False)) as reading:
        while (records := await asyncio.to_thread(next, reading, None)) is not None:
            await store.keep_again(records, since)
            done += len(records)
            progress(done)
    async with database.changing.begin() as session:
        await session.execute(delete(POSITIONS).where(POSITIONS.c.topic == REBUILDING))
    return done


def _complete_since(settings: Settings) -> int:
    """From which full hour on the topic has everything (Unix milliseconds); 0: nothing of it is gone
    yet.

    What is about an event comes after its receipt. So nothing is missing of those that were received
    when the oldest record of the partition was there already.
    """
    since = 0
    with from_the_start(settings) as (consumer, unread):
        while unread:
            records, ends = read_all(consumer, 1, _POLL_SECONDS)
            for record in records:
                place = record.topic, record.partition
                if place in unread:
                    unread.remove(place)
                    consumer.pause([TopicPartition(*place)])
                    since = max(since, record.timestamp_ms if record.offset else 0)
            unread -= ends
    return -(-since // HOUR_MS) * HOUR_MS


async def _empty(database: Database, since: int) -> None:
    """Rows and what counts them in one step, between two batches of the audit process."""
    async with database.changing.begin() as session:
        if not database.is_sqlite:
            await session.execute(text(f"LOCK TABLE {POSITIONS.name} IN EXCLUSIVE MODE"))
        await session.execute(delete(POSITIONS).where(POSITIONS.c.topic == REBUILDING))
        marker = {"topic": REBUILDING, "partition": 0, "next_offset": 0, "reached_at": 0}
        await session.execute(insert(POSITIONS).values(marker))
        for table in PARTITIONED:
            await session.execute(delete(table).where(table.c.received_at >= since))
        for table in (COUNTERS, USAGE):
            await session.execute(delete(table).where(table.c.hour >= since // HOUR_MS))
