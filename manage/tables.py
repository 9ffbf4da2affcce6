"""The SQL tables. A change here needs a revision under ``manage/migrations``."""

from sqlalchemy import JSON, BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """All tables of the store."""


class Organisation(Base):
    """Who owns domains."""

    __tablename__ = "organisations"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    """Unix milliseconds."""


class Domain(Base):
    """One storefront host."""

    __tablename__ = "domains"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    organisation_id: Mapped[str] = mapped_column(ForeignKey("organisations.id"))
    host: Mapped[str] = mapped_column(String(253), unique=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    """Grows with every change, so that readers of ``domain-configs`` can tell old from new."""
    token_generation: Mapped[int]
    sync_token_sha256: Mapped[str] = mapped_column(String(64))
    subscription: Mapped[str] = mapped_column(String(20))
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    """The rest of ``DomainConfig``: strict, default country and currency, dedupe window."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    destinations: Mapped[list["Destination"]] = relationship(
        lazy="selectin", order_by="Destination.created_at, Destination.id"
    )


class Destination(Base):
    """One configured account at a platform, its credentials sealed."""

    __tablename__ = "destinations"
    __table_args__ = (UniqueConstraint("domain_id", "platform", "account"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domains.id"))
    platform: Mapped[str] = mapped_column(String(40))
    account: Mapped[str] = mapped_column(String(100))
    enabled: Mapped[bool]
    sealed: Mapped[str]
    options: Mapped[dict[str, object]] = mapped_column(JSON)
    """The rest of ``schemas.config.Destination``: switches and renames."""
    created_at: Mapped[int] = mapped_column(BigInteger)
