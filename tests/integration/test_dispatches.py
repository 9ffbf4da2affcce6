"""What became of a dispatch key: from the log into Redis, whatever dies on the way."""

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog
from confluent_kafka import Producer
from pydantic import SecretStr
from structlog.testing import LogCapture

from audit.worker import AuditReader
from runtime.clock import SystemClock
from runtime.dispatches import Dispatch, Dispatches
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord, TopicAdmin
from runtime.lifecycle import Shutdown
from runtime.redis import connect
from runtime.settings import KafkaSettings, RedisSettings, Settings
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind
from schemas.raw_event import RawEvent
from schemas.record import Record
from schemas.topics import AUDIT, RAW_EVENTS, topic_table
from tests.integration.system import PLATFORMS, System, eventually, purchase

_numbers = itertools.count(1)


def prefix(system: System) -> str:
    return system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")


def produce(system: System, *records: Record) -> None:
    """Put records onto the system's log and wait until they are there."""
    producer = Producer({"bootstrap.servers": system.description["kafka"], "linger.ms": 5})
    for record in records:
        producer.produce(prefix(system) + record.topic, record.value, record.key)
    assert producer.flush(20) == 0


def redis_of(system: System) -> RedisSettings:
    """The Redis that the system uses: its own, or one that its settings name."""
    url = system.environment.get("CAPISTREAM_REDIS__URL")
    if url is None:
        url = json.loads((system.directory / "stack.json").read_text())["redis"]["url"]
    return RedisSettings(url=SecretStr(url))


def status(system: System, domain_id: str, key: str) -> Dispatch | None:
    """What the gateway would find."""

    async def ask() -> Dispatch | None:
        client = connect(redis_of(system))
        try:
            return await Dispatches(client, prefix(system)).status(domain_id, key)
        finally:
            await client.aclose()

    return asyncio.run(ask())


def told(domain_id: str, key: str | None, kind: OutcomeKind = OutcomeKind.DELIVERED) -> Record:
    """An outcome as the sinks write it."""
    delivery = Delivery(
        domain_id, "dst_1", "meta", "o-1", "Purchase", 1, 2, "raw-events-0-1", dispatch_key=key
    )
    return delivery.outcome_record(kind, at=3)


def fates(system: System, domain_id: str, keys: Sequence[str]) -> dict[str, list[str]]:
    """Key → its outcomes, of those keys that are known."""
    found = {key: status(system, domain_id, key) for key in keys}
    return {key: [o.outcome for o in d.outcomes] for key, d in found.items() if d is not None}


def test_what_became_of_a_key_is_told(system: System) -> None:
    poison = Record(AUDIT, b"dom_told", b'{"dispatchKey":')
    produce(
        system,
        told("dom_told", None),
        poison,
        told("dom_told", "k-1", OutcomeKind.RETRYING),
        told("dom_told", "k-2", OutcomeKind.PARKED),
        told("dom_told", "k-1"),
    )
    found = eventually(
        lambda: fates(system, "dom_told", ["k-1", "k-2", "k-3"]),
        within=10,
        until=lambda f: f.get("k-1") == ["delivered"],
    )
    assert found == {"k-1": ["delivered"], "k-2": ["parked"]}


def test_an_event_that_came_with_a_key_is_told_of_at_every_platform(system: System) -> None:
    shop = system.make_shop("dispatch")
    now_ms = time.time_ns() // 1_000_000
    raw = RawEvent.model_validate(
        {
            "domainId": shop.domain_id,
            "door": "purchase-events",
            "requestId": "r",
            "receivedAt": now_ms,
            "dispatchKey": "order 1",
            "event": purchase("d-1"),
        }
    )
    key = f"{shop.domain_id}:d-1".encode()
    produce(system, Record(RAW_EVENTS, key, raw.model_dump_json(exclude_none=True).encode()))
    dispatch = eventually(
        lambda: status(system, shop.domain_id, "order 1"),
        within=20,
        until=lambda d: d is not None and len(d.outcomes) == len(PLATFORMS),
    )
    assert dispatch is not None
    assert (dispatch.accepted_at, dispatch.event_ids) == (None, ("d-1",))
    assert {(o.platform, o.outcome) for o in dispatch.outcomes} == {
        (platform, OutcomeKind.DELIVERED) for platform in PLATFORMS
    }


