"""The tables that the revisions make are those that the code works with."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from audit.tables import METADATA, VERSION_TABLE, upgrade
from runtime.database import Database


def _differences(connection: Connection) -> list[Any]:
    options = {"version_table": VERSION_TABLE, "target_metadata": METADATA}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


async def test_the_revisions_make_the_tables(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    for _ in range(2):  # there is nothing left to do for the second one
        await upgrade(database)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
        names = await connection.run_sync(lambda one: inspect(one).get_table_names())
    await database.close()
    assert {*names} == {*METADATA.tables, VERSION_TABLE}
