"""The vectors: what a value must become, what an answer must mean."""

from datetime import datetime
from typing import Any, Final

import orjson
import pytest

from platforms import meta
from platforms.base import Fate, Response, Verdict
from platforms.registry import PLATFORMS
from schemas.event import Event, EventName, UserData
from schemas.outcome import Reason, Skip
from tests.golden.storefront import destination, named, storefront_event, vectors

BATCH: Final = 3
VERDICTS: Final = {"permanent, this event": Verdict(Fate.REJECTED, "10005", "x")}
REJECTIONS: Final = {
    "no_match_key": Reason.TOO_FEW_MATCH_KEYS,
    "no_match_keys": Reason.TOO_FEW_MATCH_KEYS,
}
OUTCOMES: Final = {
    "delivered": {Fate.DELIVERED},
    "batch_rejected_split": {Fate.REFUSED_BATCH},
    "auth_stop": {Fate.MISCONFIGURED},
    "retry_later": {Fate.RETRYABLE, Fate.THROTTLED},
}
# What a platform calls an identifier → what we do.
OURS: Final = {
    "em": "email",
    "email": "email",
    "ph": "phone",
    "phone": "phone",
    "fn": "firstName",
    "first_name": "firstName",
    "ln": "lastName",
    "last_name": "lastName",
    "ct": "city",
    "city": "city",
    "st": "state",
    "state": "state",
    "zp": "postalCode",
    "zip_code": "postalCode",
    "country": "country",
    "db": "dateOfBirth",
    "ge": "gender",
    "external_id": "externalId",
    "ttclid": "ttclid",
    "ttp": "ttp",
    "ip": "ipAddress",
    "user_agent": "userAgent",
}


def _cases(*keys: str) -> list[Any]:
    """The storefront cases that have all of ``keys``, and are not of an API we do not speak."""
    return [
        pytest.param(slug, case, id=case["id"])
        for slug in ("pinterest", "snapchat", "reddit")
        for case in vectors(slug)["cases"]
        if all(key in case for key in keys) and "v2-shape" not in case["id"]
    ]


def _at(payload: Any, path: str) -> Any:
    for key in path.split("."):
        payload = payload.get(key) if isinstance(payload, dict) else None
    return payload


def _identity(slug: str, key: str = "identity") -> list[Any]:
    return [pytest.param(slug, row, id=f"{slug}-{row['field']}") for row in vectors(slug)[key]]


def _event_of(row: dict[str, Any]) -> Event:
    user = {"fbp": "fb.1.1700000000000.42", "ipAddress": "203.0.113.7", "userAgent": "agent"}
    return Event.model_validate(
        {
            "eventId": "e1",
            "eventName": "PageVisit",
            "eventTime": 1_700_000_000,
            "eventSourceUrl": "https://shop.example/",
            "userData": user | {OURS[row["field"]]: row["raw"]},
        }
    )


@pytest.mark.parametrize(
    ("slug", "row"), [*_identity("meta"), *_identity("tiktok"), *_identity("meta", "traps")]
)
def test_an_identifier_is_sent_as_the_vendor_writes_it(slug: str, row: dict[str, Any]) -> None:
    payload = PLATFORMS[slug].payload(_event_of(row), destination(slug))
    assert isinstance(payload, dict)
    if slug == "tiktok":
        assert payload["user"].get(row["field"]) == row["sent"]
    else:
        expected = row.get("recommended_sha256")
        assert payload["user_data"].get(row["field"]) == ([expected] if expected else None)


@pytest.mark.parametrize("row", vectors("meta")["fbc"])
def test_the_click_cookie_is_kept_or_built_byte_for_byte(row: dict[str, Any]) -> None:
    user = UserData.model_validate({"fbclid": row["fbclid"], "fbc": row["fbc_cookie"]})
    assert meta.click_cookie(user, row["first_seen_ms"] or 0) == row["expected"]


@pytest.mark.parametrize(("slug", "case"), _cases("input", "expect_event"))
def test_the_whole_event(slug: str, case: dict[str, Any]) -> None:
    event = storefront_event(case["input"])
    assert PLATFORMS[slug].payload(event, destination(slug)) == case["expect_event"]


@pytest.mark.parametrize(("slug", "case"), _cases("input", "expect_fields"))
def test_some_fields_of_the_event(slug: str, case: dict[str, Any]) -> None:
    payload = PLATFORMS[slug].payload(storefront_event(case["input"]), destination(slug))
    assert isinstance(payload, dict)
    for path, expected in case["expect_fields"].items():
        assert _at(payload, path) == expected
    for path in case.get("expect_absent", ()):
        assert _at(payload, path) is None


@pytest.mark.parametrize(("slug", "case"), _cases("input", "expect_reject"))
def test_what_is_not_sent(slug: str, case: dict[str, Any]) -> None:
    event = storefront_event(case["input"])
    platform = PLATFORMS[slug]
    if case["expect_reject"] == "event_too_old":
        now = datetime.fromisoformat(case["now"]).timestamp()
        assert now - event.event_time_seconds > platform.LIMITS.max_age_seconds
        return
    skip = platform.payload(event, destination(slug))
    assert isinstance(skip, Skip)
    assert skip.reason is REJECTIONS[case["expect_reject"]]


