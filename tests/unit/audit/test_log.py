"""What the event log answers, on both databases."""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from audit.log import SqlEventLog
from audit.store import EventLogStore
from schemas.event_log import EventPage, EventQuery, LoggedDelivery
from schemas.outcome import OutcomeKind, Reason
from tests.unit.audit.told import DAY_MS, META, NOON, TIKTOK, Told, consumed

REFUSED = OutcomeKind.REJECTED
OWN = ["dom_1", "dom_2"]


async def ask(log: SqlEventLog, domain_ids: Sequence[str] = OWN, **query: Any) -> EventPage:
    """A page; the query is in the API's own words."""
    return await log.events(domain_ids, EventQuery.model_validate(query))


def ids(page: EventPage) -> list[str]:
    return [one.event_id for one in page.events]


async def every_page(log: SqlEventLog, **query: Any) -> list[LoggedDelivery]:
    """All pages, one after the other."""
    found: list[LoggedDelivery] = []
    cursor = None
    while True:
        page = await ask(log, **query, **({"cursor": cursor} if cursor else {}))
        found += page.events
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


@pytest.fixture
async def filled(store: EventLogStore, log: SqlEventLog) -> SqlEventLog:
    """Events of three domains, one of which belongs to somebody else."""
    first = Told(1, order_id="T-1", dispatch_key="job-1")
    second = Told(2, received_at=NOON + 1000, name="Lead", order_id="T-2")
    third = Told(3, domain_id="dom_2", received_at=NOON + 2000)
    theirs = Told(1, domain_id="dom_3", received_at=NOON + 500, order_id="T-1")
    robot = Told(4, received_at=NOON + 3000)
    reason = {"reason": Reason.NO_CONSENT, "detail": "The person did not consent."}
    values = [
        first.routing(META, TIKTOK),
        first.outcome(attempt=2),
        first.outcome(OutcomeKind.RETRYING, TIKTOK, at=100, attempt=1, reason=Reason.THROTTLED),
        second.routing(META),
        second.refused(code="100", detail="Ungültiger Wert: 50% of _all_ values"),
        second.outcome(OutcomeKind.SKIPPED, TIKTOK, **reason),  # type: ignore[arg-type]
        third.routing(META),
        theirs.routing(META),
        theirs.refused(code="100", detail="Ungültiger Wert"),
        robot.routing(),
        robot.outcome(OutcomeKind.SKIPPED, ("", ""), reason=Reason.BOT),
    ]
    await store.keep(consumed(values))
    return log


