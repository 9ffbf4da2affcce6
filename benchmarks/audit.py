"""The event log: how fast ``audit`` becomes rows, beside a bare bulk insert of the same rows, and how long
questions take at that size. On SQLite, and on PostgreSQL where it is installed.

The log is the embedded broker, or the cluster that ``KAFKA_BOOTSTRAP`` names; both databases read the
same topic. Broker, database and reader share one machine.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from confluent_kafka import KafkaError, Message, Producer
from sqlalchemy import Table, select, text, tuple_

from audit.log import SqlEventLog, open_log
from audit.rows import rows_of
from audit.store import EventLogStore
from audit.tables import ATTEMPTS, DELIVERIES, EVENTS
from audit.worker import AuditReader
from benchmarks.audit_work import Asked, questions, records
from benchmarks.command import run_benchmark, tell
from benchmarks.doors import make_topics, start_servers
from benchmarks.sinks_isolation import percentile
from capistream.supervisor import Supervisor
from runtime.clock import SystemClock
from runtime.database import Database
from runtime.kafka import ConsumedRecord, client_config
from runtime.lifecycle import Shutdown, settle_memory
from runtime.settings import STACK_FILE, Settings, load_settings
from tests.postgres import is_installed, running_postgres

PATIENCE_SECONDS: Final = 1800.0
BULK_ROWS: Final = 5000
"""Rows in one transaction of the bare insert: as many as the reader takes."""
_BARE: Final = (EVENTS, DELIVERIES, ATTEMPTS)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    outcomes: int
    questions: int


FULL_SIZE: Final = Size(1_000_000, 2000)
QUICK_SIZE: Final = Size(40_000, 200)


@dataclass(frozen=True, slots=True)
class Filled:
    """What filling a database took."""

    seconds: float
    cpu_seconds: float
    """Of the process that reads."""


class Counting:
    """Keeps records and asks for a shutdown when all have been kept."""

    def __init__(self, store: EventLogStore, wanted: int, shutdown: Shutdown) -> None:
        self._store = store
        self._left = wanted
        self._shutdown = shutdown
        self.began: tuple[float, float] | None = None
        self.ended = (0.0, 0.0)

    async def keep(self, read: Sequence[ConsumedRecord]) -> None:
        """Keep some."""
        self.began = self.began or _now()
        await self._store.keep(read)
        self._left -= len(read)
        if self._left <= 0:
            self.ended = _now()
            self._shutdown.ask()


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


async def fill(settings: Settings, database: Database, wanted: int, group: str) -> Filled:
    """Let the audit process's reader take the whole topic.

    Raises ``TimeoutError``.
    """
    shutdown = Shutdown()
    counting = Counting(EventLogStore(database), wanted, shutdown)
    reader = AuditReader(settings, counting.keep, SystemClock(), group)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await reader.run(shutdown)
    began = counting.began or counting.ended
    return Filled(counting.ended[0] - began[0], counting.ended[1] - began[1])


async def bulk_insert(source: Database, target: Database) -> float:
    """Seconds that the rows of one database take to be put into the same tables of another."""
    seconds = 0.0
    for table in _BARE:
        async for chunk in _chunks(source, table):
            began = time.perf_counter()
            async with target.changing.begin() as session:
                rows = await rows_of(session)
                await rows.insert(table, [column.name for column in table.columns], chunk)
            seconds += time.perf_counter() - began
    return seconds


async def _chunks(source: Database, table: Table) -> AsyncIterator[list[tuple[Any, ...]]]:
    key = list(table.primary_key.columns)
    query = select(table).order_by(*key).limit(BULK_ROWS)
    last = None
    while True:
        more = query if last is None else query.where(tuple_(*key) > tuple_(*last))
        async with source.reading() as session:
            chunk = [tuple(row) for row in await session.execute(more)]
        if not chunk:
            return
        yield chunk
        last = [chunk[-1][list(table.columns).index(column)] for column in key]


async def _copy_partitions(source: Database, target: Database) -> None:
    """Partitions are not made while the clock runs."""
    async with source.reading() as session:
        found = await session.execute(select(EVENTS.c.received_at).distinct())
        moments = list(found.scalars())
    await EventLogStore(target).make_partitions(moments)


async def ask_all(log: SqlEventLog, asked: Sequence[Asked]) -> list[float]:
    """Seconds that each question takes, and of some the page after."""
    dice = random.Random(5)  # noqa: S311 - the same in every run
    seconds = []
    for one in asked:
        query = one.query
        began = time.perf_counter()
        page = await log.events(one.domain_ids, query)
        seconds.append(time.perf_counter() - began)
        if page.next_cursor is not None and dice.random() < 0.3:
            query = query.model_copy(update={"cursor": page.next_cursor})
            began = time.perf_counter()
            await log.events(one.domain_ids, query)
            seconds.append(time.perf_counter() - began)
    return seconds


async def measure_on(
    name: str, settings: Settings, url: str, other_url: str, wanted: int, size: Size
) -> dict[str, float]:
    """One database's figures."""
    database, other = Database(url), Database(other_url)
    try:
        log = await open_log(database)
        await open_log(other)
        tell(f"{name}: the topic becomes rows")
        filled = await fill(settings, database, wanted, f"bench-{name}")
        tell(f"{name}: the same rows in bulk")
        if not database.is_sqlite:
            await _copy_partitions(database, other)
        bare = await bulk_insert(database, other)
        await _settle(database)
        tell(f"{name}: questions")
        asked = questions(size.questions, size.outcomes // 5)
        await ask_all(log, asked[:20])
        took = await ask_all(log, asked)
    finally:
        await database.close()
        await other.close()
    return {
        "outcomes_per_second": round(size.outcomes / filled.seconds),
        "cpu_us_per_outcome": round(filled.cpu_seconds / size.outcomes * 1e6, 1),
        "bare_outcomes_per_second": round(size.outcomes / bare),
        "vs_bare": round(bare / filled.seconds, 2),
        **{f"query_ms_p{p}": round(percentile(took, p) * 1000, 1) for p in (50, 95, 99)},
    }


async def _settle(database: Database) -> None:
    """What PostgreSQL's own housekeeper does within a minute."""
    if not database.is_sqlite:
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("ANALYZE"))


