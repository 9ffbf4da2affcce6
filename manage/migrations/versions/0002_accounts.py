"""Plans, users, sessions, members, invites, statuses, callbacks, actions.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DAY = 86_400
NAMING = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
PLANS = [
    ("unlimited", "Unlimited", 0, None, None, None, None),
    ("free", "Free", 0, 100_000, 5, 2, 3600),
    ("pro", "Pro", 1200, 500_000, 25, 10, 3 * DAY),
    ("business", "Business", 3400, 2_000_000, 50, 10, 7 * DAY),
    ("scale", "Scale", 7900, 10_000_000, 100, 10, 30 * DAY),
]


def upgrade() -> None:
    plans = op.create_table(
        "plans",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("price_cents", sa.Integer, nullable=False),
        sa.Column("monthly_events", sa.BigInteger),
        sa.Column("domains", sa.Integer),
        sa.Column("organisations", sa.Integer),
        sa.Column("log_retention_seconds", sa.Integer),
    )
    names = [column.name for column in plans.columns]
    op.bulk_insert(plans, [dict(zip(names, plan, strict=True)) for plan in PLANS])
    op.create_table(
        "users",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_login_at", sa.BigInteger),
    )
    op.create_table(
        "login_links",
        sa.Column("token_sha256", sa.String(64), primary_key=True),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )
    _change_organisations()
    op.create_table(
        "sessions",
        sa.Column("token_sha256", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(40), _key("users.id"), nullable=False, index=True),
        sa.Column(
            "organisation_id",
            sa.String(40),
            sa.ForeignKey("organisations.id", ondelete="SET NULL"),
        ),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "memberships",
        sa.Column("organisation_id", sa.String(40), _key("organisations.id"), primary_key=True),
        sa.Column("user_id", sa.String(40), _key("users.id"), primary_key=True, index=True),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    is_owner = sa.text("role = 'owner'")
    op.create_index(
        "one_owner", "memberships", ["organisation_id"], unique=True,
        sqlite_where=is_owner, postgresql_where=is_owner,
    )  # fmt: skip
    op.create_table(
        "invites",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column(
            "organisation_id", sa.String(40), _key("organisations.id"), nullable=False, index=True
        ),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("role", sa.String(10), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("invited_by", sa.String(40), sa.ForeignKey("users.id", ondelete="SET NULL")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("accepted_at", sa.BigInteger),
    )
    _change_domains()
    op.create_table(
        "quota_notices",
        sa.Column("organisation_id", sa.String(40), _key("organisations.id"), primary_key=True),
        sa.Column("month", sa.String(7), primary_key=True),
        sa.Column("percent", sa.Integer, primary_key=True),
        sa.Column("sent_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "admin_actions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("organisation_id", sa.String(40)),
        sa.Column("actor", sa.String(254), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("target", sa.String(254)),
        sa.Column("request_id", sa.String(40)),
    )
    op.create_index("admin_actions_by_time", "admin_actions", ["organisation_id", "at"])


def _key(column: str) -> sa.ForeignKey:
    return sa.ForeignKey(column, ondelete="CASCADE")


def _change_organisations() -> None:
    """Names are the members' own business from now on: two organisations may share one."""
    # PostgreSQL named the constraint by itself; SQLite did not, so alembic does.
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    unique_name = "organisations_name_key" if is_postgresql else "uq_organisations_name"
    with op.batch_alter_table("organisations", naming_convention=NAMING) as table:
        table.drop_constraint(unique_name, type_="unique")
        table.add_column(
            sa.Column("plan_id", sa.String(40), nullable=False, server_default="unlimited")
        )
        table.add_column(
            sa.Column("subscription", sa.String(20), nullable=False, server_default="active")
        )
        table.create_foreign_key("organisations_plan", "plans", ["plan_id"], ["id"])


def _change_domains() -> None:
    with op.batch_alter_table("domains", naming_convention=NAMING) as table:
        table.drop_column("subscription")  # the organisation's
        table.add_column(
            sa.Column("routing_status", sa.String(20), nullable=False, server_default="pending_dns")
        )
        table.add_column(
            sa.Column(
                "config_status", sa.String(20), nullable=False, server_default="waiting_config"
            )
        )
        table.add_column(sa.Column("dns_checked_at", sa.BigInteger))
        table.add_column(sa.Column("dns_problem", sa.String))
        table.add_column(sa.Column("synced_at", sa.BigInteger))
        table.create_index("domains_by_organisation", ["organisation_id"])
        table.create_unique_constraint("domains_sync_token", ["sync_token_sha256"])
    with op.batch_alter_table("destinations") as table:
        table.add_column(sa.Column("preview", sa.String(40)))
        table.add_column(sa.Column("checked_at", sa.BigInteger))
        table.add_column(sa.Column("check_ok", sa.Boolean))
        table.add_column(sa.Column("check_status", sa.Integer))
        table.add_column(sa.Column("check_error", sa.String))
    op.create_table(
        "deleted_domains",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("organisation_id", sa.String(40), nullable=False),
        sa.Column("host", sa.String(253), nullable=False),
        sa.Column("deleted_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "callbacks",
        sa.Column("domain_id", sa.String(40), _key("domains.id"), primary_key=True),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("sealed_token", sa.String, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.Column("called_at", sa.BigInteger),
        sa.Column("problem", sa.String),
    )


def downgrade() -> None:
    for name in ("callbacks", "deleted_domains", "admin_actions", "quota_notices", "invites",
                 "memberships", "sessions", "login_links", "users"):  # fmt: skip
        op.drop_table(name)
    with op.batch_alter_table("destinations") as table:
        for name in ("preview", "checked_at", "check_ok", "check_status", "check_error"):
            table.drop_column(name)
    with op.batch_alter_table("domains") as table:
        table.drop_constraint("domains_sync_token", type_="unique")
        table.drop_index("domains_by_organisation")
        for name in (
            "routing_status", "config_status", "dns_checked_at", "dns_problem", "synced_at",
        ):  # fmt: skip
            table.drop_column(name)
        table.add_column(
            sa.Column("subscription", sa.String(20), nullable=False, server_default="active")
        )
    with op.batch_alter_table("organisations") as table:
        table.drop_constraint("organisations_plan", type_="foreignkey")
        table.drop_column("subscription")
        table.drop_column("plan_id")
    op.drop_table("plans")
