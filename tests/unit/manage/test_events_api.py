"""The event log, the usage and the accuracy, asked over HTTP of a real log on both databases."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import pytest

from audit.log import SqlEventLog
from manage import tables
from manage.events_api import DAY_MS, DEFAULT_DAYS, MAX_DAYS
from manage.events_api import ROUTES as EVENTS
from manage.routes import Route
from manage.services import Services
from manage.tables import Plan, Role
from runtime.database import Database
from runtime.quota import period
from schemas.outcome import OutcomeKind, Reason
from tests.unit.manage.api import Client, error_of, log_in
from tests.unit.manage.happened import Happening, open_log
from tests.unit.manage.tenants import Tenant, add_tenant
from tests.unit.runtime.clocks import JumpingClock

HOUR_MS: Final = 3_600_000
TODAY: Final = "2026-11-20"
"""By the tests' clock."""


@pytest.fixture
def routes() -> tuple[Route, ...]:
    """What is served."""
    return EVENTS


@pytest.fixture
async def event_log(database: Database) -> SqlEventLog:
    """A real one."""
    return await open_log(database)


@pytest.fixture
async def ours(client: Client, services: Services) -> Tenant:
    """The organisation of whoever is logged in at ``client``."""
    tenant = await add_tenant(services, "ours")
    await log_in(
        client,
        services,
        "me@ours.example",
        organisation_id=tenant.org_id,
        role=Role.MEMBER,
    )
    return tenant


@pytest.fixture
def shop(ours: Tenant, database: Database, clock: JumpingClock) -> Happening:
    """Our domain's events, of an hour ago."""
    at = clock.now_ms() - HOUR_MS
    return Happening(database, ours.domain_id, ours.destination_id, at=at)


async def asked(client: Client, path: str, **query: Any) -> dict[str, Any]:
    """A good answer."""
    params = {name: str(value) for name, value in query.items()}
    async with client.get(f"/v1/org/{path}", params=params) as response:
        body: dict[str, Any] = await response.json()
    assert (response.status, body.get("error")) == (200, None)
    return body


async def refused(client: Client, path: str, **query: Any) -> tuple[str, str | None]:
    """Code and field of a refusal with 400."""
    params = {name: str(value) for name, value in query.items()}
    async with client.get(f"/v1/org/{path}", params=params) as response:
        error = await error_of(response)
    assert error["status"] == 400
    return error["code"], error.get("field")


def named(page: Mapping[str, Any]) -> list[str]:
    return [one["eventId"] for one in page["events"]]


async def test_a_delivery_is_shown_with_all_that_is_known(
    client: Client, ours: Tenant, shop: Happening
) -> None:
    source = await shop.accepted("e1", orderId="T-1")
    said: dict[str, Any] = {
        "reason": "refused_by_platform",
        "code": "2804",
        "detail": "No value.",
        "attempt": 2,
    }
    await shop.became("e1", source, OutcomeKind.REJECTED, **said)
    (told,) = (await asked(client, "events"))["events"]
    assert told.pop("deliveryId")
    assert told == said | {
        "domainId": ours.domain_id,
        "destinationId": ours.destination_id,
        "platform": "meta",
        "eventId": "e1",
        "eventName": "Purchase",
        "eventTime": shop.at,
        "orderId": "T-1",
        "receivedAt": shop.at,
        "outcome": "rejected",
        "at": shop.at + 1000,
        "source": source,
        "firstSource": None,
        "dispatchKey": None,
        "replayId": None,
    }


FILTERS: Final[tuple[tuple[dict[str, str], list[str]], ...]] = (
    ({"outcome": "delivered"}, ["good"]),
    ({"outcome": "routed"}, ["waiting"]),
    ({"reason": "misconfigured"}, ["bad"]),
    ({"eventId": "bad"}, ["bad"]),
    ({"eventName": "Lead"}, ["waiting"]),
    ({"orderId": "T-1"}, ["good"]),
    ({"text": "TOKEN of 100%"}, ["bad"]),
    ({"text": "_oken"}, []),
    ({"platform": "meta"}, ["waiting", "bad", "good"]),
    ({"platform": "tiktok"}, []),
    ({"outcome": "rejected", "reason": "misconfigured", "text": "190"}, ["bad"]),
)


