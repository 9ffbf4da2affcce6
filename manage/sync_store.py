"""What a shop's own server has a say in: which destinations there are, and where it is called back."""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, update

from manage import tables
from manage.actions import Actor
from manage.destination_store import (
    DestinationStore,
    account_of,
    known_platform,
    read_credentials,
)
from manage.errors import ErrorCode
from manage.probe import Check
from manage.rows import (
    CALLBACK,
    ById,
    RefusedChangeError,
    Which,
    config_of,
    find,
    locked,
    set_rules,
)
from manage.tables import ConfigStatus
from platforms.base import AccountCredentials
from runtime.vault import SealError, hash_sync_token
from schemas.config import DomainConfig


@dataclass(frozen=True, slots=True)
class Pushed:
    """One destination that a shop's server pushes."""

    platform: str
    """Of the registry."""
    fields: Mapping[str, object]
    """Of the platform's credentials model, as plain values."""
    advanced_matching: bool


@dataclass(frozen=True, slots=True)
class TakenAccount:
    """One of them that is a destination now."""

    destination_id: str
    platform: str
    credentials: AccountCredentials


@dataclass(slots=True)
class Push:
    """What became of a push."""

    config: DomainConfig
    changed: bool = False
    accounts: list[TakenAccount | str] = field(default_factory=list)
    """In the order of the push; or why one was not taken."""


@dataclass(frozen=True, slots=True)
class KnownCallback:
    """Where a shop is called back, and the token that proves that it is us."""

    url: str
    token: str


class SyncStore(DestinationStore):
    """Keeps what shops' servers push."""

    async def by_sync_token(self, token: str) -> ById | None:
        """The domain whose shop this token proves; None: there is none."""
        known = hash_sync_token(token)
        query = select(tables.Domain).where(tables.Domain.sync_token_sha256 == known)
        async with self._database.reading() as session:
            row = await session.scalar(query)
        if row is None or not hmac.compare_digest(row.sync_token_sha256, known):
            return None
        return ById(row.organisation_id, row.id)

    async def push(self, which: Which, pushed: Sequence[Pushed], by: Actor) -> Push:
        """Make what is pushed the destinations of a domain: those that are not in it are removed,
        whoever set them, and those that stay keep their ids and rules.

        What cannot be taken leaves the destination of its account as it was. A push that changes
        nothing raises no revision.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        async with self._database.changing.begin() as session:
            domain = await locked(session, which)
            push = Push(config_of(domain))
            kept: set[tuple[str, object]] = set()
            for one in pushed:
                try:
                    push.accounts.append(self._take(domain, one, kept))
                except RefusedChangeError as error:
                    push.accounts.append(str(error))
            domain.destinations = [
                row for row in domain.destinations if (row.platform, row.account) in kept
            ]
            push.changed = session.is_modified(domain) or any(
                map(session.is_modified, domain.destinations)
            )
            if push.changed:
                domain.revision += 1
                push.config = config_of(domain)
                self._record(session, by, "config.push", domain)
            return push

    def _take(
        self, domain: tables.Domain, one: Pushed, kept: set[tuple[str, object]]
    ) -> TakenAccount:
        """Make one the destination of its account, which is ``kept`` even if it is refused.

        Raises ``RefusedChangeError``.
        """
        platform = known_platform(one.platform)
        try:
            credentials = read_credentials(platform, one.fields)
        except RefusedChangeError:
            kept.add((one.platform, one.fields.get(platform.Credentials.account_field)))
            raise
        if (one.platform, credentials.account) in kept:
            raise RefusedChangeError(ErrorCode.CONFLICT, "the same account is pushed twice")
        kept.add((one.platform, credentials.account))
        row = account_of(domain, one.platform, credentials.account)
        if row is None:
            row = self._new_destination(domain, one.platform, credentials.account)
            self._seal(row, credentials)
        elif not self._holds(row, credentials):
            self._seal(row, credentials)
        set_rules(row, {"advancedMatching": one.advanced_matching}, merges=False)
        return TakenAccount(row.id, one.platform, credentials)

    def _holds(self, row: tables.Destination, credentials: AccountCredentials) -> bool:
        try:
            return self._open(row) == credentials
        except RefusedChangeError:
            return False

    async def note_sync(self, which: Which, checks: Mapping[str, Check], *, ok: bool) -> None:
        """Keep what a push came to, and what the platforms said of its destinations, by id."""
        await self.note_checks(checks)
        status = ConfigStatus.SYNCED if ok else ConfigStatus.SYNC_ERROR
        async with self._database.changing.begin() as session:
            row = await find(session, which)
            await session.execute(
                update(tables.Domain)
                .where(tables.Domain.id == row.id)
                .values(config_status=status, synced_at=self._clock.now_ms())
            )

    async def register_callback(self, which: Which, callback: KnownCallback, by: Actor) -> None:
        """Keep where a shop is called back.

        Raises ``RefusedChangeError`` for an unknown domain.
        """
        async with self._database.changing.begin() as session:
            domain = await locked(session, which)
            domain.callback = domain.callback or tables.Callback(domain_id=domain.id)
            domain.callback.url = callback.url
            domain.callback.sealed_token = self._vault.seal(
                callback.token.encode(), domain_id=domain.id, destination_id=CALLBACK
            )
            domain.callback.registered_at = self._clock.now_ms()
            domain.callback.called_at = domain.callback.problem = None
            self._record(session, by, "callback.register", domain)

    async def callback(self, which: Which) -> KnownCallback | None:
        """Where the shop is called back, with the opened token; None: it never said.

        Raises ``RefusedChangeError`` for an unknown domain, or when no key opens the token.
        """
        row = await self.domain(which)
        if row.callback is None:
            return None
        sealed = row.callback.sealed_token
        try:
            token = self._vault.open(sealed, domain_id=row.id, destination_id=CALLBACK)
        except SealError:
            raise RefusedChangeError(
                ErrorCode.CONFLICT,
                "the callback's token cannot be opened any more; have it registered anew",
            ) from None
        return KnownCallback(row.callback.url, token.decode())

    async def note_callback(self, which: Which, problem: str | None) -> None:
        """Keep what a call of the shop came to; ``problem`` is None when it was answered well."""
        async with self._database.changing.begin() as session:
            row = await find(session, which)
            await session.execute(
                update(tables.Callback)
                .where(tables.Callback.domain_id == row.id)
                .values(called_at=self._clock.now_ms(), problem=problem)
            )
