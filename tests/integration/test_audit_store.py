"""The event log: from the topic into the database, whatever dies or is away."""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import Producer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from audit.log import SqlEventLog, open_log
from audit.read import read_records
from audit.rebuild import rebuild
from audit.store import EventLogStore
from audit.worker import AuditReader
from manage.publish import publish
from runtime.clock import SystemClock
from runtime.database import Database
from runtime.dispatches import Dispatches
from runtime.lifecycle import Shutdown
from runtime.redis import connect
from runtime.settings import DatabaseSettings, KafkaSettings, RedisSettings, Settings
from schemas.config import DomainConfig
from schemas.event_log import EventQuery
from schemas.outcome import OutcomeKind, Reason
from schemas.topics import AUDIT
from tests.integration.parts import Part, bare_system, redis_url
from tests.integration.parts import valkey as started_valkey
from tests.integration.system import PLATFORMS, System, eventually, purchase
from tests.unit.audit.told import META, TIKTOK, Told, contents

_numbers = itertools.count(1)
HOUR_MS: Final = 3_600_000
EVERYTHING: Final = 2 * 10**14


class Store:
    """A topic of the test's own, and the audit process that keeps it in a database."""

    def __init__(self, system: System, settings: Settings, redis: Part) -> None:
        self.system = system
        self.settings = settings
        self.redis = redis

    def produce(self, values: list[bytes | None], domain_id: str = "dom_1") -> None:
        """Put values onto the topic."""
        producer = Producer({"bootstrap.servers": self.settings.kafka.bootstrap, "linger.ms": 5})
        for value in values:
            producer.produce(self.settings.topic(AUDIT), value, domain_id.encode())
            producer.poll(0)
        assert producer.flush(30) == 0

    @contextmanager
    def running(self) -> Iterator[Any]:
        """The process, until the body ends."""
        with self.system.running("audit") as process:
            yield process

    def ask(self, question: Callable[[SqlEventLog, Database], Any]) -> Any:
        """The answer of the event log, by a connection of its own."""

        async def asked() -> Any:
            database = Database(self.settings.database_url)
            try:
                return await question(await open_log(database), database)
            finally:
                await database.close()

        return asyncio.run(asked())

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """All that is in the database."""
        found: dict[str, list[tuple[Any, ...]]] = self.ask(lambda _, database: contents(database))
        return found

    def until_deliveries(self, count: int, within: float = 60) -> None:
        """Wait until so many of them are there and none is under way."""

        async def ended(log: SqlEventLog, _: Database) -> tuple[int, int]:
            rows = await log.accuracy(["dom_1", "dom_2"], 0, EVERYTHING)
            return sum(row.accepted for row in rows), sum(row.under_way for row in rows)

        eventually(lambda: self.ask(ended), within=within, until=lambda n: n == (count, 0))


@pytest.fixture
def audit_store(bootstrap: str, database_url: str, tmp_path: Path) -> Iterator[Store]:
    """On each database."""
    prefix = f"audit{next(_numbers)}-{os.getpid()}-"
    with started_valkey(tmp_path / "valkey") as redis:
        system = bare_system(
            tmp_path / "data",
            bootstrap,
            CAPISTREAM_KAFKA__TOPIC_PREFIX=prefix,
            CAPISTREAM_KAFKA__SESSION_TIMEOUT_SECONDS="6",
            CAPISTREAM_REDIS__URL=redis_url(redis),
            CAPISTREAM_DATABASE__URL=database_url,
            CAPISTREAM_AUDIT__SWEEP_SECONDS="0.5",
        )
        settings = Settings(
            data_dir=tmp_path / "data",
            kafka=KafkaSettings(
                bootstrap=bootstrap, topic_prefix=prefix, session_timeout_seconds=6
            ),
            redis=RedisSettings.model_validate({"url": redis_url(redis)}),
            database=DatabaseSettings.model_validate({"url": database_url}),
        )
        yield Store(system, settings, redis)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _values(first: int, count: int, received_at: int, domain_id: str = "dom_1") -> list[Any]:
    """Two deliveries of each event, one of them after a try that failed; some told twice."""
    dice = random.Random(first)
    values = []
    for number in range(first, first + count):
        one = Told(number, domain_id, received_at + number, order_id=f"T-{number}")
        story = [
            one.routing(META, TIKTOK),
            one.outcome(OutcomeKind.RETRYING, attempt=1, reason=Reason.THROTTLED, code="4"),
            one.outcome(to=TIKTOK),
            dice.choice([one.outcome(attempt=1), one.refused(detail=f"Bad {number % 7}.")]),
        ]
        values += story + story[dice.randrange(4) :] * (number % 3 == 0)
    return values


async def _read_again(store: Store, group: str) -> None:
    """The whole topic once more, by a group that has read nothing of it yet."""
    database = Database(store.settings.database_url)
    shutdown = Shutdown()
    ours = EventLogStore(database)
    reader = AuditReader(store.settings, ours.keep, SystemClock(), group)
    reading = asyncio.create_task(reader.run(shutdown))
    await reader.joined.wait()
    await asyncio.sleep(3)
    shutdown.ask()
    await reading
    await database.close()