async def test_filters(client: Client, shop: Happening) -> None:
    await shop.delivered("good", orderId="T-1")
    shop.at += 1
    source = await shop.accepted("bad")
    said: dict[str, Any] = {
        "reason": "misconfigured",
        "code": "190",
        "detail": "The token of 100% is wrong.",
    }
    await shop.became("bad", source, OutcomeKind.REJECTED, **said)
    shop.at += 1
    await shop.accepted("waiting", eventName="Lead")
    found = [(query, named(await asked(client, "events", **query))) for query, _ in FILTERS]
    assert found == list(FILTERS)


async def test_filters_by_place_and_time(client: Client, ours: Tenant, shop: Happening) -> None:
    await shop.delivered("e1")
    since, place = shop.at, {"domainId": ours.domain_id, "destinationId": ours.destination_id}
    assert named(await asked(client, "events", since=since, until=since + 1, **place)) == ["e1"]
    assert named(await asked(client, "events", until=since)) == []
    assert named(await asked(client, "events", since=since + 1)) == []
    assert named(await asked(client, "events", domainId="dom_other")) == []
    assert named(await asked(client, "events", destinationId="dst_other")) == []


async def test_pages_are_whole_and_new_events_move_nothing(client: Client, shop: Happening) -> None:
    for number in range(7):
        await shop.delivered(f"e{number}")
        shop.at += number % 2  # some at the same moment
    found: list[str] = []
    page = await asked(client, "events", limit=3)
    found += named(page)
    while page["nextCursor"] is not None:
        await shop.delivered(f"later{len(found)}")
        page = await asked(client, "events", limit=3, cursor=page["nextCursor"])
        found += named(page)
    assert sorted(found) == [f"e{number}" for number in range(7)]


WRONG: Final = (
    ("domain_id", "x"),
    ("unheard", "x"),
    ("outcome", "lost"),
    ("reason", "none"),
    ("limit", "201"),
    ("limit", "0"),
    ("since", "-1"),
    ("since", "yesterday"),
    ("eventId", ""),
    ("text", "x" * 301),
    ("cursor", "x"),
    ("cursor", "=" * 32),
)


async def test_a_wrong_query_is_refused_by_the_name_of_its_field(
    client: Client, ours: Tenant
) -> None:
    for field, value in WRONG:
        refusal = await refused(client, "events", **{field: value})
        assert (value, refusal) == (value, ("invalid_payload", field))


async def test_what_a_deleted_domain_did_is_still_ours(
    client: Client, ours: Tenant, services: Services, database: Database, shop: Happening
) -> None:
    await services.store.delete_domain("ssp.ourscanary.example")
    await shop.delivered("before")
    assert named(await asked(client, "events")) == ["before"]
    assert len((await asked(client, "events/before"))["timelines"]) == 1
    assert (await asked(client, "usage"))["billable"] == 1
    assert (await asked(client, "accuracy"))["totals"]["accepted"] == 1


async def test_the_timeline_of_an_event(client: Client, ours: Tenant, shop: Happening) -> None:
    event_id = "order/7 ü?#%2F"
    source = await shop.accepted(event_id, orderId="T-7")
    retry: dict[str, Any] = {"reason": "throttled", "attempt": 1, "at": shop.at + 20}
    await shop.became(event_id, source, OutcomeKind.RETRYING, **retry)
    await shop.became(event_id, source, OutcomeKind.DELIVERED, attempt=2)
    body = await asked(client, f"events/{quote(event_id, safe='')}")
    (timeline,) = body["timelines"]
    assert (timeline["eventId"], timeline["orderId"]) == (event_id, "T-7")
    assert timeline["domainId"] == ours.domain_id
    steps = timeline["steps"]
    assert [step["step"] for step in steps] == ["accepted", "routed", "retrying", "delivered"]
    assert [step["at"] - shop.at for step in steps] == [0, 10, 20, 1000]
    assert steps[2]["reason"] == "throttled"


