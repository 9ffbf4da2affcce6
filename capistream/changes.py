"""Changes of the configuration: kept in the database, then told to every process.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import typer

from capistream.options import settings_for
from runtime.clock import Clock, SystemClock
from runtime.settings import Settings
from schemas.config import DomainConfig

if TYPE_CHECKING:
    from manage.store import Store
    from runtime.database import Database


class Change(Protocol):
    """What a change in the store answers."""

    @property
    def config(self) -> DomainConfig:
        """The domain's configuration after it."""
        ...


Answer = TypeVar("Answer")
Changed = TypeVar("Changed", bound=Change)


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command works with."""

    settings: Settings
    clock: Clock
    database: "Database"
    store: "Store"

    async def publish(
        self, configs: Sequence[DomainConfig] = (), removed: Sequence[str] = ()
    ) -> None:
        """Tell every process of what was changed; ``removed`` are ids of domains.

        Raises ``UnavailableError``.
        """
        from manage.publish import publish

        await publish(self.settings, configs, removed)


def at_desk(data: Path | None, work: Callable[[Desk], Awaitable[Answer]]) -> Answer:
    """Do something with the database, upgraded and opened."""
    from capistream.stack import open_store
    from runtime.database import Database

    settings = settings_for("configure", data)

    async def run() -> Answer:
        database, clock = Database(settings.database_url), SystemClock()
        store = open_store(settings, clock, database)
        try:
            await store.upgrade()
            return await work(Desk(settings, clock, database, store))
        finally:
            await database.close()

    return asyncio.run(run())


def change(data: Path | None, make: Callable[["Store"], Awaitable[Changed]]) -> Changed:
    """Make a change in the store and put the domain's new configuration on Kafka."""

    async def work(desk: Desk) -> Changed:
        answer = await make(desk.store)
        await desk.publish([answer.config])
        return answer

    return at_desk(data, work)


def given(**values: object) -> dict[str, object]:
    """The options that were given, by name; the others stay as they are in the store."""
    return {name: value for name, value in values.items() if value is not None}


def listed(values: Sequence[str] | None) -> list[str] | None:
    """A repeated option, which replaces the list that was; a blank one empties it."""
    return None if values is None else [value.strip() for value in values if value.strip()]


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody says so; ``yes`` says so beforehand, as a script must."""
    if not yes:
        typer.confirm(question, abort=True, err=True)
