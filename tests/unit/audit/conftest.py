"""An event log on both databases."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from audit.log import SqlEventLog, open_log
from audit.store import EventLogStore
from runtime.database import Database


@pytest.fixture
async def log(database: Database) -> SqlEventLog:
    """An empty one."""
    return await open_log(database)


@pytest.fixture
def store(log: SqlEventLog, database: Database) -> EventLogStore:
    """Who writes it."""
    return EventLogStore(database)


@pytest.fixture
async def new_store(database_url: str) -> AsyncIterator[Callable[[], EventLogStore]]:
    """Makes one more who writes it, as another process would."""
    opened: list[Database] = []

    def make() -> EventLogStore:
        opened.append(Database(database_url))
        return EventLogStore(opened[-1])

    yield make
    for one in opened:
        await one.close()


@pytest.fixture
async def new_database(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[Callable[[], Database]]:
    """Makes another empty database of the same sort."""
    opened: list[Database] = []

    def make() -> Database:
        url = f"sqlite+aiosqlite:///{tmp_path}/other-{len(opened)}.db"
        if not database_url.startswith("sqlite"):
            url = request.getfixturevalue("postgres").new_database()
        opened.append(Database(url))
        return opened[-1]

    yield make
    for one in opened:
        await one.close()
