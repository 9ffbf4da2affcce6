"""Mails to owners whose organisation nears, or has reached, its plan's events of the month."""

from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from manage import mail, usage
from manage.services import Services
from manage.tables import Membership, Organisation, Plan, QuotaNotice, Role, User
from runtime import quota

PERCENTS: Final = (80, 90, 100)


async def check_quotas(services: Services) -> None:
    """Mail each owner once a month for each of the percentages that is reached; of several at a time
    the highest."""
    async with services.database.reading() as session:
        limited = await session.scalars(
            select(Organisation.id)
            .join(Plan, Plan.id == Organisation.plan_id)
            .where(Plan.monthly_events.is_not(None))
            .order_by(Organisation.id)
        )
    for organisation_id in limited:
        await _check(services, organisation_id)


async def _check(services: Services, organisation_id: str) -> None:
    month = quota.period(services.clock.now_ms()).month
    async with services.database.reading() as session:
        told = await session.scalars(
            select(QuotaNotice.percent).where(
                QuotaNotice.organisation_id == organisation_id, QuotaNotice.month == month
            )
        )
    missing = set(PERCENTS).difference(told)
    if not missing:
        return
    used = await usage.of_month(services, organisation_id)
    if used.limit is None or used.percent is None:
        return
    reached = sorted(percent for percent in missing if used.percent >= percent)
    new = [one for one in reached if await _claim(services, organisation_id, month, one)]
    if not new:
        return
    async with services.database.reading() as session:
        row = (
            await session.execute(
                select(Organisation.name, User.email)
                .join(Membership, Membership.organisation_id == Organisation.id)
                .join(User, User.id == Membership.user_id)
                .where(Organisation.id == organisation_id, Membership.role == Role.OWNER)
            )
        ).one_or_none()
    if row is None:
        return  # made by the command line, for nobody
    state = mail.QuotaState(
        organisation=row.name,
        percent=new[-1],
        billable=used.billable,
        monthly_events=used.limit,
        resets_on=used.period.resets_on,
    )
    try:
        await services.mailer.send(mail.quota(row.email, state))
    except mail.MailError:
        await _give_up(services, organisation_id, month, new)


async def _claim(services: Services, organisation_id: str, month: str, percent: int) -> bool:
    """Whether this process is the one that mails: the first that writes it down."""
    notice = QuotaNotice(
        organisation_id=organisation_id,
        month=month,
        percent=percent,
        sent_at=services.clock.now_ms(),
    )
    try:
        async with services.database.changing.begin() as session:
            session.add(notice)
    except IntegrityError:
        return False
    return True


async def _give_up(
    services: Services, organisation_id: str, month: str, percents: list[int]
) -> None:
    """Have them mailed next time."""
    async with services.database.changing.begin() as session:
        await session.execute(
            delete(QuotaNotice).where(
                QuotaNotice.organisation_id == organisation_id,
                QuotaNotice.month == month,
                QuotaNotice.percent.in_(percents),
            )
        )