async def test_no_such_event(client: Client, ours: Tenant) -> None:
    for event_id in ("nobody", "%00", "%ED%A0%80", "x" * 4000, "..%2F..%2Fetc"):
        async with client.get(f"/v1/org/events/{event_id}") as response:
            assert (event_id, (await error_of(response))["code"]) == (event_id, "not_found")


async def test_the_usage_of_the_month(
    client: Client, ours: Tenant, services: Services, shop: Happening, clock: JumpingClock
) -> None:
    month = period(clock.now_ms())
    await shop.delivered("billable")
    await shop.accepted("nowhere", goes=False)
    shop.at = month.since
    await shop.delivered("first")
    shop.at = month.since - 1
    await shop.delivered("last month")
    told = await asked(client, "usage")
    assert (told["periodStart"], told["periodEnd"]) == (month.since, month.until)
    assert (told["accepted"], told["billable"]) == (3, 2)
    assert (told["limit"], told["percent"], told["quotaExceeded"]) == (None, None, False)

    for most, percent, exceeded in ((3, 66, False), (2, 100, True), (1, 200, True), (0, 100, True)):
        async with services.database.changing.begin() as session:
            plan = await session.get_one(Plan, "unlimited")
            plan.monthly_events = most
        told = await asked(client, "usage")
        assert (told["limit"], told["percent"], told["quotaExceeded"]) == (most, percent, exceeded)


async def test_every_day_is_there_also_without_events(
    client: Client, shop: Happening, clock: JumpingClock
) -> None:
    await shop.delivered("today")
    shop.at -= 2 * DAY_MS
    await shop.accepted("nowhere", goes=False)
    await shop.accepted("nowhere either", goes=False)
    days = (await asked(client, "daily-usage"))["days"]
    assert len(days) == DEFAULT_DAYS
    assert [day["day"] for day in days] == sorted({day["day"] for day in days})
    assert days[-1] == {"day": TODAY, "accepted": 1, "billable": 1}
    assert days[-2] == {"day": "2026-11-19", "accepted": 0, "billable": 0}
    assert days[-3] == {"day": "2026-11-18", "accepted": 2, "billable": 0}


TOUCHED: Final[tuple[tuple[str, str, list[str]], ...]] = (
    ("2026-11-19T00:00:00.000", "2026-11-20T00:00:00.000", ["2026-11-19"]),
    ("2026-11-19T23:59:59.999", "2026-11-20T00:00:00.001", ["2026-11-19", "2026-11-20"]),
    ("2028-02-28T12:00:00.000", "2028-03-01T12:00:00.000", ["2028-02-28", "2028-02-29", "2028-03-01"]),
    ("2026-11-20T00:00:00.000", "2026-11-20T00:00:00.000", []),
    ("2026-11-20T00:00:00.000", "2026-11-10T00:00:00.000", []),
    ("1970-01-01T00:00:00.000", "1970-01-01T00:00:00.001", ["1970-01-01"]),
    ("2099-12-31T12:00:00.000", "2100-01-01T00:00:00.000", ["2099-12-31"]),
)  # fmt: skip


async def test_the_days_that_a_time_touches(client: Client, ours: Tenant) -> None:
    for since, until, expected in TOUCHED:
        query = {"since": moment(since), "until": moment(until)}
        days = (await asked(client, "daily-usage", **query))["days"]
        assert [day["day"] for day in days] == expected


def moment(text: str) -> int:
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


async def test_there_are_no_more_days_than_are_kept(
    client: Client, ours: Tenant, shop: Happening
) -> None:
    await shop.delivered("today")
    until = moment("2026-11-20T12:00:00.000")
    for query in ({"since": 0}, {"since": 0, "until": until}, {"since": until - MAX_DAYS * DAY_MS}):
        days = (await asked(client, "daily-usage", **query))["days"]
        assert (len(days), days[-1]["day"]) == (MAX_DAYS, TODAY)
        assert (await asked(client, "accuracy", **query))["totals"]["delivered"] == 1


