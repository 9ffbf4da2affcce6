"""The SQL tables. A change here needs a revision under ``manage/migrations``.

Moments are Unix milliseconds. A secret that we only have to recognise is kept as its SHA-256; one that
we have to use is sealed by the vault.
"""

from enum import StrEnum
from pathlib import Path
from typing import Final

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from runtime.database import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"
VERSION_TABLE: Final = "alembic_version"


class Base(DeclarativeBase):
    """All tables of the store."""


class Role(StrEnum):
    """What a member may do."""

    OWNER = "owner"
    """Everything; there is exactly one."""
    ADMIN = "admin"
    """Everything but to delete the organisation, to change its plan and to change its owner."""
    MEMBER = "member"
    """Look."""


class RoutingStatus(StrEnum):
    """Whether a domain's host leads here."""

    PENDING_DNS = "pending_dns"
    ACTIVE = "active"
    DISABLED = "disabled"


class ConfigStatus(StrEnum):
    """What the last configuration that the shop pushed came to."""

    WAITING_CONFIG = "waiting_config"
    SYNCED = "synced"
    SYNC_ERROR = "sync_error"


class Plan(Base):
    """What an organisation may use. None: any number."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    price_cents: Mapped[int]
    """US cents a month."""
    monthly_events: Mapped[int | None] = mapped_column(BigInteger)
    domains: Mapped[int | None]
    organisations: Mapped[int | None]
    """How many an owner may have who has one on this plan."""
    log_retention_seconds: Mapped[int | None]


class User(Base):
    """A person who logs in."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    """In lower case."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    last_login_at: Mapped[int | None] = mapped_column(BigInteger)


class LoginLink(Base):
    """A magic link that was mailed."""

    __tablename__ = "login_links"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    email: Mapped[str] = mapped_column(String(254))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger)


class Session(Base):
    """Somebody who is logged in."""

    __tablename__ = "sessions"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    organisation_id: Mapped[str | None] = mapped_column(
        ForeignKey("organisations.id", ondelete="SET NULL")
    )
    """The current one."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class Organisation(Base):
    """Who owns domains."""

    __tablename__ = "organisations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    subscription: Mapped[str] = mapped_column(String(20))
    """``schemas.config.Subscription``."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    plan: Mapped[Plan] = relationship(lazy="joined", innerjoin=True)


class Membership(Base):
    """Who belongs to an organisation, as what."""

    __tablename__ = "memberships"
    __table_args__ = (
        Index(
            "one_owner",
            "organisation_id",
            unique=True,
            sqlite_where=text("role = 'owner'"),
            postgresql_where=text("role = 'owner'"),
        ),
    )

    organisation_id: Mapped[str] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[str] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    role: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[int] = mapped_column(BigInteger)


class Invite(Base):
    """Somebody who was asked to join."""

    __tablename__ = "invites"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    organisation_id: Mapped[str] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), index=True
    )
    email: Mapped[str] = mapped_column(String(254))
    role: Mapped[str] = mapped_column(String(10))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    invited_by: Mapped[str | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    accepted_at: Mapped[int | None] = mapped_column(BigInteger)


class Domain(Base):
    """One storefront host."""

    __tablename__ = "domains"
    __table_args__ = (
        UniqueConstraint("sync_token_sha256", name="domains_sync_token"),
        Index("domains_by_organisation", "organisation_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    organisation_id: Mapped[str] = mapped_column(ForeignKey("organisations.id"))
    host: Mapped[str] = mapped_column(String(253), unique=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    """Grows with every change, so that readers of ``domain-configs`` can tell old from new."""
    token_generation: Mapped[int]
    sync_token_sha256: Mapped[str] = mapped_column(String(64))
    routing_status: Mapped[str] = mapped_column(String(20))
    config_status: Mapped[str] = mapped_column(String(20))
    dns_checked_at: Mapped[int | None] = mapped_column(BigInteger)
    dns_problem: Mapped[str | None]
    """What the last look-up found instead; None when it found what it should."""
    synced_at: Mapped[int | None] = mapped_column(BigInteger)
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    """The rest of ``DomainConfig``: strict, default country and currency, dedupe window."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    destinations: Mapped[list["Destination"]] = relationship(
        lazy="selectin",
        order_by="Destination.created_at, Destination.id",
        cascade="all, delete-orphan",
    )
    organisation: Mapped[Organisation] = relationship(lazy="joined", innerjoin=True)
    callback: Mapped["Callback | None"] = relationship(
        lazy="selectin", cascade="all, delete-orphan"
    )


class DeletedDomain(Base):
    """A domain that was: what is left on ``domain-configs`` of it is to be taken off."""

    __tablename__ = "deleted_domains"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    organisation_id: Mapped[str] = mapped_column(String(40))
    host: Mapped[str] = mapped_column(String(253))
    deleted_at: Mapped[int] = mapped_column(BigInteger)


class Destination(Base):
    """One configured account at a platform, its credentials sealed."""

    __tablename__ = "destinations"
    __table_args__ = (UniqueConstraint("domain_id", "platform", "account"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id", ondelete="CASCADE"))
    platform: Mapped[str] = mapped_column(String(40))
    account: Mapped[str] = mapped_column(String(100))
    enabled: Mapped[bool]
    sealed: Mapped[str]
    preview: Mapped[str | None] = mapped_column(String(40))
    """Of the token, masked."""
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    """The rest of ``schemas.config.Destination``: switches, and how events are named there."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    checked_at: Mapped[int | None] = mapped_column(BigInteger)
    """When its credentials were tried last."""
    check_ok: Mapped[bool | None]
    check_status: Mapped[int | None]
    """The platform's HTTP status then; None when no answer came."""
    check_error: Mapped[str | None]


class Callback(Base):
    """Where a shop is asked to push its configuration again."""

    __tablename__ = "callbacks"

    domain_id: Mapped[str] = mapped_column(
        ForeignKey("domains.id", ondelete="CASCADE"), primary_key=True
    )
    url: Mapped[str] = mapped_column(String(2000))
    sealed_token: Mapped[str]
    registered_at: Mapped[int] = mapped_column(BigInteger)
    called_at: Mapped[int | None] = mapped_column(BigInteger)
    problem: Mapped[str | None]
    """Why the last call failed; None when it did not."""


class QuotaNotice(Base):
    """A mail about a month's events that was sent."""

    __tablename__ = "quota_notices"

    organisation_id: Mapped[str] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True
    )
    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    """``2026-11``."""
    percent: Mapped[int] = mapped_column(primary_key=True)
    sent_at: Mapped[int] = mapped_column(BigInteger)


class AdminAction(Base):
    """Who changed what."""

    __tablename__ = "admin_actions"
    __table_args__ = (Index("admin_actions_by_time", "organisation_id", "at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    organisation_id: Mapped[str | None] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(254))
    """A user's id; ``sync`` for the shop's server, ``command`` for the command line."""
    action: Mapped[str] = mapped_column(String(60))
    """``domain.add``, ``member.remove``, …"""
    target: Mapped[str | None] = mapped_column(String(254))
    request_id: Mapped[str | None] = mapped_column(String(40))


async def upgrade(database: Database) -> None:
    """Bring these tables to their newest revision.

    Raises ``UnavailableError`` when the database cannot be reached.
    """
    await database.upgrade(MIGRATIONS, VERSION_TABLE)