async def test_the_last_received_comes_first_with_all_that_is_known(filled: SqlEventLog) -> None:
    page = await ask(filled)
    assert ids(page) == ["e-4", "e-3", "e-2", "e-2", "e-1", "e-1"]
    assert page.next_cursor is None
    told = {(one.event_id, one.destination_id): one for one in page.events}
    done = told["e-1", "dst_meta"]
    assert done.model_dump(by_alias=False, exclude={"delivery_id"}) == {
        "domain_id": "dom_1",
        "destination_id": "dst_meta",
        "platform": "meta",
        "event_id": "e-1",
        "event_name": "Purchase",
        "event_time": NOON - 5000,
        "order_id": "T-1",
        "received_at": NOON,
        "outcome": "delivered",
        "reason": None,
        "code": None,
        "detail": None,
        "attempt": 2,
        "at": NOON + 500,
        "source": "raw-events-0-1",
        "first_source": None,
        "dispatch_key": "job-1",
        "replay_id": None,
    }
    refused = told["e-2", "dst_meta"]
    assert (refused.reason, refused.code) == (Reason.REFUSED_BY_PLATFORM, "100")
    assert refused.detail == "Ungültiger Wert: 50% of _all_ values"
    assert told["e-1", "dst_tiktok"].outcome == "retrying"
    assert told["e-3", "dst_meta"].outcome == "routed"
    robot = told["e-4", None]
    assert (robot.platform, robot.outcome, robot.reason) == (None, "skipped", Reason.BOT)


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"domainId": "dom_2"}, ["e-3"]),
    ({"domainId": "dom_3"}, []),
    ({"destinationId": "dst_tiktok"}, ["e-2", "e-1"]),
    ({"platform": "meta"}, ["e-3", "e-2", "e-1"]),
    ({"eventName": "Lead"}, ["e-2", "e-2"]),
    ({"outcome": "rejected"}, ["e-2"]),
    ({"outcome": "routed"}, ["e-3"]),
    ({"outcome": "retrying"}, ["e-1"]),
    ({"reason": "no_consent"}, ["e-2"]),
    ({"reason": "bot", "outcome": "skipped"}, ["e-4"]),
    ({"eventId": "e-1"}, ["e-1", "e-1"]),
    ({"orderId": "T-1"}, ["e-1", "e-1"]),
    ({"orderId": "T-9"}, []),
    ({"orderId": "T-2", "platform": "meta"}, ["e-2"]),
    ({"since": NOON + 1000}, ["e-4", "e-3", "e-2", "e-2"]),
    ({"until": NOON + 1000}, ["e-1", "e-1"]),
    ({"since": NOON + 1000, "until": NOON + 2001, "platform": "meta"}, ["e-3", "e-2"]),
    ({"text": "consent"}, ["e-2"]),
    ({"text": "UNGÜLTIGER"}, ["e-2"]),
    ({"text": "100"}, ["e-2"]),
    ({"text": "0% of _all_"}, ["e-2"]),
    ({"text": "%"}, ["e-2"]),
    ({"text": "_"}, ["e-2"]),
    ({"text": "5_%"}, []),
    ({"text": "\\"}, []),
    ({"text": "did not", "outcome": "rejected"}, []),
    ({"text": "\x00"}, []),
    ({"eventId": "' OR 1=1 --"}, []),
    ({"eventName": "Lead", "outcome": "skipped", "reason": "no_consent", "text": "PERSON"}, ["e-2"]),
]  # fmt: skip


async def test_filters(filled: SqlEventLog) -> None:
    found = [(query, ids(await ask(filled, **query))) for query, _ in FILTERS]
    assert found == FILTERS


@pytest.mark.parametrize("domain_ids", [[], ["dom_9"]])
async def test_nothing_of_others_is_told(filled: SqlEventLog, domain_ids: list[str]) -> None:
    for query in ({}, {"domainId": "dom_1"}, {"text": "n"}, {"orderId": "T-1"}, {"eventId": "e-1"}):
        assert (await ask(filled, domain_ids, **query)).events == ()
    assert await filled.timeline(domain_ids, "e-1") == []
    assert await filled.accuracy(domain_ids, 0, 10**14) == []
    assert await filled.usage(domain_ids, 0, 10**14) == []


async def test_a_domain_that_is_named_twice_is_told_of_once(filled: SqlEventLog) -> None:
    assert len((await ask(filled, ["dom_1", "dom_1"])).events) == 5


def _many(numbers: Iterable[int]) -> list[bytes | None]:
    """Many of them within one millisecond."""
    return [
        Told(number, domain_id=OWN[number % 2], received_at=NOON + number // 10).outcome(
            to=(META, TIKTOK)[number % 2]
        )
        for number in numbers
    ]


async def test_pages_follow_one_another_whatever_comes_meanwhile(
    store: EventLogStore, log: SqlEventLog
) -> None:
    await store.keep(consumed(_many(range(100))))
    seen: list[LoggedDelivery] = []
    cursor: dict[str, str] = {}
    for turn in range(100):
        page = await ask(log, limit=7, **cursor)
        seen += page.events
        if page.next_cursor is None:
            break
        cursor = {"cursor": page.next_cursor}
        newer = _many(range(1000 + turn * 10, 1010 + turn * 10))
        await store.keep(consumed(newer, 100 + turn * 10))
    assert len(seen) == len({one.delivery_id for one in seen}) == 100
    assert {one.event_id for one in seen} == {f"e-{number}" for number in range(100)}
    assert [one.received_at for one in seen] == sorted(
        (one.received_at for one in seen), reverse=True
    )


