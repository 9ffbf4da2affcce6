"""Two organisations that know nothing of each other, each with one of everything."""

from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from manage import tables
from manage.services import Services
from manage.tables import ConfigStatus, Role, RoutingStatus
from runtime import ids
from runtime.database import Database
from runtime.vault import Vault, hash_sync_token
from schemas.config import Subscription

CANARY: Final = "canary"
"""In every text of a tenant that nobody else may see."""


@dataclass(frozen=True)
class Tenant:
    """An organisation, and the ids of what belongs to it."""

    name: str
    org_id: str
    user_id: str
    """A member's, who is not its owner."""
    invite_id: str
    domain_id: str
    destination_id: str
    event_id: str
    order_id: str
    sync_token: str

    @property
    def ids(self) -> dict[str, str]:
        """By the names that they have in paths."""
        kinds = ("org_id", "user_id", "invite_id", "domain_id", "destination_id", "event_id")
        return {kind: getattr(self, kind) for kind in kinds}


async def add_tenant(services: Services, name: str) -> Tenant:
    """Make an organisation with one of everything."""
    now = services.clock.now_ms()
    return await make_tenant(services.database, services.vault, name, now)


async def make_tenant(database: Database, vault: Vault, name: str, now: int) -> Tenant:
    """The same where no services are: an owner, a member, an invite, a domain with a destination and
    a callback, and actions on its record. ``now`` is Unix milliseconds."""
    secret = f"{name}{CANARY}"
    tenant = Tenant(
        name=name,
        org_id=ids.new_id("org"),
        user_id=ids.new_id("usr"),
        invite_id=ids.new_id("inv"),
        domain_id=ids.new_id("dom"),
        destination_id=ids.new_id("dst"),
        event_id=f"event-of-{secret}",
        order_id=f"order-of-{secret}",
        sync_token=ids.new_sync_token(),
    )
    owner_id = ids.new_id("usr")
    seal = vault.seal
    rows: list[tables.Base] = [
        tables.Organisation(
            id=tenant.org_id,
            name=f"{secret} Inc.",
            plan_id="unlimited",
            subscription=Subscription.ACTIVE,
            created_at=now,
        ),
        *(
            tables.User(id=user_id, email=f"{kind}@{secret}.example", created_at=now)
            for kind, user_id in (("owner", owner_id), ("member", tenant.user_id))
        ),
        *(
            tables.Membership(
                organisation_id=tenant.org_id, user_id=user_id, role=role, created_at=now
            )
            for role, user_id in ((Role.OWNER, owner_id), (Role.MEMBER, tenant.user_id))
        ),
        tables.Invite(
            id=tenant.invite_id,
            organisation_id=tenant.org_id,
            email=f"invited@{secret}.example",
            role=Role.ADMIN,
            token_sha256=name.encode().hex().ljust(64, "0"),
            invited_by=owner_id,
            created_at=now,
            expires_at=now + 10**9,
        ),
        tables.Domain(
            id=tenant.domain_id,
            organisation_id=tenant.org_id,
            host=f"ssp.{secret}.example",
            revision=1,
            token_generation=1,
            sync_token_sha256=hash_sync_token(tenant.sync_token),
            routing_status=RoutingStatus.ACTIVE,
            config_status=ConfigStatus.SYNCED,
            options={},
            created_at=now,
        ),
        tables.Destination(
            id=tenant.destination_id,
            domain_id=tenant.domain_id,
            platform="meta",
            account=f"pixel{secret}",
            enabled=True,
            sealed=seal(
                orjson.dumps({"pixel_id": "1", "access_token": f"token-of-{secret}"}),
                domain_id=tenant.domain_id,
                destination_id=tenant.destination_id,
            ),
            options={},
            created_at=now,
        ),
        tables.Callback(
            domain_id=tenant.domain_id,
            url=f"https://{secret}.example/resync",
            sealed_token=seal(
                f"token-of-{secret}".encode(), domain_id=tenant.domain_id, destination_id="callback"
            ),
            registered_at=now,
        ),
        *(
            tables.AdminAction(
                id=ids.new_id("act"),
                at=now,
                organisation_id=tenant.org_id,
                actor=owner_id,
                action=action,
                target=f"{kind}-of-{secret}",
            )
            for kind, action in (("domain", "domain.add"), ("member", "member.remove"))
        ),
    ]
    async with database.changing.begin() as session:
        for row in rows:
            session.add(row)
            await session.flush()
    return tenant