@pytest.mark.parametrize(("slug", "case"), _cases("map"))
def test_event_names(slug: str, case: dict[str, Any]) -> None:
    for name, expected in case["map"].items():
        # What is not one of our events is a custom one that the merchant has mapped.
        changes = {"eventNames": {name: expected}}
        payload = PLATFORMS[slug].payload(named(name), destination(slug, **changes))
        assert isinstance(payload, dict)
        assert expected in (payload.get("event_name"), _at(payload, "type.tracking_type"))


@pytest.mark.parametrize(("slug", "case"), _cases("expect_requests"))
def test_the_size_of_a_batch(slug: str, case: dict[str, Any]) -> None:
    assert PLATFORMS[slug].LIMITS.max_events == max(case["expect_requests"])


@pytest.mark.parametrize(("slug", "case"), _cases("expect_request"))
def test_the_request(slug: str, case: dict[str, Any]) -> None:
    expected = case["expect_request"]
    platform = PLATFORMS[slug]
    fields = {"pixel_id": "PIX", "access_token": "TOKEN"}
    if slug == "pinterest":
        fields["ad_account_id"] = "ACCOUNT"
    credentials = platform.Credentials.model_validate(fields)
    request = platform.request([b"{}"], credentials)
    query = "".join(f"?{key}={value}" for key, value in request.query.items())
    ids = {"{pixel_id}": "PIX", "{ad_account_id}": "ACCOUNT", "{token}": "TOKEN"}
    url = expected["url"]
    for placeholder, value in ids.items():
        url = url.replace(placeholder, value)
    assert platform.BASE_URL + request.path + query == url
    assert request.method == expected["method"]
    assert request.headers.keys() == expected["headers"].keys()
    assert request.headers.get("Authorization") in (None, "Bearer TOKEN")
    body = orjson.loads(request.body)
    assert list(body) == expected["body_keys"]
    if "data_keys" in expected:
        assert list(body["data"]) == expected["data_keys"]


@pytest.mark.parametrize(("slug", "case"), _cases("response"))
def test_what_an_answer_means(slug: str, case: dict[str, Any]) -> None:
    expected = case["expect_outcome"]
    body = case["response"].get("body")
    response = Response(
        case["response"]["status"],
        body.encode() if isinstance(body, str) else orjson.dumps(body),
        {name.lower(): value for name, value in case["response"].get("headers", {}).items()},
    )
    size = case.get("batch_size", len(expected) if isinstance(expected, list) else BATCH)
    verdicts = PLATFORMS[slug].read(response, size)
    if isinstance(expected, dict):
        fates = {
            "permanent": Fate.REJECTED,
            "resend": Fate.REFUSED_BATCH,
        }
        for kind, positions in expected.items():
            assert {verdicts[position].fate for position in positions} == {fates[kind]}
    else:
        each = expected if isinstance(expected, list) else [expected] * size
        for verdict, word in zip(verdicts, each, strict=True):
            assert verdict.fate in OUTCOMES[word]


@pytest.mark.parametrize("case", vectors("snackvideo")["cases"])
def test_a_part_of_snackvideos_body_or_what_its_answer_means(case: dict[str, Any]) -> None:
    given, expected = case["in"], case["out"]
    platform = PLATFORMS["snackvideo"]
    if "response" in given:
        response = Response(200, orjson.dumps(given["response"]))
        assert platform.read(response, 1) == [VERDICTS[expected]]
        return
    body = platform.payload(_kwai_event(given), destination("snackvideo"))
    assert isinstance(body, dict)
    if "properties" in expected:
        assert isinstance(body["properties"], str)
        ours, wanted = orjson.loads(body["properties"]), orjson.loads(expected["properties"])
        assert ours.items() >= wanted.items()
        assert [name for name in ours if name in wanted] == list(wanted)
    else:
        assert body.items() >= expected.items()


def _kwai_event(given: dict[str, Any]) -> Event:
    """The event behind a fragment; a name that is not ours is a custom one."""
    name = given.get("event", "AddToCart")
    name = {"CompleteRegistration": "SignUp"}.get(name, name)
    is_ours = name in set(EventName)
    goods = given.get("properties", {})
    return Event.model_validate(
        {
            "eventId": "e1",
            "eventName": name if is_ours else "Custom",
            "customEventName": None if is_ours else name,
            "eventTime": 1_700_000_000,
            "userData": {"kwaiClickId": given.get("click_id", "click")},
            "customData": {
                "currency": goods.get("currency", "BRL"),
                "value": goods.get("value", 1),
                "contentType": goods.get("content_type"),
                "contents": [{"id": goods["content_id"]}] if goods else [],
            },
        }
    )
