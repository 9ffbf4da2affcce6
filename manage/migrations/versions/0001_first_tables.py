"""Organisations, domains, destinations.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "organisations",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "domains",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column(
            "organisation_id", sa.String(40), sa.ForeignKey("organisations.id"), nullable=False
        ),
        sa.Column("host", sa.String(253), nullable=False, unique=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("token_generation", sa.Integer, nullable=False),
        sa.Column("sync_token_sha256", sa.String(64), nullable=False),
        sa.Column("subscription", sa.String(20), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "destinations",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("domain_id", sa.String(40), sa.ForeignKey("domains.id"), nullable=False),
        sa.Column("platform", sa.String(40), nullable=False),
        sa.Column("account", sa.String(100), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("sealed", sa.String, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("domain_id", "platform", "account"),
    )


def downgrade() -> None:
    op.drop_table("destinations")
    op.drop_table("domains")
    op.drop_table("organisations")
