"""A running management API with tenants in it."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

from pydantic import SecretStr

from audit.tables import upgrade
from capistream.embedded import free_port
from capistream.stack import open_store
from manage import sessions
from manage.tables import Role
from runtime.clock import SystemClock
from runtime.database import Database
from runtime.settings import DatabaseSettings, load_settings
from runtime.vault import Vault
from schemas.outcome import OutcomeKind
from tests.integration.parts import bare_system, redis_url
from tests.integration.parts import valkey as started_valkey
from tests.integration.system import PLATFORMS, System, eventually
from tests.unit.manage.happened import Happening
from tests.unit.manage.tenants import CANARY, Tenant, add_more, make_tenant, set_role

SPARE: Final = 40
"""Things that may be deleted."""
DATABASE_URL: Final = "CAPISTREAM_DATABASE__URL"
_numbers = itertools.count()


@dataclass(frozen=True)
class Api:
    """A manage process, and who calls it."""

    system: System
    process: Popen[bytes]
    url: str
    ours: Tenant
    shop: Tenant
    """Whose server pushes its configuration."""
    theirs: Tenant
    """Somebody whom nobody may see anything of."""
    database: Database
    known: dict[str, list[str]]
    """Ids of ours, by the names of parameters."""
    cookies: list[str] = field(default_factory=list)
    """Of the sessions that there were."""

    async def log_in(self) -> str:
        """Begin a session of our owner; answers its cookie."""
        async with self.database.changing.begin() as session:
            now = SystemClock().now_ms()
            cookie = await sessions.start(session, self.ours.user_id, self.ours.org_id, now)
        await self.database.close()
        self.cookies.append(cookie)
        return cookie


@contextmanager
def running_api(bootstrap: str, database_url: str, tmp_path: Path) -> Iterator[Api]:
    """A manage process with three tenants."""
    port = free_port()
    with started_valkey(tmp_path / "valkey") as redis:
        system = bare_system(
            tmp_path / "data",
            bootstrap,
            CAPISTREAM_KAFKA__TOPIC_PREFIX=f"manage{next(_numbers)}-{os.getpid()}-",
            CAPISTREAM_REDIS__URL=redis_url(redis),
            **{DATABASE_URL: database_url},
            CAPISTREAM_MANAGE__DEVELOPMENT="true",
            CAPISTREAM_MANAGE__REQUESTS_PER_MINUTE="0",
            # Nobody there: no real platform is to hear of this.
            **{
                f"CAPISTREAM_PLATFORMS__{slug.upper()}__BASE_URL": "http://127.0.0.1:1"
                for slug in PLATFORMS
            },
        )
        url = f"http://127.0.0.1:{port}"
        system.description["gateway"] = url
        tenants, database, known = asyncio.run(_tenants(system))
        with system.running("manage", "--port", str(port)) as process:
            eventually(lambda: _serves(system), within=30, until=bool)
            yield Api(system, process, url, *tenants, database, known)


def _serves(system: System) -> bool:
    try:
        return system.request("/health").status == 200
    except OSError:
        return False


async def _tenants(
    system: System,
) -> tuple[tuple[Tenant, Tenant, Tenant], Database, dict[str, list[str]]]:
    settings = load_settings(system.directory).model_copy(
        update={"database": DatabaseSettings(url=SecretStr(system.environment[DATABASE_URL]))}
    )
    now = SystemClock().now_ms()
    store = open_store(settings, SystemClock())
    await store.upgrade()
    await store.close()
    database = Database(settings.database_url)
    await upgrade(database)
    vault = Vault(settings.vault)
    made = []
    for name in ("ours", "shop", "theirs"):
        tenant = await make_tenant(database, vault, name, now)
        happening = Happening(database, tenant.domain_id, tenant.destination_id, at=now - 3_600_000)
        said: dict[str, Any] = {"reason": "misconfigured", "detail": f"Said of {name}{CANARY}."}
        source = await happening.accepted(tenant.event_id, orderId=tenant.order_id)
        await happening.became(tenant.event_id, source, OutcomeKind.REJECTED, **said)
        made.append(tenant)
    ours, shop, theirs = made
    await set_role(database, ours, Role.OWNER)
    more = [await add_more(database, vault, ours) for _ in range(SPARE)]
    await database.close()
    known = {
        **{name: [one] for name, one in ours.ids.items()},
        **{name: [each[name] for each in more] for name in more[0]},
        "domainId": [ours.domain_id],
        "destinationId": [ours.destination_id],
        "eventId": [ours.event_id],
        "orderId": [ours.order_id],
    }
    return (ours, shop, theirs), database, known
