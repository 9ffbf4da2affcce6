"""How much of its plan an organisation has used in the running month."""

from dataclasses import dataclass

from sqlalchemy import select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from manage import plans
from manage.services import Services
from manage.tables import DeletedDomain, Domain
from runtime import quota


@dataclass(frozen=True, slots=True)
class Usage:
    """The events of one month of an organisation, deleted domains too."""

    period: quota.Period
    accepted: int
    """Events that the gateway took."""
    billable: int
    """Those of them that went to at least one destination."""
    limit: int | None
    """Billable events that the plan allows; None: any number."""

    @property
    def percent(self) -> int | None:
        """Of the limit, rounded down; None without one."""
        if self.limit is None:
            return None
        return self.billable * 100 // self.limit if self.limit else 100

    @property
    def is_exceeded(self) -> bool:
        """Whether the limit is reached."""
        return self.limit is not None and self.billable >= self.limit


async def domain_ids(session: AsyncSession, organisation_id: str) -> list[str]:
    """The domains that an organisation has and had: what is logged of them is its own."""
    rows = (
        select(row.id).where(row.organisation_id == organisation_id)
        for row in (Domain, DeletedDomain)
    )
    return list(await session.scalars(union_all(*rows)))


async def of_month(services: Services, organisation_id: str) -> Usage:
    """What an organisation that there is has used so far."""
    period = quota.period(services.clock.now_ms())
    async with services.database.reading() as session:
        known = await domain_ids(session, organisation_id)
        plan = await plans.limits_of(session, organisation_id)
    days = await services.event_log.usage(known, period.since, period.until)
    return Usage(
        period,
        accepted=sum(day.accepted for day in days),
        billable=sum(day.billable for day in days),
        limit=plan.monthly_events,
    )
