"""What organisations may use: rows of the table ``plans``."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from manage import actions
from manage.errors import ErrorCode, not_found
from manage.rows import RefusedChangeError, organisation_configs
from manage.tables import Membership, Organisation, Plan, Role, User
from schemas.config import DomainConfig, Subscription


async def known_ids(session: AsyncSession) -> list[str]:
    """The plans that there are, the cheapest first."""
    return list(await session.scalars(select(Plan.id).order_by(Plan.price_cents, Plan.id.desc())))


async def get(session: AsyncSession, plan_id: str) -> Plan:
    """A plan.

    Raises ``RefusedChangeError`` when there is none of this id.
    """
    found = await session.get(Plan, plan_id)
    if found is None:
        names = ", ".join(await known_ids(session))
        raise RefusedChangeError(
            ErrorCode.INVALID_PAYLOAD, f"{plan_id!r} is not one of {names}", "plan"
        )
    return found


async def limits_of(session: AsyncSession, organisation_id: str) -> Plan:
    """The plan of an organisation that there is."""
    found = await session.scalars(
        select(Plan)
        .join(Organisation, Organisation.plan_id == Plan.id)
        .where(Organisation.id == organisation_id)
    )
    return found.one()


async def check_owner(session: AsyncSession, user_id: str, plan_id: str) -> None:
    """Whether somebody may own one more organisation, which is on this plan: as many as the best
    plan allows of those that they then own.

    Their row is locked, so that two at a time are counted one after the other.

    Raises ``RefusedChangeError``.
    """
    await session.execute(select(User.id).where(User.id == user_id).with_for_update())
    owned = await session.scalars(
        select(Organisation.plan_id)
        .join(Membership, Membership.organisation_id == Organisation.id)
        .where(Membership.user_id == user_id, Membership.role == Role.OWNER)
    )
    plan_ids = [*owned, plan_id]
    allowed = await session.scalars(select(Plan.organisations).where(Plan.id.in_(plan_ids)))
    most = _most(allowed)
    if most is not None and len(plan_ids) > most:
        raise RefusedChangeError(
            ErrorCode.PLAN_LIMIT_REACHED, f"the plan allows its owner {most} organisations"
        )


async def set_plan(
    session: AsyncSession,
    organisation_id: str,
    *,
    plan_id: str | None = None,
    subscription: Subscription | None = None,
    now_ms: int,
    by: actions.Actor = actions.COMMAND,
) -> list[DomainConfig]:
    """Put an organisation on a plan, or let its events through or not.

    Answers the configurations of its domains, which are to be published once this is committed.

    Raises ``RefusedError`` for what there is not.
    """
    await session.execute(
        select(Organisation.id).where(Organisation.id == organisation_id).with_for_update()
    )
    organisation = await session.get(Organisation, organisation_id)
    if organisation is None:
        raise not_found("organisation")
    if plan_id is not None:
        organisation.plan = await get(session, plan_id)
    if subscription is not None:
        organisation.subscription = subscription
    for action, target in (("plan.set", plan_id), ("subscription.set", subscription)):
        if target is not None:
            actions.record(session, by, action, target, organisation_id=organisation_id, at=now_ms)
    await session.flush()
    return await organisation_configs(session, organisation_id)


def _most(limits: Iterable[int | None]) -> int | None:
    """The highest of some limits; None: any number."""
    known = [0]
    for limit in limits:
        if limit is None:
            return None
        known.append(limit)
    return max(known)
