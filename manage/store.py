"""The store of what merchants configure, over SQLAlchemy; SQLite by default, PostgreSQL in
production."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from alembic import command
from alembic.config import Config
from pydantic import ValidationError
from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from manage import tables
from platforms.registry import PLATFORMS
from runtime import ids
from runtime.clock import Clock
from runtime.errors import CapistreamError
from runtime.vault import DomainTokens, Vault, hash_sync_token
from schemas.config import Destination, DomainConfig, Subscription

MIGRATIONS: Final = Path(__file__).parent / "migrations"
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)


class RefusedChangeError(CapistreamError):
    """A change that cannot be made; the message names the field and the fix."""


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
class ChangedDestination:
    """A destination as it is after a change."""

    destination: Destination
    config: DomainConfig


class Store:
    """Reads and changes the configuration. Every change answers the domain's whole config, to be
    published."""

    def __init__(self, url: str, vault: Vault, tokens: DomainTokens, clock: Clock) -> None:
        self._engine = create_async_engine(url)
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)
        self._vault = vault
        self._tokens = tokens
        self._clock = clock

    async def upgrade(self) -> None:
        """Bring the tables to the newest revision."""
        async with self._engine.begin() as connection:
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def configs(self) -> list[DomainConfig]:
        """The configuration of every domain."""
        async with self._sessions() as session:
            rows = await session.scalars(select(tables.Domain).order_by(tables.Domain.id))
            return [_config(row) for row in rows]

    async def add_domain(
        self, host: str, organisation: str, options: Mapping[str, object]
    ) -> NewDomain:
        """Add a storefront host; the organisation is made when its name is new.

        Raises ``RefusedChangeError`` when the host is malformed or taken.
        """
        host = _host(host)
        if not _HOST.fullmatch(host):
            raise RefusedChangeError(f"host: {host!r} is not a host name such as shop.example")
        sync_token = ids.new_sync_token()
        async with self._sessions() as session:
            owner = await self._organisation(session, organisation)
            domain = tables.Domain(
                id=ids.new_id("dom"),
                organisation_id=owner.id,
                host=host,
                revision=1,
                token_generation=1,
                sync_token_sha256=hash_sync_token(sync_token),
                subscription=Subscription.ACTIVE,
                options=dict(options),
                created_at=self._clock.now_ms(),
                destinations=[],
            )
            try:
                config = _config(domain)
            except ValidationError as error:
                raise RefusedChangeError(_field_errors(error)) from None
            session.add(domain)
            try:
                await session.commit()
            except IntegrityError:
                raise RefusedChangeError(f"host: {host} is configured already") from None
        return NewDomain(
            domain_id=config.domain_id,
            host=host,
            domain_token=self._tokens.issue(config.domain_id, config.token_generation),
            sync_token=sync_token,
            config=config,
        )

    async def set_domain(self, host: str, options: Mapping[str, object]) -> ChangedDomain:
        """Change options of a domain: fields of ``DomainConfig`` by their names on the wire; those
        that are absent stay as they are.

        Raises ``RefusedChangeError`` for an unknown host or a value that cannot be.
        """
        async with self._sessions() as session:
            domain = await self._changing(session, host)
            domain.options = {**domain.options, **options}
            try:
                config = _config(domain)
            except ValidationError as error:
                raise RefusedChangeError(_field_errors(error)) from None
            await session.commit()
        return ChangedDomain(config)

    async def set_destination(
        self,
        host: str,
        platform: str,
        fields: Mapping[str, Any],
        options: Mapping[str, object] | None = None,
    ) -> ChangedDestination:
        """Add a destination, or give the one with the same account new credentials.

        ``fields`` are the platform's credentials model, as plain values; ``options`` are fields of
        ``schemas.config.Destination`` by their names on the wire, those that are absent stay as
        they are.

        Raises ``RefusedChangeError`` for an unknown host or platform, or a field or an option that
        cannot be.
        """
        known = PLATFORMS.get(platform)
        if known is None:
            names = ", ".join(PLATFORMS)
            raise RefusedChangeError(f"platform: {platform!r} is not one of {names}")
        try:
            credentials = known.Credentials.model_validate(fields)
        except ValidationError as error:
            raise RefusedChangeError(_field_errors(error)) from None
        async with self._sessions() as session:
            domain = await self._changing(session, host)
            row = next(
                (
                    d
                    for d in domain.destinations
                    if (d.platform, d.account) == (platform, credentials.account)
                ),
                None,
            )
            if row is None:
                row = tables.Destination(
                    id=ids.new_id("dst"),
                    domain_id=domain.id,
                    platform=platform,
                    account=credentials.account,
                    enabled=True,
                    options={},
                    created_at=self._clock.now_ms(),
                )
                domain.destinations.append(row)
            # Readable besides, for the streams: they cannot open what is sealed.
            test_event_code = {"testEventCode": credentials.test_event_code}
            row.options = _merged(row.options, options or {}) | test_event_code
            row.sealed = self._vault.seal(
                orjson.dumps(credentials.reveal()), domain_id=domain.id, destination_id=row.id
            )
            try:
                changed = ChangedDestination(_destination(row), _config(domain))
            except ValidationError as error:
                raise RefusedChangeError(_field_errors(error)) from None
            await session.commit()
        return changed

    async def _organisation(self, session: AsyncSession, name: str) -> tables.Organisation:
        found = await session.scalar(
            select(tables.Organisation).where(tables.Organisation.name == name)
        )
        if found is None:
            found = tables.Organisation(
                id=ids.new_id("org"), name=name, created_at=self._clock.now_ms()
            )
            session.add(found)
            await session.flush()
        return found

    async def _changing(self, session: AsyncSession, host: str) -> tables.Domain:
        """The domain of ``host``, its revision raised.

        Raising it first locks the row (in SQLite, the file), so that two changes at a time follow
        one another and the one with the higher revision has both.
        """
        raised = await session.execute(
            update(tables.Domain)
            .where(tables.Domain.host == _host(host))
            .values(revision=tables.Domain.revision + 1)
            .returning(tables.Domain.id)
        )
        domain_id = raised.scalar_one_or_none()
        if domain_id is None:
            raise RefusedChangeError(
                f"host: {host} is not configured; add it with `capistream domain add {host}`"
            )
        return await session.get_one(tables.Domain, domain_id)


def _host(text: str) -> str:
    return text.strip().lower().rstrip(".")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _field_errors(error: ValidationError) -> str:
    """One line per field, without the values, which may be tokens."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
        for e in error.errors(include_input=False, include_url=False)
    )


def _config(row: tables.Domain) -> DomainConfig:
    return DomainConfig.model_validate(
        row.options
        | {
            "domainId": row.id,
            "orgId": row.organisation_id,
            "host": row.host,
            "revision": row.revision,
            "subscription": row.subscription,
            "tokenGeneration": row.token_generation,
            "syncTokenSha256": row.sync_token_sha256,
            "destinations": [_destination(d).model_dump() for d in row.destinations],
        }
    )


def _merged(known: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """Given options over known ones; tables of names are merged by name."""
    merged = dict(known)
    for name, value in given.items():
        before = merged.get(name)
        both_tables = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = {**before, **value} if both_tables else value  # type: ignore[dict-item]
    return merged


def _destination(row: tables.Destination) -> Destination:
    return Destination.model_validate(
        {"enabled": row.enabled}
        | row.options
        | {
            "id": row.id,
            "platform": row.platform,
            "account": row.account,
            "sealed": row.sealed,
        }
    )
