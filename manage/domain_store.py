"""What is kept of storefront hosts."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from manage import actions, organisations, tables
from manage.actions import COMMAND, Actor
from manage.errors import ErrorCode
from manage.rows import (
    RefusedChangeError,
    Which,
    changing,
    config_of,
    find,
    normal_host,
)
from manage.tables import ConfigStatus, RoutingStatus
from runtime import ids
from runtime.clock import Clock
from runtime.database import Database
from runtime.vault import DomainTokens, Vault, hash_sync_token
from schemas.config import DomainConfig

_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


@dataclass(frozen=True, slots=True)
class NewDomain:
    """What is told once when a domain is added; the sync token cannot be read again."""

    domain_id: str
    host: str
    domain_token: str
    sync_token: str
    config: DomainConfig


@dataclass(frozen=True, slots=True)
class ChangedDomain:
    """A domain as it is after a change."""

    config: DomainConfig


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token in the place of an older one, which is worthless once the configuration is published."""

    token: str
    config: DomainConfig


class DomainStore:
    """Reads and changes domains. Every change answers the domain's whole configuration, to be
    published, and is on record as its actor's."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        tokens: DomainTokens,
        clock: Clock,
        *,
        default_plan: str = "unlimited",
    ) -> None:
        """``default_plan`` is the id of the one that new organisations are put on."""
        self._default_plan = default_plan
        self._database = database
        self._vault = vault
        self._tokens = tokens
        self._clock = clock

    async def upgrade(self) -> None:
        """Bring the tables to the newest revision."""
        await tables.upgrade(self._database)

    async def close(self) -> None:
        """Close the connections."""
        await self._database.close()

    async def configs(self, domain_ids: Collection[str] | None = None) -> list[DomainConfig]:
        """The configuration of these domains; None: of every one."""
        query = select(tables.Domain).order_by(tables.Domain.id)
        if domain_ids is not None:
            query = query.where(tables.Domain.id.in_(domain_ids))
        async with self._database.reading() as session:
            return [config_of(row) for row in await session.scalars(query)]

    async def domains(self, organisation_id: str | None = None) -> list[tables.Domain]:
        """The domains of an organisation, by host; None: of all."""
        query = select(tables.Domain).order_by(tables.Domain.host)
        if organisation_id is not None:
            query = query.where(tables.Domain.organisation_id == organisation_id)
        async with self._database.reading() as session:
            return list(await session.scalars(query))

    async def domain(self, which: Which) -> tables.Domain:
        """A domain.

        Raises ``RefusedChangeError`` when there is none.
        """
        async with self._database.reading() as session:
            return await find(session, which)

    def domain_token(self, row: tables.Domain) -> str:
        """The ``X-SSP-Token`` of a domain."""
        return self._tokens.issue(row.id, row.token_generation)

    async def add_domain(
        self,
        host: str,
        organisation: str,
        options: Mapping[str, object],
        by: Actor = COMMAND,
    ) -> NewDomain:
        """Add a storefront host to an organisation of this id or name, which is made, on the default
        plan, when its name is new.

        Raises ``RefusedChangeError`` when the host is malformed or taken, the name is that of
        several, or the plan is unknown or has no room.
        """
        async with self._database.changing.begin() as session:
            owner = await organisations.named(session, organisation, locks=True)
            if owner is None:
                now = self._clock.now_ms()
                owner = await organisations.create_unowned(
                    session, organisation, self._default_plan, now
                )
            return await self._add(session, owner, host, options, by)

    async def add_domain_to(
        self, organisation_id: str, host: str, options: Mapping[str, object], by: Actor
    ) -> NewDomain:
        """Add a storefront host to an organisation that is there.

        Raises ``RefusedChangeError`` as ``add_domain`` does, or when the organisation is gone.
        """
        async with self._database.changing.begin() as session:
            owner = await session.get(
                tables.Organisation, organisation_id, with_for_update={"of": tables.Organisation}
            )
            if owner is None:
                raise RefusedChangeError(ErrorCode.NOT_FOUND, "there is no such organisation")
            return await self._add(session, owner, host, options, by)

    async def set_domain(
        self, which: Which, options: Mapping[str, object], by: Actor = COMMAND
    ) -> ChangedDomain:
        """Change options of a domain: fields of ``DomainOptions`` by their names on the wire; those
        that are absent stay as they are.

        Raises ``RefusedChangeError`` for an unknown domain or a value that cannot be.
        """
        async with self._database.changing.begin() as session:
            row = await changing(session, which)
            row.options = {**row.options, **options}
            self._record(session, by, "domain.set", row)
            return ChangedDomain(config_of(row))

    async def set_disabled(
        self, which: Which, *, disabled: bool, by: Actor = COMMAND
    ) -> ChangedDomain:
        """Have the gateway refuse a domain's events, or take them again.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        async with self._database.changing.begin() as session:
            row = await changing(session, which)
            if disabled:
                row.routing_status = RoutingStatus.DISABLED
            elif row.routing_status == RoutingStatus.DISABLED:
                led_here = row.dns_checked_at is not None and row.dns_problem is None
                row.routing_status = RoutingStatus.ACTIVE if led_here else RoutingStatus.PENDING_DNS
            self._record(session, by, "domain.disable" if disabled else "domain.enable", row)
            return ChangedDomain(config_of(row))

    async def regenerate_sync_token(self, which: Which, by: Actor = COMMAND) -> NewToken:
        """Give the shop's server a new sync token.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        token = ids.new_sync_token()
        async with self._database.changing.begin() as session:
            row = await changing(session, which)
            row.sync_token_sha256 = hash_sync_token(token)
            self._record(session, by, "domain.regenerate_token", row)
            return NewToken(token, config_of(row))

    async def rotate_domain_token(self, which: Which, by: Actor = COMMAND) -> NewToken:
        """Give the storefront's pages a new ``X-SSP-Token``; the shop learns it at its next sync.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        async with self._database.changing.begin() as session:
            row = await changing(session, which)
            row.token_generation += 1
            self._record(session, by, "domain.rotate_token", row)
            return NewToken(self.domain_token(row), config_of(row))

    async def delete_domain(self, which: Which, by: Actor = COMMAND) -> str:
        """Delete a domain with its destinations and their credentials; answers its id, to be taken off
        ``domain-configs``.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        async with self._database.changing.begin() as session:
            row = await changing(session, which)
            gone = tables.DeletedDomain(
                id=row.id,
                organisation_id=row.organisation_id,
                host=row.host,
                deleted_at=self._clock.now_ms(),
            )
            session.add(gone)
            await session.delete(row)
            self._record(session, by, "domain.delete", row)
            return gone.id

    async def note_dns(self, which: Which, problem: str | None) -> None:
        """Keep what a look-up of a domain's host found; ``problem`` is None when it leads here."""
        status = RoutingStatus.ACTIVE if problem is None else RoutingStatus.PENDING_DNS
        async with self._database.changing.begin() as session:
            row = await find(session, which)
            # Nothing of it is published, so no revision is raised: one column, one statement.
            mine = tables.Domain.id == row.id
            looked = {"dns_checked_at": self._clock.now_ms(), "dns_problem": problem}
            await session.execute(update(tables.Domain).where(mine).values(looked))
            is_on = tables.Domain.routing_status != RoutingStatus.DISABLED
            await session.execute(
                update(tables.Domain).where(mine, is_on).values(routing_status=status)
            )

    async def _add(
        self,
        session: AsyncSession,
        owner: tables.Organisation,
        host: str,
        options: Mapping[str, object],
        by: Actor,
    ) -> NewDomain:
        host = normal_host(host)
        if not _HOST.fullmatch(host):
            message = f"{host!r} is not a host name such as shop.example"
            raise RefusedChangeError(ErrorCode.INVALID_PAYLOAD, message, "host")
        await _check_room(session, owner)
        sync_token = ids.new_sync_token()
        row = tables.Domain(
            id=ids.new_id("dom"),
            organisation_id=owner.id,
            host=host,
            revision=1,
            token_generation=1,
            sync_token_sha256=hash_sync_token(sync_token),
            routing_status=RoutingStatus.PENDING_DNS,
            config_status=ConfigStatus.WAITING_CONFIG,
            options=dict(options),
            created_at=self._clock.now_ms(),
            destinations=[],
            organisation=owner,
        )
        config = config_of(row)
        session.add(row)
        try:
            await session.flush()
        except IntegrityError:
            message = f"{host} is configured already"
            raise RefusedChangeError(ErrorCode.CONFLICT, message, "host") from None
        self._record(session, by, "domain.add", row)
        return NewDomain(row.id, host, self.domain_token(row), sync_token, config)

    def _record(
        self, session: AsyncSession, by: Actor, action: str, row: tables.Domain, of: str = ""
    ) -> None:
        """Record, in the transaction of a change, whose it was; ``of`` names a part of the domain."""
        actions.record(
            session,
            by,
            action,
            f"{row.id} {of}".rstrip(),
            organisation_id=row.organisation_id,
            at=self._clock.now_ms(),
        )


async def _check_room(session: AsyncSession, owner: tables.Organisation) -> None:
    most = owner.plan.domains
    if most is None:
        return
    mine = tables.Domain.organisation_id == owner.id
    count = await session.scalar(select(func.count()).select_from(tables.Domain).where(mine))
    if (count or 0) >= most:
        raise RefusedChangeError(
            ErrorCode.PLAN_LIMIT_REACHED,
            f"the plan {owner.plan.name} has room for {most} domains",
        )
