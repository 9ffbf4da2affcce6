"""Thousands of rows in one statement, through the database's own driver: SQLAlchemy's work for each
row takes longer than the database's."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Dialect, Table, text
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

Row: TypeAlias = Sequence[Any]

_KEYS_AT_ONCE: Final = 5000
"""Well below the variables that SQLite takes in a statement."""

_PLANNED_BY_INDEX: Final = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true), set_config('plan_cache_mode', 'force_custom_plan', true)"
)
"""PostgreSQL's other ways to some thousand rows read the whole table; and the partitions that are
looked at are chosen when the values are known."""


class Rows(ABC):
    """Bulk work on tables, within the transaction of a session."""

    @abstractmethod
    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add rows that are not there."""

    @abstractmethod
    async def merge(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str
    ) -> None:
        """Add rows; ``otherwise`` is what SQL does ``ON CONFLICT`` with those that are there, which
        have a name of their own in it: ``excluded``."""

    @abstractmethod
    async def update(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, keys: int
    ) -> None:
        """Change rows that are there, found by the first ``keys`` of the columns."""

    @abstractmethod
    async def find(
        self, table: Table, columns: Sequence[str], keys: Sequence[Row]
    ) -> Iterable[Row]:
        """The rows whose first two primary key columns are among ``keys``; answers these two, then
        ``columns``."""


async def plan_by_index(session: AsyncSession) -> None:
    """Have the statements of this transaction go by the indexes. SQLite always does."""
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        await connection.execute(_PLANNED_BY_INDEX)


async def rows_of(session: AsyncSession) -> Rows:
    """The bulk work of the database that a session is open on; it goes by the indexes."""
    await plan_by_index(session)  # and begins the transaction, which the driver does not
    connection = await session.connection()
    raw = await connection.get_raw_connection()
    if connection.dialect.name == "postgresql":
        return _Postgres(raw.driver_connection, connection.dialect)
    return _Sqlite(raw.driver_connection)


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _key_of(table: Table) -> list[str]:
    return [column.name for column in table.primary_key.columns]


class _Sqlite(Rows):
    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @override
    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        await self._many(_insert(table, columns) + self._values(columns), rows)

    @override
    async def merge(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str
    ) -> None:
        conflict = f" ON CONFLICT ({_names(_key_of(table))}) DO {otherwise}"
        await self._many(_insert(table, columns) + self._values(columns) + conflict, rows)

    @override
    async def update(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, keys: int
    ) -> None:
        numbered = [f'"{name}" = ?{number}' for number, name in enumerate(columns, 1)]
        found, changed = numbered[:keys], numbered[keys:]
        sql = f"UPDATE {table.name} SET {', '.join(changed)} WHERE {' AND '.join(found)}"  # noqa: S608 - names of our own
        await self._many(sql, rows)

    @override
    async def find(
        self, table: Table, columns: Sequence[str], keys: Sequence[Row]
    ) -> Iterable[Row]:
        key = _key_of(table)[:2]
        found: list[Row] = []
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            values = ", ".join(["(?, ?)"] * len(some))
            sql = (
                f"WITH wanted (a, b) AS (VALUES {values}) "  # noqa: S608 - names of our own
                f"SELECT {_names([*key, *columns])} FROM wanted "
                f"CROSS JOIN {table.name} ON {key[0]} = a AND {key[1]} = b"
            )
            found += await self._driver.execute_fetchall(
                sql, [part for one in some for part in one]
            )
        return found

    def _values(self, columns: Sequence[str]) -> str:
        return f" VALUES ({', '.join('?' * len(columns))})"

    async def _many(self, sql: str, rows: Sequence[Row]) -> None:
        if rows:
            await self._driver.executemany(sql, rows)


class _Postgres(Rows):
    def __init__(self, driver: Any, dialect: Dialect) -> None:
        self._driver = driver
        self._dialect = dialect

    @override
    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        if rows:
            await self._driver.copy_records_to_table(table.name, records=rows, columns=columns)

    @override
    async def merge(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, otherwise: str
    ) -> None:
        conflict = f" ON CONFLICT ({_names(_key_of(table))}) DO {otherwise}"
        given = f" SELECT * FROM {self._given(table, columns)}"  # noqa: S608 - names of our own
        await self._run(_insert(table, columns) + given + conflict, rows)

    @override
    async def update(
        self, table: Table, columns: Sequence[str], rows: Sequence[Row], *, keys: int
    ) -> None:
        changed = ", ".join(f'"{name}" = given."{name}"' for name in columns[keys:])
        found = " AND ".join(f'told."{name}" = given."{name}"' for name in columns[:keys])
        await self._run(
            f"UPDATE {table.name} AS told SET {changed} "  # noqa: S608 - names of our own
            f"FROM {self._given(table, columns)} AS given ({_names(columns)}) WHERE {found}",
            rows,
        )

    @override
    async def find(
        self, table: Table, columns: Sequence[str], keys: Sequence[Row]
    ) -> Iterable[Row]:
        if not keys:
            return []
        key = _key_of(table)[:2]
        sql = (
            f"SELECT {_names([*key, *columns])} "  # noqa: S608 - names of our own
            f"FROM {self._given(table, key)} AS given ({_names(key)}) "
            f"JOIN {table.name} USING ({_names(key)})"
        )
        found: Iterable[Row] = await self._driver.fetch(sql, *map(list, zip(*keys, strict=True)))
        return found

    def _given(self, table: Table, columns: Sequence[str]) -> str:
        kinds = [table.c[name].type.compile(dialect=self._dialect) for name in columns]
        arrays = ", ".join(f"${number}::{kind}[]" for number, kind in enumerate(kinds, 1))
        return f"unnest({arrays})"

    async def _run(self, sql: str, rows: Sequence[Row]) -> None:
        if rows:
            await self._driver.execute(sql, *map(list, zip(*rows, strict=True)))


def _insert(table: Table, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table.name} ({_names(columns)})"
