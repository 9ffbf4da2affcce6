"""What we send, judged by each platform's stand-in, which knows the rules from the vendor alone."""

import re
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.base import Fate, Response
from platforms.registry import PLATFORMS
from schemas.config import DomainConfig
from schemas.event import Event
from schemas.outcome import Reason, Skip
from schemas.raw_event import RawEvent
from schemas.topics import deliveries
from streams.fan_out import fan_out
from tests.contract.stand_ins import STAND_INS, ask, call, credentials, deliver, destination
from tests.outcomes import outcomes_among
from tests.strategies import destinations, events

SLUGS: Final = sorted(PLATFORMS)
NOW: Final = 1_795_176_060
DAY: Final = 86_400
EVERYTHING: Final = {
    "email": " Ada.Lovelace+Shop@Example.COM ",
    "phone": "+44 (0)20 7946 0018",
    "firstName": "Ada",
    "lastName": "O'Neil-King",
    "gender": "Female",
    "dateOfBirth": "1990-12-31",
    "city": "São Paulo",
    "state": "New York",
    "postalCode": "10001-1234",
    "country": "US",
    "externalId": "Cust_42",
    "ipAddress": "10.0.0.1, 203.0.113.7",
    "userAgent": "Mozilla/5.0",
    "fbc": "fb.1.1795170000000.OLDclick",
    "fbp": "fb.1.1795170000000.1098115397",
    "fbclid": "IwAR2F4-dbP0l7Mn1IawQQ",
    "ttclid": "E.C.P.v3fQ2RHacdksKfof",
    "ttp": "94e2a4j9-h3ss-k5h5-98cc-c84n745mk090",
    "epik": "dj0yJnU9b2JDcFFHekV4SHJN",
    "scClickId": "a3f4b5c6-d7e8-4012-8456-7890abcdef12",
    "scCookie1": "1b2c3d4e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
    "rdtCid": "3184742045291813272",
    "rdtUuid": "1684189007728.7c73f2ae-a433-4d7b-9838-f467da98f48e",
    "kwaiClickId": "0D0NElE9N8onlSxVmaAuGA",
}
# A day more than the vendor's own limit or, where none is known, than is of any use.
STALE_DAYS: Final = dict.fromkeys(SLUGS, 8) | {"tiktok": 29}
BROWSER: Final = {"ipAddress": "203.0.113.7", "userAgent": "Mozilla/5.0"}
# The least that tells each platform who it was.
MINIMA: Final[dict[str, list[dict[str, str]]]] = {
    "meta": [
        {"email": "a@b.co"},
        {"phone": "+442079460018"},
        {"externalId": "7"},
        {"fbp": "fb.1.1795170000000.42"},
        {"fbclid": "IwAR2"},
        {"ipAddress": "203.0.113.7"},
    ],
    "tiktok": [{"email": "a@b.co"}, {"ttclid": "E.C.P.x"}, {"ttp": "x"}, BROWSER],
    "pinterest": [{"email": "a@b.co"}, BROWSER],
    "snapchat": [{"email": "a@b.co"}, {"phone": "+442079460018"}, BROWSER],
    "reddit": [
        {"email": "a@b.co"},
        {"phone": "+442079460018"},
        {"externalId": "7"},
        {"rdtCid": "3184742045291813272"},
        {"rdtUuid": "7c73f2ae-a433-4d7b-9838-f467da98f48e"},
        BROWSER,
    ],
    "snackvideo": [{"kwaiClickId": "K1"}],
}
every_platform = pytest.mark.parametrize("slug", SLUGS)


def _purchase(user: dict[str, str] = EVERYTHING, **changes: Any) -> Event:
    fixed = {
        "eventId": "o-1001-Purchase",
        "eventName": "Purchase",
        "eventTime": NOW - 60,
        "eventSourceUrl": "https://shop.example/thanks",
        "userData": user,
        "customData": {"currency": "EUR", "value": "64.98"},
    }
    return Event.model_validate(fixed | changes)


def _payload(slug: str, event: Event) -> dict[str, Any]:
    payload = PLATFORMS[slug].payload(event, destination(slug))
    assert isinstance(payload, dict), payload
    return payload


def test_every_platform_has_a_stand_in() -> None:
    assert STAND_INS.keys() == PLATFORMS.keys()


@every_platform
@given(data=st.data())
def test_any_event_is_accepted_or_skipped(slug: str, data: st.DataObject) -> None:
    event, where = data.draw(events()), data.draw(destinations(slug))
    payload = PLATFORMS[slug].payload(event, where)
    if isinstance(payload, Skip):
        assert payload.detail
        return
    answer, verdicts = deliver(slug, [payload], event.event_time_seconds + 60)
    assert (answer.code, answer.failed) == (None, {}), answer.body
    assert [verdict.fate for verdict in verdicts] == [Fate.DELIVERED]


@every_platform
def test_a_purchase_with_every_identifier_is_accepted(slug: str) -> None:
    line = {"id": 7, "name": "Runner", "category": "Shoes", "quantity": 2, "price": 32.49}
    custom = {"currency": "EUR", "orderId": 1001, "contents": [line | {"brand": "Acme"}]}
    payload = _payload(slug, _purchase(customData=custom))
    answer, verdicts = deliver(slug, [payload], NOW)
    assert answer.code is None, answer.body
    assert verdicts[0].fate is Fate.DELIVERED
    assert "64.98" in orjson.dumps(payload).decode()  # the value, from the items


@pytest.mark.parametrize(
    ("slug", "user"), [(slug, user) for slug in SLUGS for user in MINIMA[slug]]
)
def test_a_purchase_with_the_bare_minimum_is_accepted(slug: str, user: dict[str, str]) -> None:
    answer, verdicts = deliver(slug, [_payload(slug, _purchase(user))], NOW)
    assert answer.code is None, answer.body
    assert verdicts[0].fate is Fate.DELIVERED


