"""Changes of the configuration: kept in the store, then told to every process.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from capistream.options import settings_for
from runtime.clock import SystemClock
from schemas.config import DomainConfig

if TYPE_CHECKING:
    from manage.store import Store


class Change(Protocol):
    """What a change in the store answers."""

    @property
    def config(self) -> DomainConfig:
        """The domain's configuration after it."""
        ...


Answer = TypeVar("Answer", bound=Change)


def given(**values: object) -> dict[str, object]:
    """The options that were given, by name; the others stay as they are in the store."""
    return {name: value for name, value in values.items() if value is not None}


def change(data: Path | None, make: Callable[["Store"], Awaitable[Answer]]) -> Answer:
    """Make a change in the store and put the domain's new configuration on Kafka."""
    from capistream.stack import open_store
    from manage.publish import publish

    settings = settings_for("configure", data)

    async def run() -> Answer:
        store = open_store(settings, SystemClock())
        try:
            await store.upgrade()
            answer = await make(store)
        finally:
            await store.close()
        await publish(settings, [answer.config])
        return answer

    return asyncio.run(run())


def listed(values: Sequence[str] | None) -> list[str] | None:
    """A repeated option, which replaces the list that was; a blank one empties it."""
    return None if values is None else [value.strip() for value in values if value.strip()]
