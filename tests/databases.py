"""The fixtures of both databases: a test that asks for ``database`` runs once on each."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

import audit.tables
import manage.tables
from runtime.database import Database
from tests.postgres import Postgres, running_postgres

_SQLITE: Final = "sqlite+aiosqlite:///"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this run."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _upgrade(f"{_SQLITE}{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The URL of such a one."""
    url = postgres.new_database()
    _upgrade(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy's URL of a database that has all tables, and nothing in them."""
    if request.param == "sqlite":
        path = tmp_path / "test.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"{_SQLITE}{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database(request.getfixturevalue("postgres_template"))
    yield url
    server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy's URL of a database without tables."""
    if request.param == "sqlite":
        yield f"{_SQLITE}{tmp_path}/empty.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The same, opened."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def dump(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Callable[[], bytes]:
    """Answers all that is in the database, as it lies there."""
    if database_url.startswith("sqlite"):
        return lambda: b"".join(path.read_bytes() for path in tmp_path.glob("test.db*"))
    server: Postgres = request.getfixturevalue("postgres")
    return lambda: server.dump(database_url)


def _upgrade(url: str) -> None:
    async def upgrade() -> None:
        database = Database(url)
        await manage.tables.upgrade(database)
        await audit.tables.upgrade(database)
        await database.close()

    # In a thread of its own: a test may be about to run in this one's loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, upgrade()).result()
