"""Rotation of the vault's keys: which key what is sealed with, and sealing it again with the active one."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sqlalchemy import literal, select, union_all

from manage import actions
from manage.actions import Actor
from manage.publish import Publisher
from manage.reconcile import publish_all
from manage.rows import CALLBACK
from manage.store import Store
from manage.tables import Callback, Destination, Domain
from runtime.clock import Clock
from runtime.database import Database
from runtime.logs import get_logger
from runtime.vault import Seal, SealError, Vault

log = get_logger(__name__)

ROTATION: Final = Actor("rotation")
"""The process that seals again by itself."""
PUBLISH_DOMAINS: Final = 20
"""Domains that are published together."""


class Rotated(NamedTuple):
    """What a rotation has come to."""

    sealed: int = 0
    """Seals that were made again."""
    failed: int = 0
    """Seals that no key of the ring opens."""
    left: int = 0
    """Seals that are still to be looked at."""


class KeyStatus(NamedTuple):
    """One key of the ring, or one that seals name."""

    key_id: str
    seals: int
    is_active: bool
    is_known: bool
    """Whether the ring has it."""

    @property
    def is_needed(self) -> bool:
        """Whether anything would not open, or not be sealed, without it."""
        return self.is_active or self.seals > 0


async def read_seals(database: Database) -> list[Seal]:
    """Everything that is sealed."""
    destinations = select(Destination.domain_id, Destination.id, Destination.sealed)
    callbacks = select(Callback.domain_id, literal(CALLBACK), Callback.sealed_token)
    async with database.reading() as session:
        rows = await session.execute(union_all(destinations, callbacks))
        return [Seal(*row) for row in rows]


def statuses(vault: Vault, seals: Iterable[Seal]) -> list[KeyStatus]:
    """Each key of the ring and each that a seal names, by id."""
    counted = Counter(seal.key_id for seal in seals)
    return [
        KeyStatus(key_id, counted[key_id], key_id == vault.active_key_id, key_id in vault.key_ids)
        for key_id in sorted(vault.key_ids | counted.keys())
    ]


class Rotation:
    """Seals again what is not sealed with the active key."""

    def __init__(
        self, database: Database, store: Store, publisher: Publisher, vault: Vault, clock: Clock
    ) -> None:
        self._database = database
        self._store = store
        self._publisher = publisher
        self._vault = vault
        self._clock = clock

    async def run(
        self,
        by: Actor,
        progress: Callable[[Rotated], None] = lambda _: None,
        pause_seconds: float = 0,
    ) -> Rotated:
        """Seal under the active key whatever is not, domain by domain, each in a transaction of its
        own: what was done when this is cut short is not done again. Each domain is published.

        ``progress`` is told after each domain; then ``pause_seconds`` pass.
        """
        old = [
            seal
            for seal in await read_seals(self._database)
            if seal.key_id != self._vault.active_key_id
        ]
        total = Rotated(left=len(old))
        waiting: list[str] = []
        for domain_id, count in Counter(seal.domain_id for seal in old).items():
            done = await self._rotate_domain(domain_id, by)
            total = Rotated(
                total.sealed + done.sealed, total.failed + done.failed, total.left - count
            )
            progress(total)
            waiting.append(domain_id)
            if len(waiting) == PUBLISH_DOMAINS:
                await publish_all(self._store, self._publisher, waiting)
                waiting.clear()
            await self._clock.sleep(pause_seconds)
        await publish_all(self._store, self._publisher, waiting)
        return total

    async def _rotate_domain(self, domain_id: str, by: Actor) -> Rotated:
        async with self._database.changing.begin() as session:
            mine = select(Domain.id).where(Domain.id == domain_id)
            if await session.scalar(mine.with_for_update()) is None:
                return Rotated()  # deleted meanwhile
            row = await session.get_one(Domain, domain_id)
            results = [self._seal_again(holder) for holder in _holders(row)]
            sealed, failed = results.count(True), results.count(False)
            if sealed:
                row.revision += 1
                at = self._clock.now_ms()
                organisation_id = row.organisation_id
                actions.record(
                    session, by, "keys.rotate", row.id, organisation_id=organisation_id, at=at
                )
        return Rotated(sealed, failed)

    def _seal_again(self, holder: Destination | Callback) -> bool | None:
        """Whether it could be; None: it need not be."""
        seal = _seal_of(holder)
        try:
            again = self._vault.seal_again(seal)
        except SealError as error:
            log.error(  # noqa: TRY400 - the traceback says less than the fields
                "A credential does not open; it has to be set anew.",
                domain=seal.domain_id,
                destination=seal.destination_id,
                error=str(error),
            )
            return False
        if again is None:
            return None
        if isinstance(holder, Callback):
            holder.sealed_token = again
        else:
            holder.sealed = again
        return True


def _holders(row: Domain) -> list[Destination | Callback]:
    return [*row.destinations, *([row.callback] if row.callback else [])]


def _seal_of(holder: Destination | Callback) -> Seal:
    if isinstance(holder, Callback):
        return Seal(holder.domain_id, CALLBACK, holder.sealed_token)
    return Seal(holder.domain_id, holder.id, holder.sealed)