async def test_wrong_days_are_refused(client: Client, ours: Tenant) -> None:
    for path in ("daily-usage", "accuracy"):
        assert await refused(client, path, since=10**14) == ("invalid_payload", "since")
        assert await refused(client, path, until="2026-11-20") == ("invalid_payload", "until")
        assert await refused(client, path, days=3) == ("invalid_payload", "days")


def adds_up(row: Mapping[str, Any]) -> bool:
    """Whether each accepted event is somewhere, and none twice."""
    ends = sum(row["skipped"].values()) + sum(row["failed"].values())
    return bool(row["accepted"] == row["delivered"] + ends + row["underWay"])


async def test_the_accuracy_adds_up(
    client: Client, ours: Tenant, database: Database, shop: Happening
) -> None:
    for number in range(3):
        await shop.delivered(f"good{number}")
    for kind, reason in (
        (OutcomeKind.SKIPPED, Reason.TOO_OLD),
        (OutcomeKind.SKIPPED, Reason.NO_CONSENT),
        (OutcomeKind.DUPLICATE, Reason.SAME_EVENT_ID),
        (OutcomeKind.REJECTED, Reason.REFUSED_BY_PLATFORM),
        (OutcomeKind.EXPIRED, Reason.PLATFORM_UNAVAILABLE),
        (OutcomeKind.PARKED, Reason.MISCONFIGURED),
    ):
        goes = kind not in (OutcomeKind.SKIPPED, OutcomeKind.DUPLICATE)
        source = await shop.accepted(f"{kind}-{reason}", goes=goes)
        await shop.became(f"{kind}-{reason}", source, kind, reason=reason)
    source = await shop.accepted("bot", goes=False)
    await shop.became("bot", source, OutcomeKind.SKIPPED, reason=Reason.BOT, nowhere=True)
    await shop.accepted("waiting")
    source = await shop.accepted("good0", replay_id="rpl_1")
    await shop.became("good0", source, OutcomeKind.DELIVERED, replay_id="rpl_1")
    shop.at -= DAY_MS
    await shop.delivered("yesterday")

    body = await asked(client, "accuracy")
    assert [row for row in body["rows"] if not adds_up(row)] == []
    at_destination = {
        row["day"]: row for row in body["rows"] if row["destinationId"] == ours.destination_id
    }
    assert at_destination[TODAY] == {
        "day": TODAY,
        "domainId": ours.domain_id,
        "destinationId": ours.destination_id,
        "platform": "meta",
        "accepted": 10,
        "delivered": 3,
        "skipped": {"too_old": 1, "no_consent": 1, "same_event_id": 1},
        "failed": {"refused_by_platform": 1, "platform_unavailable": 1},
        "underWay": 2,
    }
    assert at_destination["2026-11-19"]["delivered"] == 1
    (whole,) = [row for row in body["rows"] if row["destinationId"] is None]
    assert whole["skipped"] == {"bot": 1}

    totals = body["totals"]
    assert adds_up(totals)
    for name in ("accepted", "delivered", "underWay"):
        assert totals[name] == sum(row[name] for row in body["rows"])
    for name in ("skipped", "failed"):
        assert totals[name] == sum((Counter(row[name]) for row in body["rows"]), Counter())


async def test_the_accuracy_of_one_domain(
    client: Client, ours: Tenant, services: Services, database: Database, shop: Happening
) -> None:
    second = tables.DeletedDomain(
        id="dom_second", organisation_id=ours.org_id, host="x", deleted_at=0
    )
    async with services.database.changing.begin() as session:
        session.add(second)
    await shop.delivered("first")
    await Happening(database, "dom_second", "dst_2", at=shop.at).delivered("second")
    await Happening(database, "dom_third", "dst_3", at=shop.at).delivered("third")
    for domain_id, destinations in (
        (ours.domain_id, {ours.destination_id}),
        ("dom_second", {"dst_2"}),
        ("dom_third", set()),
        (None, {ours.destination_id, "dst_2"}),
    ):
        query = {"domainId": domain_id} if domain_id else {}
        rows = (await asked(client, "accuracy", **query))["rows"]
        assert {row["destinationId"] for row in rows} == destinations
