"""What the tests of the management API share: services on real parts, and people who log in."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pydantic import SecretStr
from sqlalchemy import delete, insert, select

from audit.tables import HOUR_MS, USAGE
from manage import sessions
from manage.mail import MAILS_FILE
from manage.services import Services
from manage.tables import Membership, Organisation, Role, User
from runtime import ids
from schemas.config import Subscription

KEY: Final = SecretStr("azEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
Client: TypeAlias = TestClient[Request, Application]
NewClient: TypeAlias = Callable[[], Awaitable[Client]]
"""Makes one more browser; each has its own cookies."""


@dataclass(frozen=True)
class Person:
    """Somebody who is logged in."""

    user_id: str
    email: str
    organisation_id: str | None
    cookie: str


async def add_organisation(services: Services, name: str = "Shop", plan: str = "unlimited") -> str:
    """Make an organisation that has no owner yet; answers its id."""
    made = Organisation(
        id=ids.new_id("org"),
        name=name,
        plan_id=plan,
        subscription=Subscription.ACTIVE,
        created_at=services.clock.now_ms(),
    )
    async with services.database.changing.begin() as session:
        session.add(made)
    return made.id


async def use(services: Services, domain_id: str, billable: int, accepted: int = 0) -> None:
    """Have so many events of a domain on record, received now, in place of what was there."""
    row = {
        "domain_id": domain_id,
        "hour": services.clock.now_ms() // HOUR_MS,
        "accepted": max(accepted, billable),
        "billable": billable,
    }
    async with services.database.changing.begin() as session:
        await session.execute(delete(USAGE).where(USAGE.c.domain_id == domain_id))
        await session.execute(insert(USAGE).values(row))


async def log_in(
    client: Client,
    services: Services,
    email: str,
    *,
    organisation_id: str | None = None,
    role: Role | None = None,
) -> Person:
    """Log somebody in at this browser: a user of this address (made when there is none), a member of
    the organisation in this role, which is then the current one of the session."""
    now = services.clock.now_ms()
    async with services.database.changing.begin() as session:
        user = await session.scalar(select(User).where(User.email == email))
        if user is None:
            user = User(id=ids.new_id("usr"), email=email, created_at=now)
            session.add(user)
            await session.flush()
        if organisation_id and role:
            session.add(
                Membership(
                    organisation_id=organisation_id,
                    user_id=user.id,
                    role=role,
                    created_at=now,
                )
            )
        cookie = await sessions.start(session, user.id, organisation_id, now)
    client.session.cookie_jar.update_cookies({sessions.COOKIE: cookie}, client.make_url("/"))
    return Person(user.id, email, organisation_id, cookie)


async def log_in_owner(
    client: Client, services: Services, email: str = "owner@shop.example"
) -> Person:
    """Log in the owner of a new organisation."""
    organisation_id = await add_organisation(services)
    return await log_in(client, services, email, organisation_id=organisation_id, role=Role.OWNER)


def mails(services: Services) -> list[str]:
    """What was mailed, the first mail first."""
    path = services.settings.data_dir / MAILS_FILE
    return ["To: " + one for one in path.read_text().split("To: ")[1:]] if path.exists() else []


def links(services: Services) -> list[str]:
    """The links that were mailed, as paths of the API, the first one first."""
    url = re.escape(services.public_url)
    return [path for one in mails(services) for path in re.findall(rf"{url}(/\S+)", one)]


async def error_of(response: ClientResponse) -> dict[str, Any]:
    """Of a refusal: its status, code, and field."""
    body = await response.json()
    assert body["success"] is False
    return {"status": response.status, **body["error"]}