@pytest.mark.chaos
@pytest.mark.slow
def test_the_rows_are_those_of_the_topic_whoever_dies(audit_store: Store) -> None:
    dice = random.Random(3)
    began = _now_ms()
    for part in range(4):
        with audit_store.running() as process:
            audit_store.produce(_values(part * 500, 500, began))
            time.sleep(dice.uniform(1.0, 3.0))
            process.kill()
            process.wait()
    with audit_store.running():
        audit_store.until_deliveries(4000)
    found = audit_store.rows()

    # Kept at one go, elsewhere, the topic comes to the same.
    records = [one for some in read_records(audit_store.settings, follow=False) for one in some]
    url = f"sqlite+aiosqlite:///{audit_store.settings.data_dir}/whole.db"

    async def whole() -> dict[str, list[tuple[Any, ...]]]:
        database = Database(url)
        await open_log(database)
        await EventLogStore(database).keep(records)
        kept = await contents(database)
        await database.close()
        return kept

    assert len(found["log_events"]) == 2000
    assert found == asyncio.run(whole())

    asyncio.run(_read_again(audit_store, "twice"))
    assert audit_store.rows() == found

    told: list[int] = []
    assert asyncio.run(rebuild(audit_store.settings, told.append)) == len(records)
    assert told[-1] == len(records)
    assert audit_store.rows() == found


def test_the_log_is_made_anew_beside_the_process(audit_store: Store) -> None:
    began = _now_ms()
    audit_store.produce(_values(0, 300, began))
    with audit_store.running():
        audit_store.until_deliveries(600)

        async def damage(_: SqlEventLog, database: Database) -> None:
            async with database.changing.begin() as session:
                await session.execute(text("UPDATE log_counters SET n = n + 5"))
                await session.execute(text("DELETE FROM log_deliveries WHERE platform = 'meta'"))

        audit_store.ask(damage)
        asyncio.run(rebuild(audit_store.settings, lambda _: None))
        audit_store.produce(_values(300, 20, began))
        audit_store.until_deliveries(640)
    assert len(audit_store.rows()["log_deliveries"]) == 640


def test_each_plan_keeps_its_domain_for_as_long_as_it_says(audit_store: Store) -> None:
    config = {
        "domainId": "dom_1",
        "orgId": "org",
        "host": "shop.example",
        "revision": 1,
        "syncTokenSha256": "",
        "logRetentionSeconds": 3600,
    }
    asyncio.run(publish(audit_store.settings, [DomainConfig.model_validate(config)]))
    now = _now_ms()
    for first, domain_id in enumerate(("dom_1", "dom_2")):
        audit_store.produce(_values(first * 100, 5, now - 2 * HOUR_MS, domain_id), domain_id)
        audit_store.produce(_values(first * 100 + 50, 5, now, domain_id), domain_id)

    async def left(log: SqlEventLog, _: Database) -> dict[str, int]:
        pages = {
            one: await log.events([one], EventQuery.model_validate({"limit": 200}))
            for one in ("dom_1", "dom_2")
        }
        return {one: len(page.events) for one, page in pages.items()}

    with audit_store.running():
        audit_store.until_deliveries(40)
        eventually(
            lambda: audit_store.ask(left),
            within=20,
            until=lambda found: found == {"dom_1": 10, "dom_2": 20},
        )
        audit_store.until_deliveries(40)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_database_that_is_away_is_waited_for(audit_store: Store) -> None:
    url = audit_store.settings.database_url
    name = url.rpartition("/")[2]

    def on_server(*statements: str) -> None:
        async def run() -> None:
            engine = create_async_engine(
                url.removesuffix(name) + "postgres", isolation_level="AUTOCOMMIT"
            )
            async with engine.connect() as connection:
                for statement in statements:
                    await connection.execute(text(statement))
            await engine.dispose()

        asyncio.run(run())

    async def known() -> bool:
        client = connect(audit_store.settings.redis)
        prefix = audit_store.settings.kafka.topic_prefix
        found = await Dispatches(client, prefix).status("dom_1", "job-1")
        await client.aclose()
        return found is not None

    began = _now_ms()
    audit_store.produce(_values(0, 50, began))
    with audit_store.running() as process:
        audit_store.until_deliveries(100)
        on_server(
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",  # noqa: S608 - of our own
        )
        audit_store.produce(_values(50, 50, began))
        audit_store.produce([Told(999, received_at=began, dispatch_key="job-1").outcome()])
        # The other reader does not wait for it.
        eventually(lambda: asyncio.run(known()), within=20, until=bool)
        time.sleep(8)  # longer than a session of the group lasts without a poll
        assert process.poll() is None
        on_server(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        audit_store.until_deliveries(201, within=20)
    told = (audit_store.settings.data_dir.parent / "audit.log").read_text()
    assert told.count("Outcomes cannot be kept; waiting.") == 1
    assert "Outcomes are kept again." in told


def test_an_event_is_logged_from_the_door_to_its_ends(system: System) -> None:
    shop = system.make_shop("logged")
    shop.let_in(purchase("logged-1"))
    url = system.environment.get(
        "CAPISTREAM_DATABASE__URL", f"sqlite+aiosqlite:///{system.directory}/capistream.db"
    )

    async def timeline() -> Any:
        database = Database(url)
        try:
            return await (await open_log(database)).timeline([shop.domain_id], "logged-1")
        finally:
            await database.close()

    (found,) = eventually(
        lambda: asyncio.run(timeline()),
        within=30,
        until=lambda told: bool(told) and len(told[0].steps) >= 1 + 2 * len(PLATFORMS),
    )
    assert found.order_id == "T-12345"
    steps = [(step.step, step.platform) for step in found.steps]
    assert steps[0] == ("accepted", None)
    assert sorted(steps[1:]) == sorted(
        (step, platform) for step in ("routed", "delivered") for platform in PLATFORMS
    )