def fill_topic(settings: Settings, outcomes: int) -> int:
    """Put the work on the log; answers how many records."""
    producer = Producer(
        client_config(settings.kafka)
        | {"acks": "all", "linger.ms": 20, "queue.buffering.max.messages": 1_000_000}
    )

    def on_delivery(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            raise SystemExit(f"the log could not be filled: {error.str()}")

    count = 0
    for record in records(outcomes):
        producer.produce(
            settings.topic(record.topic), record.value, record.key, on_delivery=on_delivery
        )
        count += 1
        if count % 1000 == 0:
            producer.poll(0)
            while len(producer) > 100_000:
                producer.poll(0.1)
    if producer.flush(PATIENCE_SECONDS):
        raise SystemExit("the log could not be filled in time")
    return count


@asynccontextmanager
async def _log(directory: Path) -> AsyncIterator[Settings]:
    supervisor = Supervisor(SystemClock())
    try:
        servers = await start_servers(supervisor, directory)
        (directory / STACK_FILE).write_bytes(orjson.dumps(servers))
        settings = load_settings(directory)
        await make_topics(settings, ())
        yield settings
    finally:
        await supervisor.stop_together()


async def measure(size: Size) -> dict[str, Any]:
    """One run of everything."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="capistream-bench-") as path, ExitStack() as stack:
        directory = Path(path)
        async with _log(directory) as settings:
            tell(f"{size.outcomes} outcomes onto the log")
            wanted = await asyncio.to_thread(fill_topic, settings, size.outcomes)
            settle_memory(200_000)
            urls = [f"sqlite+aiosqlite:///{directory}/{name}.db" for name in ("ours", "bare")]
            figures["sqlite"] = await measure_on("sqlite", settings, urls[0], urls[1], wanted, size)
            if not is_installed():
                tell("PostgreSQL is not installed, and left out: apt-get install postgresql")
            else:
                server = stack.enter_context(running_postgres())
                figures["postgresql"] = await measure_on(
                    "postgresql",
                    settings,
                    server.new_database(),
                    server.new_database(),
                    wanted,
                    size,
                )
    ratios = {f"{name}_vs_bare": found.pop("vs_bare") for name, found in figures.items()}
    return {"figures": figures, "ratios": ratios}


def _print_tables(found: dict[str, Any]) -> None:
    columns = list(found["figures"]["sqlite"])
    print(f"{'':<12} " + "  ".join(f"{name:>24}" for name in columns))
    for name, row in found["figures"].items():
        print(f"{name:<12} " + "  ".join(f"{row[column]:>24,}" for column in columns))
    print("\nratios")
    for name, value in found["ratios"].items():
        print(f"  {name:<36} {value:>10}")


def main() -> None:
    """Read the options, measure, print."""
    run_benchmark(
        __doc__,
        "less than a minute of it",
        lambda quick: measure(QUICK_SIZE if quick else FULL_SIZE),
        _print_tables,
    )


if __name__ == "__main__":
    main()