@pytest.mark.chaos
@pytest.mark.slow
def test_nothing_is_lost_when_the_reader_is_killed(system: System) -> None:
    keys = [f"k-{n}" for n in range(300)]
    for start in range(0, len(keys), 100):
        produce(system, *(told("dom_killed", key) for key in keys[start : start + 50]))
        before = system.pid("audit")
        system.kill("audit")
        produce(system, *(told("dom_killed", key) for key in keys[start + 50 : start + 100]))
        eventually(lambda: system.pid("audit"), within=10, until=lambda pid: pid != before)  # noqa: B023
    found = eventually(
        lambda: fates(system, "dom_killed", keys),
        within=40,
        until=lambda f: len(f) == len(keys),
    )
    assert set(map(tuple, found.values())) == {("delivered",)}


@pytest.fixture
def settings(system: System, tmp_path: Path) -> Settings:
    """Settings with which a reader of the test's own has an audit topic of its own."""
    kafka = KafkaSettings(
        bootstrap=system.description["kafka"],
        topic_prefix=f"{prefix(system)}own{next(_numbers)}-",
        session_timeout_seconds=6,
    )
    rows = [row for row in topic_table([]) if row.name == AUDIT]
    TopicAdmin(kafka).create(rows)
    return Settings(data_dir=tmp_path, kafka=kafka)


def produce_own(settings: Settings, *keys: str) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap})
    for key in keys:
        producer.produce(settings.topic(AUDIT), b"value", key.encode())
    assert producer.flush(20) == 0


class Store:
    """Where outcomes are kept, away for the first ``refusals`` times that it is asked."""

    def __init__(self, wanted: int, refusals: int = 0) -> None:
        self.kept: list[str] = []
        self.refused: list[list[str]] = []
        self.shutdown = Shutdown()
        self._wanted = wanted
        self._refusals = refusals

    async def keep(self, records: Sequence[ConsumedRecord]) -> None:
        """Take the keys of records; ask for a shutdown when all that are wanted are here."""
        keys = [(record.key or b"").decode() for record in records]
        if len(self.refused) < self._refusals:
            self.refused.append(keys)
            raise UnavailableError("away")
        self.kept += keys
        if len(self.kept) >= self._wanted:
            self.shutdown.ask()


async def test_what_could_not_be_kept_is_kept_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = LogCapture()
    monkeypatch.setattr("audit.worker.log", structlog.wrap_logger(None, processors=[told]))
    produce_own(settings, "a", "b", "c")
    store = Store(wanted=4, refusals=6)
    reading = asyncio.create_task(
        AuditReader(settings, store.keep, SystemClock()).run(store.shutdown)
    )
    while len(store.refused) < 2:
        await asyncio.sleep(0.05)
    produce_own(settings, "d")
    await reading
    assert set(store.kept) == {"a", "b", "c", "d"}
    assert len(store.refused) == 6
    assert not any("d" in keys for keys in store.refused), "nothing is read on that cannot be kept"
    # Told once for each time that it went away, not for each attempt.
    lines = [entry["event"] for entry in told.entries]
    assert lines.count("Outcomes cannot be kept; waiting.") == 1

    produce_own(settings, "e")
    after = Store(wanted=1)
    await AuditReader(settings, after.keep, SystemClock()).run(after.shutdown)
    assert after.kept == ["e"], "what was kept is committed, and read once"


async def test_what_was_not_kept_before_a_stop_is_read_again(settings: Settings) -> None:
    produce_own(settings, "a")
    away = Store(wanted=1, refusals=1_000)
    reading = asyncio.create_task(
        AuditReader(settings, away.keep, SystemClock()).run(away.shutdown)
    )
    while not away.refused:
        await asyncio.sleep(0.05)
    away.shutdown.ask()
    started = time.monotonic()
    await reading
    assert time.monotonic() - started < 5

    back = Store(wanted=1)
    await AuditReader(settings, back.keep, SystemClock()).run(back.shutdown)
    assert back.kept == ["a"]


async def test_a_share_that_moves_to_another_reader_is_read_by_it(settings: Settings) -> None:
    """A second reader joins while the first waits for its store: nothing is passed over."""
    first = Store(wanted=10_000, refusals=1_000)
    second = Store(wanted=10_000)
    keys = {f"k-{n}" for n in range(60)}
    produce_own(settings, *keys)
    one = asyncio.create_task(AuditReader(settings, first.keep, SystemClock()).run(first.shutdown))
    while not first.refused:
        await asyncio.sleep(0.05)
    two = asyncio.create_task(
        AuditReader(settings, second.keep, SystemClock()).run(second.shutdown)
    )
    while not second.kept:
        await asyncio.sleep(0.05)
    first.shutdown.ask()
    await one
    while set(second.kept) != keys:
        await asyncio.sleep(0.05)
    second.shutdown.ask()
    await two