async def add_more(database: Database, vault: Vault, tenant: Tenant) -> dict[str, str]:
    """Give a tenant one more member, invite, and domain with a destination and a callback; answers their ids by the
    names that they have in paths."""
    made = {
        "user_id": ids.new_id("usr"),
        "invite_id": ids.new_id("inv"),
        "domain_id": ids.new_id("dom"),
        "destination_id": ids.new_id("dst"),
    }
    async with database.changing.begin() as session:
        first = await session.get_one(tables.Domain, tenant.domain_id)
        invite = await session.get_one(tables.Invite, tenant.invite_id)
        destination = await session.get_one(tables.Destination, tenant.destination_id)
        email = f"{made['user_id']}@{tenant.name}{CANARY}.example"
        credentials = vault.open(
            destination.sealed,
            domain_id=tenant.domain_id,
            destination_id=tenant.destination_id,
        )
        owner = {"domain_id": made["domain_id"], "destination_id": made["destination_id"]}
        for row in (
            tables.User(id=made["user_id"], email=email, created_at=0),
            tables.Membership(
                organisation_id=tenant.org_id,
                user_id=made["user_id"],
                role=Role.MEMBER,
                created_at=0,
            ),
            _copy(
                invite,
                id=made["invite_id"],
                email=f"{made['invite_id']}@{tenant.name}{CANARY}.example",
                token_sha256=hash_sync_token(made["invite_id"]),
            ),
            _copy(
                first,
                id=made["domain_id"],
                host=f"{made['domain_id'].replace('_', '-')}.{tenant.name}{CANARY}.example",
                sync_token_sha256=hash_sync_token(made["domain_id"]),
            ),
            _copy(
                destination,
                id=made["destination_id"],
                domain_id=made["domain_id"],
                sealed=vault.seal(credentials, **owner),
            ),
            tables.Callback(
                domain_id=made["domain_id"],
                url=f"https://{tenant.name}{CANARY}.example/resync",
                sealed_token=vault.seal(
                    credentials, domain_id=made["domain_id"], destination_id="callback"
                ),
                registered_at=0,
            ),
        ):
            session.add(row)
            await session.flush()
    return made


def _copy(row: tables.Base, **changes: Any) -> tables.Base:
    columns = {one.name: getattr(row, one.name) for one in row.__table__.columns}
    return type(row)(**columns | changes)


async def belongings(services: Services, tenant: Tenant) -> list[dict[str, Any]]:
    """Every row that is the tenant's, to see whether anything of it has changed."""
    async with services.database.reading() as session:
        return [
            *await _rows(session, tables.Organisation, tables.Organisation.id == tenant.org_id),
            *await _rows(
                session, tables.Membership, tables.Membership.organisation_id == tenant.org_id
            ),
            *await _rows(session, tables.Invite, tables.Invite.organisation_id == tenant.org_id),
            *await _rows(session, tables.Domain, tables.Domain.organisation_id == tenant.org_id),
            *await _rows(
                session, tables.Destination, tables.Destination.domain_id == tenant.domain_id
            ),
            *await _rows(session, tables.Callback, tables.Callback.domain_id == tenant.domain_id),
            *await _rows(
                session, tables.AdminAction, tables.AdminAction.organisation_id == tenant.org_id
            ),
        ]


async def _rows(
    session: AsyncSession, table: type[tables.Base], which: Any
) -> list[dict[str, Any]]:
    columns = table.__table__.columns
    found = await session.execute(
        select(*columns).where(which).order_by(*table.__table__.primary_key)
    )
    return [dict(row._mapping) for row in found]


async def set_role(database: Database, tenant: Tenant, role: Role | None) -> None:
    """Give the tenant's member another role there, or none."""
    theirs = tables.Membership.organisation_id == tenant.org_id
    async with database.changing.begin() as session:
        if role is Role.OWNER:
            await session.execute(
                delete(tables.Membership).where(theirs, tables.Membership.role == Role.OWNER)
            )
        await session.execute(
            delete(tables.Membership).where(theirs, tables.Membership.user_id == tenant.user_id)
        )
        if role is not None:
            session.add(
                tables.Membership(
                    organisation_id=tenant.org_id,
                    user_id=tenant.user_id,
                    role=role,
                    created_at=0,
                )
            )
