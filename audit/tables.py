"""The event log's SQL tables. A change here needs a revision under ``audit/migrations``.

All of it is made from the ``audit`` topic and can be made from it again: no column tells when we wrote
something. Moments are Unix milliseconds, hours are whole ones since 1970. What is named by a hash
(``schemas.outcome.outcome_id``) has its 16 bytes for a key, together with ``received_at``, which is part
of what was hashed: so the key leads to one month, by which PostgreSQL has the first three tables in
partitions.
"""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from runtime.database import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "alembic_version_audit"

HOUR_MS: Final = 3_600_000

METADATA: Final = MetaData()
# SQLite has the rows in the primary key itself.
_PLAIN: Final[dict[str, Any]] = {"sqlite_with_rowid": False}
_BY_MONTH: Final = _PLAIN | {"postgresql_partition_by": "RANGE (received_at)"}


def _key(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


def _must(name: str, kind: Any = Text) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


EVENTS: Final = Table(
    "log_events",
    METADATA,
    _key("received_at", BigInteger),
    _key("event_key", LargeBinary(16)),
    _must("domain_id"),
    _must("event_id"),
    _must("event_name"),
    _must("event_time", BigInteger),
    Column("order_id", Text),
    _must("door"),
    _must("source"),
    Column("first_source", Text),
    Column("replay_id", Text),
    Index("log_events_by_id", "domain_id", "event_id"),
    Index("log_events_by_order", "domain_id", "order_id", **_where("order_id IS NOT NULL")),
    Index("log_events_by_age", "domain_id", "received_at"),
    **_BY_MONTH,
)
"""The accepted events: one row for each record of the streams' input that was worked, copies and
replays too."""

DELIVERIES: Final = Table(
    "log_deliveries",
    METADATA,
    _key("received_at", BigInteger),
    _key("delivery_id", LargeBinary(16)),
    _must("event_key", LargeBinary(16)),
    _must("domain_id"),
    # Empty: the event as a whole, which went to no destination.
    _must("destination_id"),
    _must("platform"),
    _must("event_id"),
    _must("event_name"),
    _must("event_time", BigInteger),
    _must("state"),
    Column("reason", Text),
    Column("text_id", BigInteger),
    _must("attempt", Integer),
    _must("at", BigInteger),
    Column("routed_at", BigInteger),
    _must("source"),
    Column("first_source", Text),
    Column("dispatch_key", Text),
    Column("replay_id", Text),
    # What may be filtered by stands in the index, so that a row is fetched only when it is wanted.
    Index(
        "log_deliveries_by_time",
        "domain_id", "received_at", "delivery_id",
        "destination_id", "event_name", "state", "reason", "platform",
    ),
    Index(
        "log_deliveries_by_reason",
        "domain_id", "reason", "received_at", "delivery_id",
        "destination_id", "event_name", "state", "platform",
        **_where("reason IS NOT NULL"),
    ),
    Index(
        "log_deliveries_by_text",
        "domain_id", "text_id", "received_at", "delivery_id",
        **_where("text_id IS NOT NULL"),
    ),
    Index("log_deliveries_by_id", "domain_id", "event_id", "received_at", "delivery_id"),
    **_BY_MONTH,
)  # fmt: skip
"""One row for each event and destination, as it stands by now."""

ATTEMPTS: Final = Table(
    "log_attempts",
    METADATA,
    _key("received_at", BigInteger),
    _key("delivery_id", LargeBinary(16)),
    _key("attempt", Integer),
    _key("state", Text),
    _must("domain_id"),
    Column("reason", Text),
    Column("text_id", BigInteger),
    _must("at", BigInteger),
    Index("log_attempts_by_age", "domain_id", "received_at"),
    **_BY_MONTH,
)
"""The passing outcomes."""

TEXTS: Final = Table(
    "log_texts",
    METADATA,
    _key("domain_id", Text),
    _key("text_id", BigInteger),
    Column("code", Text),
    Column("detail", Text),
    _must("folded"),
    _must("last_hour", Integer),
    **_PLAIN,
)
"""The codes and sentences of a domain's outcomes, once each: thousands of outcomes say the same.
``last_hour`` is the newest one with an event of which it was said."""

COUNTERS: Final = Table(
    "log_counters",
    METADATA,
    _key("domain_id", Text),
    _key("hour", Integer),
    _key("destination_id", Text),
    _key("platform", Text),
    _key("event_name", Text),
    _key("outcome", Text),
    _key("reason", Text),
    _key("is_replay", Boolean),
    _must("n", BigInteger),
    **_PLAIN,
)
"""Deliveries by the hour of receipt. ``outcome`` is a final one, or ``accepted`` (all of them), or
``under_way``; empty texts stand for what is not there."""

USAGE: Final = Table(
    "log_usage",
    METADATA,
    _key("domain_id", Text),
    _key("hour", Integer),
    _must("accepted", BigInteger),
    _must("billable", BigInteger),
    **_PLAIN,
)
"""Accepted events by the hour of receipt; replays do not count."""

POSITIONS: Final = Table(
    "log_positions",
    METADATA,
    _key("topic", Text),
    _key("partition", Integer),
    _must("next_offset", BigInteger),
    _must("reached_at", BigInteger),
    **_PLAIN,
)
"""How far the topic has been read: the next offset, and the newest timestamp so far."""

PARTITIONED: Final = (EVENTS, DELIVERIES, ATTEMPTS)


async def upgrade(database: Database) -> None:
    """Bring the event log's tables to their newest revision.

    Raises ``UnavailableError`` when the database cannot be reached.
    """
    await database.upgrade(MIGRATIONS, VERSION_TABLE)
