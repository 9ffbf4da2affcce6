"""Systems to test on: embedded parts by default, Apache Kafka with ``REQUIRE_KAFKA=1``.

The tests are the same on both. Nothing is skipped: where Apache Kafka is asked for and cannot be
had, the fixture fails.
"""

import base64
import contextlib
import itertools
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer

from capistream.embedded import free_port, valkey_command
from tests.integration.flow import Flow
from tests.integration.outflow import Outflow, sandbox
from tests.integration.parts import bare_system, embedded_broker, redis_url
from tests.integration.parts import valkey as started_valkey
from tests.integration.system import PLATFORMS, System, eventually
from tests.kafka.apache import apache_kafka

ON_APACHE = os.environ.get("REQUIRE_KAFKA") == "1"

type_of_start = Callable[..., System]
_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here drives real processes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings that name Apache Kafka, a Valkey and a sandbox, all started here."""
    directory = tmp_path_factory.mktemp("apache")
    valkey, sandbox = free_port(), free_port()
    with ExitStack() as cleanup:
        bootstrap = cleanup.enter_context(apache_kafka(directory))
        cleanup.enter_context(_running(valkey_command(valkey, directory), directory / "valkey.log"))
        cleanup.enter_context(
            _running(
                [
                    *(sys.executable, "-m", "capistream", "sandbox"),
                    *("--port", str(sandbox), "--data", str(directory)),
                ],
                directory / "sandbox.log",
            )
        )
        url = f"http://127.0.0.1:{sandbox}"
        eventually(lambda: _answers(f"{url}/_sandbox/health"), within=30, until=bool)
        yield {
            "SANDBOX": url,
            "CAPISTREAM_KAFKA__BOOTSTRAP": bootstrap,
            "CAPISTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
            "CAPISTREAM_REDIS__URL": f"redis://127.0.0.1:{valkey}/0",
            "CAPISTREAM_VAULT__KEYS": json.dumps({"test": base64.b64encode(b"v" * 32).decode()}),
            "CAPISTREAM_TOKENS__SECRET": base64.b64encode(b"t" * 32).decode(),
            "CAPISTREAM_MANAGE__DEVELOPMENT": "true",
            "CAPISTREAM_MANAGE__CALLBACK_NETWORKS": "127.0.0.0/8",
            **{f"CAPISTREAM_PLATFORMS__{slug.upper()}__BASE_URL": url for slug in PLATFORMS},
        }


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, ConnectionError):
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - our own sandbox
        return True
    return False


@contextmanager
def _started(
    request: pytest.FixtureRequest, directory: Path, **environment: str
) -> Iterator[System]:
    if ON_APACHE:
        common: dict[str, str] = dict(request.getfixturevalue("apache"))
        sandbox = common.pop("SANDBOX")
        prefix = {"CAPISTREAM_KAFKA__TOPIC_PREFIX": f"t{next(_numbers)}-{os.getpid()}-"}
        system = System(directory, [], common | prefix | environment, sandbox_url=sandbox)
    else:
        system = System(directory, ["--embedded"], environment)
    system.start()
    try:
        yield system
    finally:
        if system.process is not None and system.process.poll() is None:
            system.stop()


@pytest.fixture(scope="session")
def system(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """One system for all tests that leave it as it was; each takes a shop of its own."""
    with _started(request, tmp_path_factory.mktemp("system")) as started:
        yield started


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a system of the test's own, with more settings: ``start(CAPISTREAM_X="…")``."""
    with ExitStack() as cleanup:

        def start_one(**environment: str) -> System:
            directory = tmp_path / f"system-{next(_numbers)}"
            return cleanup.enter_context(_started(request, directory, **environment))

        yield start_one


@pytest.fixture(scope="session")
def bootstrap(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A log without processes of ours, for tests that have topics of their own there."""
    if ON_APACHE:
        yield request.getfixturevalue("apache")["CAPISTREAM_KAFKA__BOOTSTRAP"]
        return
    with embedded_broker(tmp_path_factory.mktemp("broker")) as part:
        yield f"127.0.0.1:{part.port}"


@pytest.fixture
def flow(request: pytest.FixtureRequest, bootstrap: str, tmp_path: Path) -> Iterator[Flow]:
    """A shop's way through the streams stage; parametrised indirectly with more settings."""
    prefix = f"flow{next(_numbers)}-{os.getpid()}-"
    with started_valkey(tmp_path / "valkey") as redis:
        system = bare_system(
            tmp_path / "data",
            bootstrap,
            CAPISTREAM_KAFKA__TOPIC_PREFIX=prefix,
            CAPISTREAM_KAFKA__SESSION_TIMEOUT_SECONDS="6",
            CAPISTREAM_REDIS__URL=redis_url(redis),
            **getattr(request, "param", {}),
        )
        offsets = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{prefix}streams"})
        yield Flow(system, redis, system.make_shop("flow"), offsets)
        offsets.close()


@pytest.fixture
def outflow(request: pytest.FixtureRequest, bootstrap: str, tmp_path: Path) -> Iterator[Outflow]:
    """A shop's way through the sinks stage; parametrised indirectly with more settings."""
    with ExitStack() as cleanup:
        redis = cleanup.enter_context(started_valkey(tmp_path / "valkey"))
        system = bare_system(
            tmp_path / "data",
            bootstrap,
            CAPISTREAM_KAFKA__TOPIC_PREFIX=f"out{next(_numbers)}-{os.getpid()}-",
            CAPISTREAM_KAFKA__SESSION_TIMEOUT_SECONDS="6",
            CAPISTREAM_REDIS__URL=redis_url(redis),
            CAPISTREAM_AUDIT__TRANSACTIONS="true" if ON_APACHE else "false",
            **getattr(request, "param", {}),
        )
        url = cleanup.enter_context(sandbox(system))
        system.environment.update(
            {f"CAPISTREAM_PLATFORMS__{slug.upper()}__BASE_URL": url for slug in PLATFORMS}
        )
        yield Outflow(system, redis, system.make_shop("out"), url)
