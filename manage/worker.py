"""The manage process: serves the management API, and sees to it that Kafka's copy of the configuration
is what the database says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias

from manage import plans
from manage.api import ROUTES
from manage.app import create_app
from manage.callbacks import CallbackClient
from manage.keys import ROTATION, Rotation, read_seals
from manage.limits import Limits
from manage.live import Live
from manage.mail import mailer
from manage.probe import Prober
from manage.publish import Publisher
from manage.quota_watch import check_quotas
from manage.readiness import Readiness
from manage.reconcile import Reconciler
from manage.services import Services
from manage.sessions import sweep
from manage.store import Store
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.database import Database
from runtime.errors import ConfigError
from runtime.http_server import serving
from runtime.lifecycle import Heartbeat, Shutdown, settle_memory
from runtime.logs import get_logger
from runtime.settings import Settings
from runtime.vault import DomainTokens, Vault
from schemas.event_log import EventLog

log = get_logger(__name__)

SWEEP_SECONDS: Final = 3600.0
QUOTA_SECONDS: Final = 60.0
ROTATE_SECONDS: Final = 3600.0
ROTATE_PAUSE_SECONDS: Final = 0.05
"""Between two domains: others want the database too."""

OpenLog: TypeAlias = Callable[[Database], Awaitable[EventLog]]
"""Makes what reads the event log; its tables are there then."""


async def run_manage(settings: Settings, shutdown: Shutdown, open_log: OpenLog) -> None:
    """Serve until a shutdown is asked for, then answer what is under way and stop.

    Raises ``ConfigError`` for settings that cannot work, ``UnavailableError`` when the database does
    not answer.
    """
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with _services(settings, SystemClock(), open_log) as services, _feed(settings) as feed:
        app = create_app(services, ROUTES)
        Readiness(settings, services.database).add_to(app)
        async with serving(app, settings.manage.host, settings.manage.port):
            settle_memory()
            async with _running(*_chores(services, feed)):
                await shutdown.wait()


@asynccontextmanager
async def _services(settings: Settings, clock: Clock, open_log: OpenLog) -> AsyncIterator[Services]:
    # What tells of a wrong setting comes before what has to be closed.
    vault, tokens = Vault(settings.vault), DomainTokens(settings.tokens)
    mails = mailer(settings, clock)
    async with AsyncExitStack() as parts:
        database = Database(settings.database_url)
        parts.push_async_callback(database.close)
        default_plan = settings.manage.default_plan
        store = Store(database, vault, tokens, clock, default_plan=default_plan)
        await store.upgrade()
        await _check_plan(database, default_plan)
        vault.check(await read_seals(database))
        services = Services(
            settings=settings,
            clock=clock,
            database=database,
            vault=vault,
            tokens=tokens,
            store=store,
            publisher=Publisher(settings),
            event_log=await open_log(database),
            mailer=mails,
            limits=Limits(settings, clock),
            live=Live(settings, clock),
            prober=Prober(settings, clock),
            callbacks=CallbackClient(settings.manage),
        )
        for part in (services.publisher, services.limits, services.live, services.prober):
            parts.push_async_callback(part.close)
        yield services


async def _check_plan(database: Database, plan_id: str) -> None:
    async with database.reading() as session:
        known = await plans.known_ids(session)
    if plan_id not in known:
        raise ConfigError(
            f"CAPISTREAM_MANAGE__DEFAULT_PLAN: {plan_id!r} is no plan; there are {', '.join(known)}"
        )


@asynccontextmanager
async def _feed(settings: Settings) -> AsyncIterator[ConfigFeed]:
    feed = ConfigFeed(settings)
    feed.start()
    try:
        yield feed
    finally:
        await feed.stop()


def _chores(services: Services, feed: ConfigFeed) -> list[Coroutine[Any, Any, None]]:
    """What goes on beside answering; each runs until it is cancelled."""
    settings, clock = services.settings, services.clock
    tools = services.database, services.store, services.publisher
    reconciler = Reconciler(*tools, feed)
    rotation = Rotation(*tools, services.vault, clock)

    async def reconcile() -> None:
        await feed.wait_until_caught_up()
        await reconciler.reconcile()

    async def rotate() -> None:
        done = await rotation.run(ROTATION, pause_seconds=ROTATE_PAUSE_SECONDS)
        if done.sealed:
            log.info("Credentials were sealed again with the active key.", seals=done.sealed)

    return [
        Heartbeat(settings.data_dir, "manage").keep_beating(clock),
        _repeat(clock, settings.manage.reconcile_seconds, "reconcile", reconcile),
        _repeat(clock, ROTATE_SECONDS, "rotate", rotate),
        _repeat(clock, SWEEP_SECONDS, "sweep", lambda: sweep(services)),
        _repeat(clock, QUOTA_SECONDS, "quotas", lambda: check_quotas(services)),
    ]


async def _repeat(
    clock: Clock, seconds: float, chore: str, step: Callable[[], Awaitable[None]]
) -> None:
    while True:
        try:
            await step()
        except Exception:
            log.exception("A chore failed; it is tried again.", chore=chore)
        await clock.sleep(seconds)


@asynccontextmanager
async def _running(*chores: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Chores that go on while the body runs."""
    tasks = [asyncio.create_task(chore) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