@every_platform
def test_a_purchase_of_nothing_was_worth_nothing(slug: str) -> None:
    purchase = _purchase(customData={"currency": "EUR", "value": 0})
    payload = _payload(slug, purchase)
    answer, _ = deliver(slug, [payload], NOW)
    assert answer.code is None, answer.body
    assert re.search(r'"value\\?":"?0', orjson.dumps(payload).decode())


@every_platform
def test_no_two_destinations_and_no_test_share_a_request(slug: str) -> None:
    platform = PLATFORMS[slug]
    batch = [orjson.dumps(_payload(slug, _purchase()))]
    account = platform.Credentials.account_field
    requests = [
        platform.request(batch, credentials(slug, **changes))
        for changes in (
            {},
            {account: "124"},
            {"access_token": "another-token"},
            {"test_event_code": "TEST42"},
            {account: "124", "test_event_code": "TEST42"},
        )
    ]
    assert credentials(slug, **{account: "124"}).account == "124"
    for position, request in enumerate(requests):
        assert request not in requests[:position]


@every_platform
def test_a_test_is_seen_as_one_by_the_platform(slug: str) -> None:
    batch = [orjson.dumps(_payload(slug, _purchase()))]
    for code, is_test in (("TEST42", True), ("", False)):
        request = PLATFORMS[slug].request(batch, credentials(slug, test_event_code=code))
        assert ask(slug, request, NOW).code is None
        seen = STAND_INS[slug].read(call(slug, request, NOW))
        assert (seen.test_event_code is not None) is is_test


@every_platform
def test_one_stale_event_of_a_thousand_stays_behind_and_the_rest_is_one_batch(slug: str) -> None:
    platform, limits = PLATFORMS[slug], PLATFORMS[slug].LIMITS
    config = {"domainId": "dom", "orgId": "org", "host": "shop.example", "revision": 1}
    sync = {"syncTokenSha256": "", "destinations": [destination(slug).model_dump()]}
    domain = DomainConfig.model_validate(config | sync)
    received = {"domainId": "dom", "door": "events", "requestId": "r", "receivedAt": NOW * 1000}
    known = ("email", "phone", "ipAddress", "userAgent", "fbp", "kwaiClickId")
    purchase = _purchase({key: EVERYTHING[key] for key in known})
    stale = STALE_DAYS[slug] * DAY * 1000
    records = []
    for index in range(1000):
        event = purchase.model_copy(
            update={"event_id": f"o-{index}", "event_time": NOW * 1000 - stale * (index == 500)}
        )
        raw = RawEvent.model_validate(received | {"event": event})
        source = f"raw-events-0-{index}"
        records += fan_out(raw, domain, PLATFORMS, source=source, first=None, now_ms=NOW * 1000)

    sent = [record.value or b"" for record in records if record.topic == deliveries(slug)]
    told = outcomes_among(records)
    assert len(sent) == 999
    assert [(outcome.reason, outcome.event_id) for outcome in told] == [(Reason.TOO_OLD, "o-500")]
    batch = sent[: limits.max_events]
    assert len(batch) == 999 or limits.max_events < 999
    request = platform.request(batch, credentials(slug))
    assert len(request.body) <= limits.max_body_bytes
    answer = ask(slug, request, NOW)
    assert (answer.code, answer.failed) == (None, {}), answer.body


@every_platform
@given(marks=st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_verdict_is_about_the_event_at_its_place(slug: str, marks: list[bool]) -> None:
    marks = marks[: PLATFORMS[slug].LIMITS.max_events]
    ids = [f"{f'refuse-at-{slug}' if bad else 'o'}-{place}" for place, bad in enumerate(marks)]
    # SnackVideo's events have no id; its stand-in looks at the click id instead.
    payloads = [_payload(slug, _purchase(EVERYTHING | {"kwaiClickId": i}, eventId=i)) for i in ids]
    _, verdicts = deliver(slug, payloads, NOW)
    assert len(verdicts) == len(marks)
    for is_bad, verdict in zip(marks, verdicts, strict=True):
        assert verdict.fate is not (Fate.DELIVERED if is_bad else Fate.REJECTED)
    for is_bad, payload in zip(marks, payloads, strict=True):
        _, [alone] = deliver(slug, [payload], NOW)
        assert alone.fate is (Fate.REJECTED if is_bad else Fate.DELIVERED)


@every_platform
def test_a_success_that_was_none_is_seen_as_one(slug: str) -> None:
    platform, stand_in = PLATFORMS[slug], STAND_INS[slug]
    request = platform.request([orjson.dumps(_payload(slug, _purchase()))], credentials(slug))
    asked = call(slug, request, NOW)
    answer = stand_in.failed_in_200(asked, stand_in.read(asked))
    assert answer.status == 200
    [verdict] = platform.read(Response(answer.status, answer.body), 1)
    assert verdict.fate is not Fate.DELIVERED


@every_platform
@pytest.mark.parametrize(
    ("token", "fate"), [("expired", Fate.MISCONFIGURED), ("forbidden", Fate.MISCONFIGURED)]
)
def test_a_bad_token_is_the_destinations_fault(slug: str, token: str, fate: Fate) -> None:
    platform = PLATFORMS[slug]
    batch = [orjson.dumps(_payload(slug, _purchase()))]
    answer = ask(slug, platform.request(batch, credentials(slug, access_token=token)), NOW)
    [verdict] = platform.read(Response(answer.status, answer.body), 1)
    assert verdict.fate is fate
