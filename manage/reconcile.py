"""Keeps ``domain-configs`` what the database says, whatever went wrong between a change and its way
there: a process that was killed, a Kafka that was away, a topic that was lost."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import select

from manage.publish import Publisher
from manage.store import Store
from manage.tables import DeletedDomain, Domain
from runtime.config_feed import ConfigFeed
from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.logs import get_logger

log = get_logger(__name__)

AT_ONCE: Final = 500
"""Domains that are read and published together."""


class Difference(NamedTuple):
    """What to do so that the topic is what the database says."""

    publish: tuple[str, ...] = ()
    """Domains that are not on the topic, or not as they are now."""
    remove: tuple[str, ...] = ()
    """Domains that were deleted, and are on the topic still."""
    unknown: tuple[str, ...] = ()
    """Domains on the topic that the database has never heard of. They are left alone: it may be the
    wrong database."""
    newer: tuple[str, ...] = ()
    """Domains of which the topic has a later revision, as after an older database was put back. They are
    left alone, and no change of theirs counts for anybody until its revision is beyond that one."""


def compare(
    revisions: Mapping[str, int], deleted: Collection[str], on_topic: Mapping[str, int]
) -> Difference:
    """What differs between domains of the database and of the topic, given by id and revision."""
    behind = (one for one, revision in revisions.items() if on_topic.get(one, 0) < revision)
    newer = (one for one, revision in revisions.items() if on_topic.get(one, 0) > revision)
    surplus = on_topic.keys() - revisions.keys()
    return Difference(
        publish=tuple(sorted(behind)),
        remove=tuple(sorted(surplus & set(deleted))),
        unknown=tuple(sorted(surplus - set(deleted))),
        newer=tuple(sorted(newer)),
    )


class Reconciler:
    """Compares, and makes up for what is missing."""

    def __init__(
        self, database: Database, store: Store, publisher: Publisher, feed: ConfigFeed
    ) -> None:
        """``feed`` is running."""
        self._database = database
        self._store = store
        self._publisher = publisher
        self._feed = feed
        self._warned = Difference()

    async def reconcile(self) -> Difference:
        """Compare once; answers what differed, and has been put right unless Kafka is away."""
        # In this order: whatever is on the topic was in the database before.
        on_topic = self._feed.on_topic()
        if on_topic is None:
            return Difference()
        found = compare(*await self._known(on_topic), on_topic)
        self._warn(found)
        if found.publish or found.remove:
            log.info(
                "Mending Kafka's configuration.",
                published=len(found.publish),
                removed=len(found.remove),
            )
            await publish_all(self._store, self._publisher, found.publish)
            await self._publisher.remove(found.remove)
        return found

    def _warn(self, found: Difference) -> None:
        """Once of the same."""
        if found.unknown and found.unknown != self._warned.unknown:
            log.warning(
                "Domains on Kafka are unknown to the database; left as they are.",
                domains=list(found.unknown),
            )
        if found.newer and found.newer != self._warned.newer:
            log.warning(
                "Kafka has later revisions of domains than the database; was an older one put back?",
                domains=list(found.newer),
            )
        self._warned = found

    async def _known(self, on_topic: Mapping[str, int]) -> tuple[Mapping[str, int], set[str]]:
        """Each domain's revision, and which of the others on the topic were deleted."""
        async with self._database.reading() as session:
            rows = await session.execute(select(Domain.id, Domain.revision))
            revisions = dict(rows.tuples().all())
            deleted: set[str] = set()
            for some in _batches(list(on_topic.keys() - revisions.keys())):
                known = select(DeletedDomain.id).where(DeletedDomain.id.in_(some))
                deleted.update(await session.scalars(known))
        return revisions, deleted


async def publish_all(store: Store, publisher: Publisher, domain_ids: Sequence[str]) -> bool:
    """Publish domains as they are now; whether Kafka acknowledged all. It stops where Kafka does."""
    for some in _batches(domain_ids):
        if not await publisher.publish(await store.configs(some)):
            return False
    return True


class Rebuilt(NamedTuple):
    """What was put on the topic."""

    published: int
    removed: int


async def rebuild(database: Database, store: Store, publisher: Publisher) -> Rebuilt:
    """Publish every domain, and once more that those are gone that were deleted: a process that runs
    may know one of them from the topic that was.

    Raises ``UnavailableError`` when Kafka does not acknowledge it.
    """
    async with database.reading() as session:
        domain_ids = list(await session.scalars(select(Domain.id).order_by(Domain.id)))
        deleted = list(await session.scalars(select(DeletedDomain.id).order_by(DeletedDomain.id)))
    done = await publish_all(store, publisher, domain_ids)
    for some in _batches(deleted):
        done = done and await publisher.remove(some)
    if not done:
        raise UnavailableError("Kafka did not acknowledge everything; run it again")
    return Rebuilt(len(domain_ids), len(deleted))


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    return (items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE))