async def test_the_last_page_says_so(store: EventLogStore, log: SqlEventLog) -> None:
    await store.keep(consumed(_many(range(10))))
    page = await ask(log, limit=10)
    assert (len(page.events), page.next_cursor) == (10, None)
    page = await ask(log, limit=9)
    assert page.next_cursor is not None
    page = await ask(log, limit=9, cursor=page.next_cursor)
    assert (len(page.events), page.next_cursor) == (1, None)


@pytest.mark.parametrize("cursor", ["", "x", "é", "A" * 31, "A" * 33, "!" * 32, "A" * 32 + "\n"])
async def test_a_cursor_that_is_none_of_ours_is_refused(log: SqlEventLog, cursor: str) -> None:
    with pytest.raises(ValidationError, match="cursor"):
        EventQuery.model_validate({"cursor": cursor})
    with pytest.raises(ValueError, match="cursor"):
        await log.events(OWN, EventQuery.model_construct(cursor=cursor))


async def test_a_cursor_of_nowhere_finds_what_comes_after_it(filled: SqlEventLog) -> None:
    for cursor in ("_" * 32, "A" * 32):
        assert (await ask(filled, cursor=cursor)).events == ()
    assert len((await ask(filled, cursor="fwAA" + "A" * 28)).events) == 6


