"""Kafka's copy of the configuration becomes what the database says, whatever came between."""

import base64
import contextlib
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from capistream.embedded import free_port
from tests.integration.conftest import ON_APACHE
from tests.integration.manager import Manager
from tests.integration.parts import bare_system, embedded_broker, gateway, redis_url, valkey
from tests.integration.system import PLATFORMS, Shop, System, eventually, purchase
from tests.kafka.apache import kafka_node

TOPIC: Final = "domain-configs"
FOLLOWERS: Final = ("gateway", "streams", "sinks", "audit", "manage")
"""Processes that follow the topic."""


@dataclass(frozen=True, slots=True)
class Log:
    """A Kafka of the test's own, and how it goes away and comes back with all that it had."""

    bootstrap: str
    away: Callable[[], None]
    back: Callable[[], None]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """Apache Kafka where it is asked for, else the embedded broker."""
    with ExitStack() as cleanup:
        if ON_APACHE:
            node = cleanup.enter_context(kafka_node(tmp_path / "kafka"))
            yield Log(node.bootstrap, node.kill, node.start)
        else:
            part = cleanup.enter_context(embedded_broker(tmp_path / "broker"))
            yield Log(f"127.0.0.1:{part.port}", part.freeze, part.thaw)


@pytest.fixture
def bare(log: Log, tmp_path: Path) -> Iterator[System]:
    """A system of which no process runs yet."""
    with valkey(tmp_path / "valkey") as redis:
        yield bare_system(
            tmp_path / "data",
            log.bootstrap,
            CAPISTREAM_REDIS__URL=redis_url(redis),
            CAPISTREAM_MANAGE__DEVELOPMENT="true",
            CAPISTREAM_MANAGE__RECONCILE_SECONDS="1",
        )


@contextmanager
def managing(system: System) -> Iterator[tuple[Manager, subprocess.Popen[bytes]]]:
    """A running manage process."""
    port = free_port()
    with system.running("manage", "--port", str(port)) as process:
        manager = Manager(f"http://127.0.0.1:{port}", system.directory / "mails.txt")
        eventually(lambda: is_there(manager), within=30, until=bool)
        yield manager, process


def is_there(manager: Manager) -> bool:
    """Whether it answers."""
    with contextlib.suppress(OSError):
        return manager.call("GET", "/health").status == 200
    return False


def push(manager: Manager, shop: Shop, seconds: float) -> int | None:
    """Have the shop push one destination; answers the status, or None when no answer came."""
    body = {"destinations": [{"type": "facebook", "pixel_id": "1", "access_token": "a-new-token"}]}
    path = "/v1/sync/domain-config"
    with contextlib.suppress(OSError):
        return manager.call("POST", path, body, bearer=shop.sync_token, seconds=seconds).status
    return None


def kept(system: System) -> dict[str, int]:
    """Domain → revision, as the database has it."""
    with contextlib.closing(sqlite3.connect(system.directory / "capistream.db")) as database:
        return dict(database.execute("SELECT id, revision FROM domains").fetchall())


def published(system: System) -> dict[str, dict[str, Any] | None]:
    """Domain → the last that is on the topic of it; None: that it is gone."""
    records = system.records(TOPIC)
    return {r.key().decode(): json.loads(r.value()) if r.value() else None for r in records}


def revisions(system: System) -> dict[str, int]:
    """Domain → revision, as the topic has it."""
    return {key: one["revision"] for key, one in published(system).items() if one is not None}


def test_a_process_killed_between_commit_and_publish_makes_up_for_it(
    bare: System, log: Log
) -> None:
    shop = bare.make_shop("killed")
    before = revisions(bare)
    assert before == kept(bare)
    # It starts while Kafka is away: nothing that it sends lies anywhere on its way.
    log.away()
    with managing(bare) as (manager, process):
        assert push(manager, shop, seconds=0.5) is None
        assert kept(bare)[shop.domain_id] == before[shop.domain_id] + 1
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    log.back()
    assert revisions(bare) == before, "nobody has published it"
    with managing(bare):
        eventually(lambda: revisions(bare), within=20, until=lambda found: found == kept(bare))


def test_a_change_while_kafka_is_away_is_answered_and_made_up_for(bare: System, log: Log) -> None:
    shop, other = bare.make_shop("away"), bare.make_shop("deleted")
    with managing(bare) as (manager, _), gateway(bare) as door:
        assert door.system.request("/v1/events", b"{}", other.headers()).status == 400
        log.away()
        began = time.monotonic()
        assert push(manager, shop, seconds=20) == 200
        assert time.monotonic() - began < 10
        ready = manager.call("GET", "/ready")
        assert (ready.status, ready.body["parts"]["kafka"]) == (200, "unreachable")
        gone = bare.cli("domain", "delete", other.host, "--yes", check=False)
        assert (gone.returncode, "the change is kept" in gone.stderr) == (1, True)
        log.back()
        eventually(lambda: revisions(bare), within=20, until=lambda found: found == kept(bare))
        assert published(bare)[other.domain_id] is None
        eventually(
            lambda: door.system.request("/v1/events", b"{}", other.headers()).status,
            within=10,
            until=lambda status: status == 404,
        )


