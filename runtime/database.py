"""The SQL database: SQLite in one file by default, PostgreSQL in production.

Each room owns its tables and migrates them by itself, under a version table of its own.
"""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, Final, TypeAlias

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from runtime.errors import UnavailableError

Sessions: TypeAlias = async_sessionmaker[AsyncSession]

_WRITES: Final = "writes"

_BUSY_SECONDS: Final = 30.0
"""How long a writer of SQLite waits for another one."""

_UPGRADE_LOCK: Final = 0x63617069
"""Names, in PostgreSQL, the lock of whoever migrates: several processes start at once."""


class Database:
    """The engine and its sessions.

    ``reading()`` opens a session to look; ``changing.begin()`` one that commits at its end. On SQLite the
    second kind waits for its turn at the very start: a transaction that begins with a look and then
    writes would fail there, if another one wrote in between.
    """

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's, of an asynchronous driver."""
        # What an error shows of a statement ends in logs: addresses and hashes do not belong there.
        self.engine: AsyncEngine = create_async_engine(url, hide_parameters=True)
        self.is_sqlite: bool = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(self.engine.sync_engine, "begin", _begin_sqlite)
        writing = self.engine.execution_options(**{_WRITES: True})
        self.reading: Sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self.changing: Sessions = async_sessionmaker(writing, expire_on_commit=False)

    async def upgrade(self, migrations: Path, version_table: str) -> None:
        """Bring a room's tables to their newest revision.

        ``migrations`` is an alembic folder whose ``env.py`` takes its connection and the name of its
        version table from the attributes of its configuration.

        Raises ``UnavailableError`` when the database cannot be reached.
        """
        try:
            if self.is_sqlite:
                # First without the driver: its thread outlives a file that cannot be opened, and
                # complains of a loop that is closed by then.
                sqlite3.connect(self.engine.url.database or ":memory:").close()
            async with self.engine.connect() as connection:
                if self.is_sqlite:
                    # Tables are made anew there, which must not delete what refers to them.
                    await _outside_transactions(connection, "PRAGMA foreign_keys=OFF")
                await connection.execution_options(**{_WRITES: True})
                async with connection.begin():
                    await connection.run_sync(_upgrade, migrations, version_table)
                if self.is_sqlite:
                    await connection.invalidate()
        except (OSError, DBAPIError, sqlite3.Error) as error:
            reason = getattr(error, "orig", None) or error
            where = self.engine.url.render_as_string(hide_password=True)
            raise UnavailableError(
                f"the database at {where} cannot be used: {reason}; is CAPISTREAM_DATABASE__URL right?"
            ) from None

    async def close(self) -> None:
        """Close the connections."""
        # A cancelled caller must not leave them open.
        await asyncio.shield(self.engine.dispose())


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """What PostgreSQL does by itself: foreign keys, and readers that do not wait for the writer."""
    connection.isolation_level = None  # transactions begin when SQLAlchemy says so
    cursor = connection.cursor()
    for setting in (
        f"busy_timeout={int(_BUSY_SECONDS * 1000)}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


async def _outside_transactions(connection: AsyncConnection, statement: str) -> None:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.execute(statement)


def _upgrade(connection: Connection, migrations: Path, version_table: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    command.upgrade(config, "head")
