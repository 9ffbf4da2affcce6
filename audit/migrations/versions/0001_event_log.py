"""Events, deliveries, attempts, texts, counters, usage, positions.

Revision ID: 0001
Revises:
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

PLAIN: dict[str, Any] = {"sqlite_with_rowid": False}
BY_MONTH = PLAIN | {"postgresql_partition_by": "RANGE (received_at)"}


def upgrade() -> None:
    _create_events()
    _create_deliveries()
    op.create_table(
        "log_attempts",
        sa.Column("received_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("delivery_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("domain_id", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("text_id", sa.BigInteger),
        sa.Column("at", sa.BigInteger, nullable=False),
        **BY_MONTH,
    )
    op.create_index("log_attempts_by_age", "log_attempts", ["domain_id", "received_at"])
    op.create_table(
        "log_texts",
        sa.Column("domain_id", sa.Text, primary_key=True),
        sa.Column("text_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("code", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("folded", sa.Text, nullable=False),
        sa.Column("last_hour", sa.Integer, nullable=False),
        **PLAIN,
    )
    op.create_table(
        "log_counters",
        sa.Column("domain_id", sa.Text, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("destination_id", sa.Text, primary_key=True),
        sa.Column("platform", sa.Text, primary_key=True),
        sa.Column("event_name", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("is_replay", sa.Boolean, primary_key=True),
        sa.Column("n", sa.BigInteger, nullable=False),
        **PLAIN,
    )
    op.create_table(
        "log_usage",
        sa.Column("domain_id", sa.Text, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("accepted", sa.BigInteger, nullable=False),
        sa.Column("billable", sa.BigInteger, nullable=False),
        **PLAIN,
    )
    op.create_table(
        "log_positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("reached_at", sa.BigInteger, nullable=False),
        **PLAIN,
    )


def _create_events() -> None:
    op.create_table(
        "log_events",
        sa.Column("received_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("event_key", sa.LargeBinary(16), primary_key=True),
        sa.Column("domain_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_name", sa.Text, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("order_id", sa.Text),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("first_source", sa.Text),
        sa.Column("replay_id", sa.Text),
        **BY_MONTH,
    )
    op.create_index("log_events_by_id", "log_events", ["domain_id", "event_id"])
    _create_partial_index("log_events_by_order", ["domain_id", "order_id"], "order_id IS NOT NULL")
    op.create_index("log_events_by_age", "log_events", ["domain_id", "received_at"])


def _create_deliveries() -> None:
    op.create_table(
        "log_deliveries",
        sa.Column("received_at", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("delivery_id", sa.LargeBinary(16), primary_key=True),
        sa.Column("event_key", sa.LargeBinary(16), nullable=False),
        sa.Column("domain_id", sa.Text, nullable=False),
        sa.Column("destination_id", sa.Text, nullable=False),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_name", sa.Text, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("text_id", sa.BigInteger),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("routed_at", sa.BigInteger),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("first_source", sa.Text),
        sa.Column("dispatch_key", sa.Text),
        sa.Column("replay_id", sa.Text),
        **BY_MONTH,
    )
    op.create_index(
        "log_deliveries_by_time",
        "log_deliveries",
        [
            "domain_id",
            "received_at",
            "delivery_id",
            "destination_id",
            "event_name",
            "state",
            "reason",
            "platform",
        ],
    )
    _create_partial_index(
        "log_deliveries_by_reason",
        [
            "domain_id",
            "reason",
            "received_at",
            "delivery_id",
            "destination_id",
            "event_name",
            "state",
            "platform",
        ],
        "reason IS NOT NULL",
    )
    _create_partial_index(
        "log_deliveries_by_text",
        ["domain_id", "text_id", "received_at", "delivery_id"],
        "text_id IS NOT NULL",
    )
    op.create_index(
        "log_deliveries_by_id",
        "log_deliveries",
        ["domain_id", "event_id", "received_at", "delivery_id"],
    )


def _create_partial_index(name: str, columns: list[str], condition: str) -> None:
    op.create_index(
        name,
        name.partition("_by_")[0],
        columns,
        postgresql_where=sa.text(condition),
        sqlite_where=sa.text(condition),
    )


def downgrade() -> None:
    for table in (
        "log_positions",
        "log_usage",
        "log_counters",
        "log_texts",
        "log_attempts",
        "log_deliveries",
        "log_events",
    ):
        op.drop_table(table)
