"""What is kept of the accounts at ad platforms that a domain's events go to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from manage import tables
from manage.actions import COMMAND, Actor
from manage.domain_store import ChangedDomain, DomainStore
from manage.errors import ErrorCode
from manage.previews import preview
from manage.probe import Check
from manage.rows import RefusedChangeError, Which, changing, config_of, refused, set_rules
from platforms.base import AccountCredentials, Platform
from platforms.registry import PLATFORMS
from runtime import ids
from runtime.vault import SealError
from schemas.config import Destination, DomainConfig


@dataclass(frozen=True, slots=True)
class ChangedDestination:
    """A destination as it is after a change."""

    destination: Destination
    config: DomainConfig


class DestinationStore(DomainStore):
    """Reads and changes destinations, as ``DomainStore`` does domains."""

    async def set_destination(
        self,
        which: Which,
        platform: str,
        fields: Mapping[str, Any],
        options: Mapping[str, object] | None = None,
        by: Actor = COMMAND,
        *,
        merges: bool = True,
    ) -> ChangedDestination:
        """Add a destination, or give the one with the same account new credentials.

        ``fields`` are the platform's credentials model, as plain values; ``options`` are fields of
        ``DestinationRules`` by their names on the wire, those that are absent stay as they are.
        ``merges``: so do the names in a table of them that are absent in the given one.

        Raises ``RefusedChangeError`` for an unknown domain or platform, or a field or an option that
        cannot be.
        """
        async with self._database.changing.begin() as session:
            domain = await changing(session, which)
            credentials = read_credentials(known_platform(platform), fields)
            row = account_of(domain, platform, credentials.account)
            if row is None:
                row = self._new_destination(domain, platform, credentials.account)
            self._seal(row, credentials)
            destination = set_rules(row, options or {}, merges=merges)
            self._record(session, by, "destination.set", domain, row.id)
            return ChangedDestination(destination, config_of(domain))

    async def set_rules(
        self, which: Which, destination_id: str, rules: Mapping[str, object], by: Actor = COMMAND
    ) -> ChangedDestination:
        """Change rules of a destination: fields of ``DestinationRules`` by their names on the wire;
        those that are absent stay as they are.

        Raises ``RefusedChangeError`` for an unknown domain or destination, or a rule that cannot be.
        """
        async with self._database.changing.begin() as session:
            domain = await changing(session, which)
            row = destination_row(domain, destination_id)
            destination = set_rules(row, rules, merges=False)
            self._record(session, by, "destination.rules", domain, row.id)
            return ChangedDestination(destination, config_of(domain))

    async def remove_destination(
        self, which: Which, destination_id: str, by: Actor = COMMAND
    ) -> ChangedDomain:
        """Remove a destination and its credentials.

        Raises ``RefusedChangeError`` for an unknown domain or destination.
        """
        async with self._database.changing.begin() as session:
            domain = await changing(session, which)
            domain.destinations.remove(destination_row(domain, destination_id))
            self._record(session, by, "destination.remove", domain, destination_id)
            return ChangedDomain(config_of(domain))

    async def credentials(
        self, which: Which, destination_id: str
    ) -> tuple[str, AccountCredentials]:
        """The platform of a destination, and its opened credentials.

        Raises ``RefusedChangeError`` for an unknown domain or destination, or when no key opens them.
        """
        row = destination_row(await self.domain(which), destination_id)
        return row.platform, self._open(row)

    async def note_checks(self, checks: Mapping[str, Check]) -> None:
        """Keep what the platforms said of the credentials of destinations, by id."""
        at = self._clock.now_ms()
        async with self._database.changing.begin() as session:
            # In one order, so that two who do this do not wait for each other.
            for destination_id, check in sorted(checks.items()):
                await _note_check(session, destination_id, check, at)

    def _new_destination(
        self, domain: tables.Domain, platform: str, account: str
    ) -> tables.Destination:
        row = tables.Destination(
            id=ids.new_id("dst"),
            domain_id=domain.id,
            platform=platform,
            account=account,
            enabled=True,
            options={},
            created_at=self._clock.now_ms(),
        )
        domain.destinations.append(row)
        return row

    def _seal(self, row: tables.Destination, credentials: AccountCredentials) -> None:
        """Give a destination other credentials, of which nothing is known yet."""
        row.sealed = self._vault.seal(
            orjson.dumps(credentials.reveal()), domain_id=row.domain_id, destination_id=row.id
        )
        row.preview = preview(credentials)
        # Readable besides, for the streams: they cannot open what is sealed.
        row.options = {**row.options, "testEventCode": credentials.test_event_code}
        row.checked_at = row.check_ok = row.check_status = row.check_error = None

    def _open(self, row: tables.Destination) -> AccountCredentials:
        try:
            plain = self._vault.open(row.sealed, domain_id=row.domain_id, destination_id=row.id)
            return PLATFORMS[row.platform].Credentials.model_validate_json(plain)
        except (SealError, ValidationError):
            raise RefusedChangeError(
                ErrorCode.CONFLICT, "the credentials cannot be opened any more; set them anew"
            ) from None


def known_platform(slug: str) -> Platform:
    """The platform of this name.

    Raises ``RefusedChangeError``.
    """
    known = PLATFORMS.get(slug)
    if known is None:
        message = f"{slug!r} is not one of {', '.join(PLATFORMS)}"
        raise RefusedChangeError(ErrorCode.INVALID_PAYLOAD, message, "platform")
    return known


def read_credentials(platform: Platform, fields: Mapping[str, Any]) -> AccountCredentials:
    """The credentials that these plain values are.

    Raises ``RefusedChangeError`` for a field that cannot be.
    """
    try:
        return platform.Credentials.model_validate(fields)
    except ValidationError as error:
        raise refused(error) from None


def account_of(domain: tables.Domain, platform: str, account: str) -> tables.Destination | None:
    """The destination of this account, if the domain has one."""
    same = (d for d in domain.destinations if (d.platform, d.account) == (platform, account))
    return next(same, None)


def destination_row(domain: tables.Domain, destination_id: str) -> tables.Destination:
    """The destination of this id.

    Raises ``RefusedChangeError`` when the domain has none.
    """
    row = next((each for each in domain.destinations if each.id == destination_id), None)
    if row is None:
        raise RefusedChangeError(ErrorCode.NOT_FOUND, "there is no such destination")
    return row


async def _note_check(session: AsyncSession, destination_id: str, check: Check, at: int) -> None:
    await session.execute(
        update(tables.Destination)
        .where(tables.Destination.id == destination_id)
        .values(
            checked_at=at, check_ok=check.ok, check_status=check.status, check_error=check.error
        )
    )
