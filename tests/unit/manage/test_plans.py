"""What organisations may use, and who is told that it is nearly used up; on each of the databases."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from manage import plans
from manage.errors import RefusedError
from manage.quota_watch import check_quotas
from manage.rows import RefusedChangeError
from manage.services import Services
from manage.tables import AdminAction, Plan, QuotaNotice, Role
from runtime.quota import period
from schemas.config import Subscription
from tests.unit.manage.api import Client, add_organisation, log_in, mails, use
from tests.unit.runtime.clocks import JumpingClock


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "since", "until"),
    [
        ("2026-11-25T12:00:00", "2026-11-01", "2026-12-01"),
        ("2026-11-01T00:00:00", "2026-11-01", "2026-12-01"),
        ("2026-11-30T23:59:59.999", "2026-11-01", "2026-12-01"),
        ("2026-12-31T23:59:59.999", "2026-12-01", "2027-01-01"),
        ("2028-02-29T00:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_a_period_is_a_calendar_month(now: str, since: str, until: str) -> None:
    found = period(at(now))
    assert found == (at(since), at(until))
    assert (found.month, found.resets_on) == (since[:7], until)


async def test_the_plans(services: Services) -> None:
    day = 24 * 3600
    async with services.database.reading() as session:
        rows = await session.scalars(select(Plan).order_by(Plan.price_cents, Plan.monthly_events))
        found = {
            row.id: (
                row.price_cents,
                row.monthly_events,
                row.domains,
                row.log_retention_seconds,
                row.organisations,
            )
            for row in rows
        }
    assert found == {
        "free": (0, 100_000, 5, 3600, 2),
        "pro": (1200, 500_000, 25, 3 * day, 10),
        "business": (3400, 2_000_000, 50, 7 * day, 10),
        "scale": (7900, 10_000_000, 100, 30 * day, 10),
        "unlimited": (0, None, None, None, None),
    }


async def test_the_plan_of_an_organisation(services: Services) -> None:
    organisation_id = await add_organisation(services, plan="pro")
    await add_organisation(services, plan="free")
    async with services.database.reading() as session:
        assert (await plans.limits_of(session, organisation_id)).id == "pro"


async def test_a_plan_is_set_and_reaches_the_domains(services: Services) -> None:
    organisation_id = await add_organisation(services, plan="free")
    other_id = await add_organisation(services, "Other", plan="free")
    for host in ("a.example", "b.example"):
        await services.store.add_domain(host, organisation_id, {})
    other = (await services.store.add_domain("c.example", other_id, {})).config
    async with services.database.changing.begin() as session:
        configs = await plans.set_plan(session, organisation_id, plan_id="pro", now_ms=5)
    assert [
        (one.host, one.revision, one.monthly_events)
        for one in sorted(configs, key=lambda c: c.host)
    ] == [
        ("a.example", 2, 500_000),
        ("b.example", 2, 500_000),
    ]
    assert {one.log_retention_seconds for one in configs} == {3 * 24 * 3600}
    async with services.database.changing.begin() as session:
        configs = await plans.set_plan(
            session, organisation_id, subscription=Subscription.INACTIVE, now_ms=6
        )
    assert {(one.subscription, one.revision) for one in configs} == {(Subscription.INACTIVE, 3)}
    kept = {one.domain_id: one for one in await services.store.configs()}
    assert all(kept[one.domain_id] == one for one in configs)
    assert kept[other.domain_id] == other
    async with services.database.reading() as session:
        done = (
            await session.scalars(
                select(AdminAction).where(AdminAction.at < 7).order_by(AdminAction.at)
            )
        ).all()
    assert [(one.actor, one.action, one.target) for one in done] == [
        ("command", "plan.set", "pro"),
        ("command", "subscription.set", "inactive"),
    ]


async def test_what_there_is_not_is_not_set(services: Services) -> None:
    organisation_id = await add_organisation(services, plan="free")
    async with services.database.changing() as session:
        with pytest.raises(RefusedChangeError, match=r"plan: 'gold' is not one of .*free.*scale"):
            await plans.set_plan(session, organisation_id, plan_id="gold", now_ms=1)
        with pytest.raises(RefusedError, match="no such organisation"):
            await plans.set_plan(session, "org_0", plan_id="free", now_ms=1)


class TestQuotas:
    """Of an organisation on the free plan: 100,000 events a month."""

    @pytest.fixture
    async def organisation_id(self, client: Client, services: Services) -> str:
        made = await add_organisation(services, "Shop", plan="free")
        await log_in(client, services, "owner@shop.example", organisation_id=made, role=Role.OWNER)
        await log_in(client, services, "admin@shop.example", organisation_id=made, role=Role.ADMIN)
        return made

    @pytest.fixture
    async def domain_id(self, services: Services, organisation_id: str) -> str:
        return (await services.store.add_domain("shop.example", organisation_id, {})).domain_id

    async def test_the_owner_is_told_once_of_each(
        self, services: Services, organisation_id: str, domain_id: str
    ) -> None:
        other = await services.store.add_domain("b.example", organisation_id, {})
        for billable, told in (
            (0, 0), (79_999, 0), (80_000, 1), (89_999, 1), (90_000, 2), (99_999, 2), (100_000, 3),
            (250_000, 3),
        ):  # fmt: skip
            await use(services, domain_id, billable // 2, accepted=10**6)
            await use(services, other.domain_id, billable - billable // 2)
            for _ in range(2):
                await check_quotas(services)
            assert len(mails(services)) == told, billable
        first, second, third = mails(services)
        assert all(one.startswith("To: owner@shop.example\n") for one in mails(services))
        assert "Shop has used 80 % of this month's events" in first
        assert "80,000 of 100,000 events" in first
        assert "2026-12-01" in first
        assert "Shop has used 90 % of this month's events" in second
        assert "Shop has used up this month's events" in third

    async def test_of_several_at_a_time_the_highest_is_told(
        self, services: Services, domain_id: str
    ) -> None:
        await use(services, domain_id, 95_000)
        await check_quotas(services)
        (mail,) = mails(services)
        assert "90 %" in mail
        await use(services, domain_id, 85_000)  # a correction
        await check_quotas(services)
        assert len(mails(services)) == 1

    async def test_each_month_begins_anew(
        self, services: Services, clock: JumpingClock, organisation_id: str, domain_id: str
    ) -> None:
        await services.store.delete_domain("shop.example")
        clock.ms = at("2026-11-30T23:59:59")
        await use(services, domain_id, 80_000)
        await check_quotas(services)
        assert len(mails(services)) == 1  # also of a domain that is gone
        clock.ms = at("2026-12-01")
        await check_quotas(services)
        assert len(mails(services)) == 1  # what was used in November does not count any more
        await use(services, domain_id, 80_000)
        await check_quotas(services)
        assert len(mails(services)) == 2
        async with services.database.reading() as session:
            kept = await session.execute(
                select(QuotaNotice.organisation_id, QuotaNotice.month, QuotaNotice.percent)
            )
        assert sorted(tuple(row) for row in kept) == [
            (organisation_id, "2026-11", 80),
            (organisation_id, "2026-12", 80),
        ]

    async def test_processes_mail_once(self, services: Services, domain_id: str) -> None:
        await use(services, domain_id, 80_000)
        await asyncio.gather(*(check_quotas(services) for _ in range(4)))
        assert len(mails(services)) == 1

    async def test_without_a_limit_nobody_is_told(self, client: Client, services: Services) -> None:
        made = await add_organisation(services, plan="unlimited")
        await log_in(client, services, "o@shop.example", organisation_id=made, role=Role.OWNER)
        added = await services.store.add_domain("shop.example", made, {})
        await use(services, added.domain_id, 10**9)
        await check_quotas(services)
        assert mails(services) == []

    async def test_an_organisation_without_an_owner_stops_nothing(
        self, services: Services, domain_id: str
    ) -> None:
        for number in range(3):
            nobodys = await add_organisation(services, "Nobody's", plan="free")
            await services.store.add_domain(f"{number}.example", nobodys, {})
        await use(services, domain_id, 80_000)
        await check_quotas(services)
        assert len(mails(services)) == 1

    async def test_a_mail_that_was_not_taken_is_sent_later(
        self, services: Services, domain_id: str
    ) -> None:
        await use(services, domain_id, 95_000)
        path = services.settings.data_dir / "mails.txt"
        path.mkdir()  # where the mails were to be written
        await check_quotas(services)
        path.rmdir()
        await check_quotas(services)
        assert len(mails(services)) == 1
