"""A management API on real parts, on each of the databases."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from aiohttp.test_utils import TestClient, TestServer

from audit.log import SqlEventLog
from manage.app import create_app
from manage.auth_api import ROUTES as AUTH
from manage.callbacks import CallbackClient
from manage.limits import Limits
from manage.live import Live
from manage.mail import mailer
from manage.org_api import ROUTES as ORGANISATIONS
from manage.probe import Prober
from manage.publish import Publisher
from manage.routes import Route
from manage.services import Services
from manage.store import Store
from platforms.registry import PLATFORMS
from runtime.database import Database
from runtime.kafka import TopicAdmin
from runtime.settings import (
    KafkaSettings,
    ManageSettings,
    RedisSettings,
    Settings,
    TokenSettings,
    VaultSettings,
)
from runtime.vault import DomainTokens, Vault
from schemas.topics import topic_table
from tests.integration.parts import embedded_broker
from tests.unit.manage.api import KEY, Client, NewClient
from tests.unit.runtime.clocks import JumpingClock


@pytest.fixture
def manage_settings() -> ManageSettings:
    """A module that needs others overrides this."""
    return ManageSettings(development=True, requests_per_minute=10_000)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """An embedded broker that has the topics."""
    with embedded_broker(tmp_path_factory.mktemp("broker")) as broker:
        made = KafkaSettings(bootstrap=f"127.0.0.1:{broker.port}")
        TopicAdmin(made).create(topic_table(PLATFORMS))
        yield made


@pytest.fixture
def settings(
    tmp_path: Path, valkey: RedisSettings, kafka: KafkaSettings, manage_settings: ManageSettings
) -> Settings:
    """All settings."""
    return Settings(
        data_dir=tmp_path,
        redis=valkey,
        kafka=kafka,
        vault=VaultSettings(keys={"k1": KEY}),
        tokens=TokenSettings(secret=KEY),
        manage=manage_settings,
    )


@pytest.fixture
def clock() -> JumpingClock:
    """Time passes as the test says."""
    return JumpingClock()


@pytest.fixture
async def services(
    settings: Settings,
    database: Database,
    clock: JumpingClock,
    redis_client: redis.asyncio.Redis,  # its counts are empty
) -> AsyncIterator[Services]:
    """One of each part."""
    vault, tokens = Vault(settings.vault), DomainTokens(settings.tokens)
    made = Services(
        settings=settings,
        clock=clock,
        database=database,
        vault=vault,
        tokens=tokens,
        store=Store(database, vault, tokens, clock),
        publisher=Publisher(settings),
        event_log=SqlEventLog(database),
        mailer=mailer(settings, clock),
        limits=Limits(settings, clock),
        live=Live(settings, clock),
        prober=Prober(settings, clock),
        callbacks=CallbackClient(settings.manage),
    )
    yield made
    await made.live.close()
    await made.prober.close()
    await made.publisher.close()
    await made.limits.close()


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """What is served. A module that tests others overrides this."""
    return (*AUTH, *ORGANISATIONS)


@pytest.fixture
async def new_client(services: Services, routes: tuple[Route, ...]) -> AsyncIterator[NewClient]:
    """Makes browsers at one served API."""
    server = TestServer(create_app(services, routes))
    await server.start_server()
    clients: list[Client] = []

    async def make() -> Client:
        client: Client = TestClient(server)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()
    await server.close()


@pytest.fixture
async def client(new_client: NewClient) -> Client:
    """One browser."""
    return await new_client()