async def test_more_texts_match_than_are_looked_up_one_by_one(
    store: EventLogStore, log: SqlEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.log._MOST_TEXTS", 100)
    told = [
        Told(number, domain_id=OWN[number % 2], received_at=NOON + number).refused(
            detail=f"Parameter {number} is wrong."
        )
        for number in range(250)
    ]
    good = [Told(500 + number, received_at=NOON + number).outcome() for number in range(50)]
    await store.keep(consumed([*told, *good]))
    assert len(await every_page(log, text="PARAMETER")) == 250
    assert ids(await ask(log, text="parameter 24", limit=3)) == ["e-249", "e-248", "e-247"]


async def test_every_filter_finds_what_looking_at_all_finds(
    store: EventLogStore, log: SqlEventLog
) -> None:
    dice = random.Random(3)
    values = []
    for number in range(400):
        one = Told(
            number % 90,
            domain_id=f"dom_{dice.randrange(3)}",
            received_at=NOON + dice.randrange(50) * 1000 + number % 7 * 40 * DAY_MS,
            name=dice.choice(["Purchase", "Lead"]),
            order_id=dice.choice([None, "T-1", "T-2"]),
        )
        to = dice.choice([META, TIKTOK])
        values += [
            one.routing(to),
            dice.choice([one.outcome(to=to), one.refused(to, code=str(number % 5)), None]),
        ]
    await store.keep(consumed(values))
    domain_ids = ["dom_0", "dom_1"]
    everything = [
        one
        for domain in domain_ids
        for one in await every_page_of(log, domain_ids, domainId=domain)
    ]
    assert len(everything) > 200
    for _ in range(40):
        query = {
            name: value
            for name, value in {
                "platform": dice.choice(["meta", None, None]),
                "destinationId": dice.choice(["dst_tiktok", None, None]),
                "eventName": dice.choice(["Lead", None]),
                "outcome": dice.choice(["rejected", "delivered", "routed", None, None]),
                "orderId": dice.choice(["T-1", None, None]),
                "eventId": dice.choice(["e-5", None, None, None]),
                "since": dice.choice([NOON + 20_000, None]),
                "until": dice.choice([NOON + 81 * DAY_MS, None]),
                "text": dice.choice(["3", "BAD", None, None]),
                "limit": dice.choice([3, 50]),
            }.items()
            if value is not None
        }
        found = await every_page_of(log, domain_ids, **query)
        wanted = [one for one in everything if _passes(one, query)]
        assert Counter(one.delivery_id for one in found) == Counter(
            one.delivery_id for one in wanted
        ), query


async def every_page_of(
    log: SqlEventLog, domain_ids: Sequence[str], **query: Any
) -> list[LoggedDelivery]:
    """All pages of some domains."""
    found: list[LoggedDelivery] = []
    page = await ask(log, domain_ids, **query)
    found += page.events
    while page.next_cursor is not None:
        page = await ask(log, domain_ids, **query | {"cursor": page.next_cursor})
        found += page.events
    return found


def _passes(one: LoggedDelivery, query: dict[str, Any]) -> bool:
    told = one.model_dump(by_alias=True)
    text = f"{one.code or ''}\n{one.detail or ''}".casefold()
    same = ("platform", "destinationId", "eventName", "outcome", "orderId", "eventId")
    return (
        all(told[name] == query[name] for name in same if name in query)
        and one.received_at >= query.get("since", 0)
        and one.received_at < query.get("until", 10**15)
        and query.get("text", "").casefold() in text
    )


async def test_a_timeline_tells_all_that_happened(store: EventLogStore, log: SqlEventLog) -> None:
    one = Told(1, order_id="T-1")
    copy = Told(2, received_at=NOON + 5_000)
    copied = [
        (value or b"").replace(b'"e-2"', b'"e-1"')
        for value in (
            copy.routing(first=one.source),
            copy.outcome(
                OutcomeKind.DUPLICATE, at=9, reason=Reason.SAME_EVENT_ID, first_source=one.source
            ),
        )
    ]
    again = Told(1, replay_id="rpl_1")
    values = [
        one.routing(META),
        one.outcome(OutcomeKind.RETRYING, at=100, attempt=1, reason=Reason.THROTTLED, code="4"),
        one.outcome(OutcomeKind.PARKED, at=200, attempt=2, reason=Reason.MISCONFIGURED),
        one.outcome(at=300, attempt=3),
        one.outcome(
            OutcomeKind.SKIPPED, TIKTOK, at=10, reason=Reason.EVENT_DISABLED, detail="Off."
        ),
        *copied,
        again.routing(META, at=60_000),
        again.outcome(at=61_000),
        Told(1, domain_id="dom_3").routing(META),
    ]
    await store.keep(consumed(values))
    (found,) = await log.timeline(OWN, "e-1")
    assert (found.domain_id, found.event_id, found.order_id) == ("dom_1", "e-1", "T-1")
    assert [(step.step, step.at - NOON, step.platform) for step in found.steps] == [
        ("accepted", 0, None),
        ("routed", 10, "meta"),
        ("skipped", 10, "tiktok"),
        ("retrying", 100, "meta"),
        ("parked", 200, "meta"),
        ("delivered", 300, "meta"),
        ("accepted", 5_000, None),
        ("duplicate", 5_009, "meta"),
        ("routed", 60_000, "meta"),
        ("delivered", 61_000, "meta"),
    ]
    steps = found.steps
    assert (steps[0].door, steps[0].source) == ("events", "raw-events-0-1")
    assert (steps[2].detail, steps[3].code, steps[3].attempt) == ("Off.", "4", 1)
    assert [step.replay_id for step in steps[-2:]] == ["rpl_1", "rpl_1"]
    assert await log.timeline(OWN, "e-7") == []
    assert await log.timeline(OWN, "\x00") == []


async def test_an_event_whose_routing_is_not_known_was_accepted_too(
    store: EventLogStore, log: SqlEventLog
) -> None:
    await store.keep(consumed([Told().outcome()]))
    (found,) = await log.timeline(OWN, "e-1")
    assert [(step.step, step.door) for step in found.steps] == [
        ("accepted", None),
        ("delivered", None),
    ]


async def test_accuracy_adds_up_by_day_and_destination(
    store: EventLogStore, log: SqlEventLog
) -> None:
    consent: dict[str, Any] = {"reason": Reason.NO_CONSENT}
    copied: dict[str, Any] = {"reason": Reason.SAME_EVENT_ID, "first_source": "raw-events-0-1"}
    values = []
    for number in range(10):
        one = Told(number, received_at=NOON + number)
        values += [one.routing(META, TIKTOK), one.outcome(to=TIKTOK)]
        if number < 3:
            values.append(one.outcome())
        elif number < 5:
            values.append(one.refused())
        elif number < 6:
            values.append(one.outcome(OutcomeKind.EXPIRED, reason=Reason.PLATFORM_UNAVAILABLE))
        elif number < 7:
            values.append(one.outcome(OutcomeKind.PARKED, reason=Reason.MISCONFIGURED))
    values += [
        Told(20).outcome(OutcomeKind.SKIPPED, **consent),
        Told(21).outcome(OutcomeKind.DUPLICATE, **copied),
        Told(22).outcome(OutcomeKind.SKIPPED, ("", ""), reason=Reason.BOT),
        Told(23, replay_id="rpl_1").outcome(),
        Told(24, received_at=NOON + DAY_MS // 2).outcome(),
        Told(25, received_at=NOON - DAY_MS).outcome(),
        Told(26, domain_id="dom_3").outcome(),
    ]
    await store.keep(consumed(values))
    midnight = NOON - NOON % DAY_MS
    rows = await log.accuracy(OWN, midnight + 5, midnight + 6)
    assert {(row.day, row.domain_id) for row in rows} == {("2026-01-01", "dom_1")}
    told = {row.destination_id: row for row in rows}
    assert told["dst_tiktok"].delivered == told["dst_tiktok"].accepted == 10
    assert told[None].skipped == {Reason.BOT: 1}
    meta = told["dst_meta"]
    assert (meta.accepted, meta.delivered, meta.under_way) == (12, 3, 4)
    assert meta.failed == {Reason.REFUSED_BY_PLATFORM: 2, Reason.PLATFORM_UNAVAILABLE: 1}
    assert meta.skipped == {Reason.NO_CONSENT: 1, Reason.SAME_EVENT_ID: 1}
    for row in rows:
        ended = row.delivered + sum(row.skipped.values()) + sum(row.failed.values())
        assert row.accepted == ended + row.under_way
    days = {row.day for row in await log.accuracy(OWN, midnight - 1, midnight + DAY_MS + 1)}
    assert days == {"2025-12-31", "2026-01-01", "2026-01-02"}
    assert {row.day for row in await log.accuracy(OWN, midnight, midnight + DAY_MS)} == {
        "2026-01-01"
    }


async def test_usage_is_told_by_day(store: EventLogStore, log: SqlEventLog) -> None:
    values = [
        Told(1).routing(META, TIKTOK),
        Told(2).routing(),
        Told(3, domain_id="dom_2", received_at=NOON + 1).routing(META),
        Told(4, received_at=NOON + DAY_MS).routing(META),
        Told(1, replay_id="rpl_1").routing(META),
        Told(5, domain_id="dom_3").routing(META),
    ]
    await store.keep(consumed(values))
    found = await log.usage(OWN, NOON - 30 * DAY_MS, NOON + DAY_MS)
    assert [(day.day, day.accepted, day.billable) for day in found] == [
        ("2026-01-01", 3, 2),
        ("2026-01-02", 1, 1),
    ]


async def test_an_order_with_many_events_is_told_of_to_its_end(
    store: EventLogStore, log: SqlEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.log._MOST_COPIES", 20)
    values = [
        Told(number, received_at=NOON + number, order_id="T-1").routing(META)
        for number in range(50)
    ]
    await store.keep(consumed(values))
    assert len((await ask(log, orderId="T-1", limit=10)).events) == 10
    seen = await every_page(log, orderId="T-1", limit=10)
    assert len({one.event_id for one in seen}) == 50