def test_what_the_database_does_not_know_is_left_alone(bare: System) -> None:
    shop = bare.make_shop("stranger")
    whole = published(bare)
    (bare.directory / "capistream.db").rename(bare.directory / "another.db")
    other = bare.make_shop("known", publishes=False)
    with managing(bare) as (_, process):
        eventually(lambda: revisions(bare), within=20, until=lambda found: other.domain_id in found)
        time.sleep(3)  # reconciled several times by then
        assert published(bare)[shop.domain_id] == whole[shop.domain_id]
        process.terminate()
        assert process.wait(20) == 0
    told = (bare.directory.parent / "manage.log").read_text()
    assert told.count("unknown to the database") == 1


@pytest.mark.parametrize("process", ["manage", "sinks"])
def test_another_key_under_the_same_name_stops_the_start(bare: System, process: str) -> None:
    bare.make_shop("sealed")
    ring = {"embedded": base64.b64encode(b"w" * 32).decode()}
    bare.environment["CAPISTREAM_VAULT__KEYS"] = json.dumps(ring)
    with bare.running(process) as started:
        assert started.wait(30) == 78
    told = (bare.directory.parent / f"{process}.log").read_text()
    assert "error: CAPISTREAM_VAULT__KEYS has another key under the name 'embedded'" in told
    assert "Traceback" not in told


def test_what_is_sealed_again_by_command_is_published(bare: System) -> None:
    shop = bare.make_shop("rotated")
    before = revisions(bare)[shop.domain_id]
    ring = json.loads((bare.directory / "secrets.json").read_text())["vault"]["keys"]
    ring["next"] = base64.b64encode(b"n" * 32).decode()
    bare.environment["CAPISTREAM_VAULT__KEYS"] = json.dumps(ring)
    bare.environment["CAPISTREAM_VAULT__ACTIVE"] = "next"
    done = json.loads(bare.cli("keys", "rotate", "--json").stdout)
    assert done == {"sealed": len(PLATFORMS), "failed": 0}
    config = published(bare)[shop.domain_id]
    assert config is not None
    assert config["revision"] == before + 1
    assert {one["sealed"].split(".")[1] for one in config["destinations"]} == {"next"}


def lose_topic(system: System) -> None:
    """Delete the whole topic, and wait until it is gone."""
    name = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "") + TOPIC
    admin = AdminClient({"bootstrap.servers": system.description["kafka"]})
    (before,) = admin.describe_topics(TopicCollection([name])).values()
    identity = str(before.result(10).topic_id)
    admin.delete_topics([name])[name].result(10)

    def is_gone() -> bool:
        (found,) = admin.describe_topics(TopicCollection([name])).values()
        error = found.exception(10)
        return error is not None or str(found.result().topic_id) != identity

    eventually(is_gone, within=10, until=bool)


@pytest.mark.slow
def test_a_lost_topic_is_rebuilt_and_followed_by_all_who_run(start: Callable[..., System]) -> None:
    system = start(CAPISTREAM_MANAGE__RECONCILE_SECONDS="3600")
    known = system.make_shop("before")
    deleted = system.make_shop("deleted")
    known.deliver("b-1")
    assert json.loads(system.cli("domain", "delete", deleted.host, "--yes", "--json").stdout)
    lose_topic(system)
    # More than the old topic had: who goes on where they were passes over the first of them.
    new = [system.make_shop(f"meanwhile-{number}", publishes=False) for number in range(5)]
    pids = {name: system.pid(name) for name in FOLLOWERS}
    rebuilt = json.loads(system.cli("topics", "rebuild", "--json").stdout)
    assert rebuilt == {"published": len(new) + 1, "removed": 1}
    assert published(system)[deleted.domain_id] is None
    assert json.loads(system.cli("topics", "check", "--json").stdout) == {"differences": []}
    for shop in (known, *new):
        shop.let_in(purchase("n-1"), within=40)
    known.deliver("b-2")
    new[0].deliver("n-2")
    assert deleted.status_of(purchase("d-1")) == 404
    if ON_APACHE:
        # The embedded broker answers a client of a topic that is gone with what ends the client
        # (librdkafka, by SIGSEGV): there, whoever follows it is started again.
        assert {name: system.pid(name) for name in FOLLOWERS} == pids


@pytest.mark.slow
def test_a_lost_topic_that_is_there_again_is_filled_by_itself(start: Callable[..., System]) -> None:
    system = start(CAPISTREAM_MANAGE__RECONCILE_SECONDS="1")
    known = system.make_shop("again")
    known.deliver("a-1")
    lose_topic(system)
    system.cli("topics", "apply")
    eventually(lambda: revisions(system), within=40, until=lambda found: known.domain_id in found)
    known.deliver("a-2")
