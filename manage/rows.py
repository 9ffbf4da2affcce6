"""Between the rows of a domain and what is published of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic import ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import override

from manage import tables
from manage.errors import ErrorCode, RefusedError
from runtime.errors import CapistreamError
from schemas.config import Destination, DestinationRules, DomainConfig, Subscription

CALLBACK: Final = "callback"
"""Stands for the destination where the vault binds the token of a domain's callback."""


_RULES: Final = frozenset(map(to_camel, DestinationRules.model_fields))


class RefusedChangeError(RefusedError, CapistreamError):
    """A change that cannot be made; the message names the fix."""

    @override
    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


@dataclass(frozen=True, slots=True)
class ById:
    """Names a domain as its organisation does: other organisations do not find it."""

    organisation_id: str
    domain_id: str


Which: TypeAlias = str | ById
"""Names a domain: by its host, as whoever runs the system does, or as its organisation does."""


def normal_host(text: str) -> str:
    """A host as it is kept."""
    return text.strip().lower().rstrip(".")


async def find(session: AsyncSession, which: Which) -> tables.Domain:
    """The row of a domain, to be looked at.

    Raises ``RefusedChangeError``.
    """
    row = await session.scalar(select(tables.Domain).where(_is(which)))
    if row is None:
        raise _missing(which)
    return row


async def locked(session: AsyncSession, which: Which) -> tables.Domain:
    """The row of a domain, to be changed: two who change it follow one another, and the second sees
    all of the first.

    Raises ``RefusedChangeError``.
    """
    # Two statements: one would wait for the lock and then answer what other tables had before.
    found = await session.execute(select(tables.Domain.id).where(_is(which)).with_for_update())
    domain_id = found.scalar_one_or_none()
    if domain_id is None:
        raise _missing(which)
    return await session.get_one(tables.Domain, domain_id)


async def changing(session: AsyncSession, which: Which) -> tables.Domain:
    """The same, of a change that is to be published: its revision is raised.

    Raises ``RefusedChangeError``.
    """
    row = await locked(session, which)
    row.revision += 1
    return row


async def organisation_configs(session: AsyncSession, organisation_id: str) -> list[DomainConfig]:
    """The configuration of each of an organisation's domains, revisions raised: to be published when
    what they share, its plan or its subscription, has changed in this session."""
    await session.flush()
    mine = tables.Domain.organisation_id == organisation_id
    # In one order, so that two who do this do not wait for each other.
    await session.execute(
        select(tables.Domain.id).where(mine).order_by(tables.Domain.id).with_for_update()
    )
    rows = await session.scalars(
        select(tables.Domain)
        .where(mine)
        .order_by(tables.Domain.id)
        .execution_options(populate_existing=True)
    )
    configs = []
    for row in rows:
        row.revision += 1
        configs.append(config_of(row))
    return configs


def config_of(row: tables.Domain) -> DomainConfig:
    """What is published of a domain.

    Raises ``RefusedChangeError`` when an option of it, or of a destination, cannot be.
    """
    plan = row.organisation.plan
    limits = [plan.monthly_events, row.options.get("monthlyEvents")]
    known = [limit for limit in limits if isinstance(limit, int)]
    is_off = row.routing_status == tables.RoutingStatus.DISABLED
    try:
        return DomainConfig.model_validate(
            row.options
            | {
                "domainId": row.id,
                "orgId": row.organisation_id,
                "host": row.host,
                "revision": row.revision,
                "subscription": Subscription.INACTIVE if is_off else row.organisation.subscription,
                "tokenGeneration": row.token_generation,
                "syncTokenSha256": row.sync_token_sha256,
                "monthlyEvents": min(known, default=None),
                "logRetentionSeconds": plan.log_retention_seconds,
                "destinations": [destination_of(each).model_dump() for each in row.destinations],
            }
        )
    except ValidationError as error:
        raise refused(error) from None


def destination_of(row: tables.Destination) -> Destination:
    """What is published of a destination.

    Raises ``RefusedChangeError`` when an option of it cannot be.
    """
    try:
        return Destination.model_validate(
            {"enabled": row.enabled}
            | row.options
            | {
                "id": row.id,
                "platform": row.platform,
                "account": row.account,
                "sealed": row.sealed,
            }
        )
    except ValidationError as error:
        raise refused(error) from None


def set_rules(row: tables.Destination, given: Mapping[str, object], *, merges: bool) -> Destination:
    """Set rules of a destination, by their names on the wire, over those that it has.

    ``merges``: tables of names are merged by name instead of replaced.

    Raises ``RefusedChangeError``.
    """
    rules = dict(row.options)
    for name in given.keys() & _RULES:
        value, before = given[name], rules.get(name)
        both_tables = isinstance(before, Mapping) and isinstance(value, Mapping)
        rules[name] = {**before, **value} if merges and both_tables else value  # type: ignore[dict-item]
    row.options = rules
    destination = destination_of(row)
    row.enabled = destination.enabled
    row.options = {name: value for name, value in rules.items() if name != "enabled"}
    return destination


def refused(error: ValidationError) -> RefusedChangeError:
    """What is wrong with each field, without the values, which may be tokens."""
    fields = [
        (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))
        for e in error.errors(include_input=False, include_url=False)
    ]
    (first, message), *others = fields
    more = "".join(f"; {field}: {text}" for field, text in others)
    return RefusedChangeError(ErrorCode.INVALID_PAYLOAD, message + more, first)


def _is(which: Which) -> ColumnElement[bool]:
    if isinstance(which, ById):
        return (tables.Domain.id == which.domain_id) & (
            tables.Domain.organisation_id == which.organisation_id
        )
    return tables.Domain.host == normal_host(which)


def _missing(which: Which) -> RefusedChangeError:
    if isinstance(which, ById):
        return RefusedChangeError(ErrorCode.NOT_FOUND, "there is no such domain")
    message = f"{which} is not configured; add it with `capistream domain add {which}`"
    return RefusedChangeError(ErrorCode.NOT_FOUND, message, "host")
