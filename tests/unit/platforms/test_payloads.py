import re
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms import meta, snackvideo
from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.event import ActionSource, Consent, Event, EventName, UserData
from schemas.outcome import Reason, Skip
from tests.strategies import events

USER: Final = {
    "email": "Ada.Lovelace@Example.com",
    "phone": "+44 20 7946 0018",
    "firstName": "Adaline",
    "lastName": "Lovelacey",
    "dateOfBirth": "1990-12-31",
    "externalId": "Customer-0042",
    "postalCode": "W1T 4JZ",
    "country": "GB",
    "ipAddress": "203.0.113.7",
    "userAgent": "Mozilla/5.0",
    "kwaiClickId": "Lw2HvYVkoj1MyzQwwNX4dg",
}


def _destination(slug: str, **changes: Any) -> Destination:
    fixed = {"id": "d1", "platform": slug, "account": "1", "sealed": ""}
    return Destination.model_validate(fixed | changes)


def _event(name: str = "PageVisit", **changes: Any) -> Event:
    fixed = {
        "eventId": "e1",
        "eventName": name,
        "eventTime": 1_795_176_000,
        "eventSourceUrl": "https://shop.example/",
        "userData": USER,
    }
    return Event.model_validate(fixed | changes)


def _name(slug: str, event: Event, **changes: Any) -> Any:
    answer = PLATFORMS[slug].payload(event, _destination(slug, **changes))
    if isinstance(answer, Skip):
        return answer.reason
    return answer.get("event_name") or answer.get("event") or answer.get("type")


@pytest.mark.parametrize("slug", PLATFORMS)
def test_nothing_that_is_hashed_can_be_read_anywhere(slug: str) -> None:
    sent = orjson.dumps(PLATFORMS[slug].payload(_event(), _destination(slug))).decode()
    bare = re.sub(r"[^a-z0-9]", "", sent.lower())
    for key in ("email", "phone", "firstName", "lastName", "dateOfBirth", "externalId"):
        assert re.sub(r"[^a-z0-9]", "", USER[key].lower()) not in bare, key
    assert "w1t4jz" not in bare


@pytest.mark.parametrize("slug", PLATFORMS)
@given(event=events(), mailbox=st.from_regex(r"[A-Za-z]{8}", fullmatch=True))
def test_no_raw_email_or_phone_in_any_payload(slug: str, event: Event, mailbox: str) -> None:
    user = {
        "email": f" {mailbox}+Tag@Example.org",
        "phone": "+44 20 7946 0018",
        "kwai_click_id": "click",
    }
    changes = {
        "event_name": EventName.LEAD,
        "event_source_url": "https://shop.example/",
        "action_source": ActionSource.WEBSITE,
        "user_data": event.user_data.model_copy(update=user),
        "consent": Consent(),
    }
    answer = PLATFORMS[slug].payload(event.model_copy(update=changes), _destination(slug))
    assert isinstance(answer, dict)
    sent = re.sub(r"[^a-z0-9@]", "", orjson.dumps(answer).decode().lower())
    assert f"{mailbox.lower()}tag@" not in sent
    assert "442079460018" not in sent


@pytest.mark.parametrize("slug", PLATFORMS)
def test_without_advanced_matching_nothing_is_hashed(slug: str) -> None:
    clicks = {"ttp": "cookie", "epik": "click", "scCookie1": "c", "rdtCid": "click"}
    event = _event(userData=USER | clicks)
    answer = PLATFORMS[slug].payload(event, _destination(slug, advancedMatching=False))
    sent = orjson.dumps(answer).decode()
    assert isinstance(answer, dict)
    assert not re.search(r"[0-9a-f]{64}", sent)
    assert ("203.0.113.7" in sent) is (slug != "snackvideo")
    assert "gb" not in sent


@pytest.mark.parametrize("slug", PLATFORMS)
def test_limited_data_use_may_be_asked_for_by_event_or_destination(slug: str) -> None:
    by_event = _event(consent={"limitedDataUse": True})
    platform = PLATFORMS[slug]
    limited = platform.payload(by_event, _destination(slug))
    assert limited == platform.payload(_event(), _destination(slug, limitedDataUse=True))
    assert limited != platform.payload(_event(), _destination(slug))


@pytest.mark.parametrize(
    ("slug", "custom", "names", "expected"),
    [
        ("meta", "Newsletter", {}, "Newsletter"),
        ("meta", None, {}, "CustomEvent"),
        ("meta", "N" * 51, {}, Reason.BAD_CUSTOM_NAME),
        ("meta", "Newsletter", {"Newsletter": "Lead"}, "Lead"),
        ("meta", "Newsletter", {"Custom": "Other"}, "Other"),
        ("meta", "Newsletter", {"Custom": "Other", "Newsletter": "Lead"}, "Lead"),
        ("tiktok", None, {}, "CustomEvent"),
        ("tiktok", "Newsletter_1-a", {}, "Newsletter_1-a"),
        ("tiktok", "Pop up", {}, Reason.BAD_CUSTOM_NAME),
        ("tiktok", "1st", {}, Reason.BAD_CUSTOM_NAME),
        ("tiktok", "N" * 50, {}, "N" * 50),
        ("tiktok", "N" * 51, {}, Reason.BAD_CUSTOM_NAME),
        ("tiktok", "Purchase", {}, Reason.BAD_CUSTOM_NAME),
        ("tiktok", "Pop up", {"Pop up": "Contact"}, "Contact"),
        ("pinterest", "Anything", {}, "custom"),
        ("pinterest", "Anything", {"Custom": "watch_video"}, "watch_video"),
        ("pinterest", "Anything", {"Custom": "Anything"}, Reason.BAD_CUSTOM_NAME),
        ("snapchat", "Anything", {}, "CUSTOM_EVENT_1"),
        ("snapchat", "Anything", {"Anything": "CUSTOM_EVENT_5"}, "CUSTOM_EVENT_5"),
        ("snapchat", "Anything", {"Anything": "CUSTOM_EVENT_6"}, Reason.BAD_CUSTOM_NAME),
        ("reddit", "Purchase", {}, {"tracking_type": "CUSTOM", "custom_event_name": "Purchase"}),
        ("reddit", None, {}, {"tracking_type": "CUSTOM", "custom_event_name": "Custom"}),
        ("reddit", "x", {"x": "SignUp"}, {"tracking_type": "SIGN_UP"}),
        ("reddit", "x", {"x": "LEAD"}, {"tracking_type": "LEAD"}),
        ("reddit", "N" * 65, {}, Reason.BAD_CUSTOM_NAME),
        ("snackvideo", None, {}, Reason.UNSUPPORTED_EVENT),
        ("snackvideo", "Anything", {}, Reason.UNSUPPORTED_EVENT),
        ("snackvideo", "Anything", {"Custom": "Other"}, Reason.UNSUPPORTED_EVENT),
        ("snackvideo", "Anything", {"Anything": "EVENT_DOWNLOAD"}, "EVENT_DOWNLOAD"),
        ("snackvideo", "Anything", {"Anything": "Lead"}, "EVENT_FORM_SUBMIT"),
        ("snackvideo", "buttonClick", {}, "EVENT_BUTTON_CLICK"),
        ("snackvideo", "Contact", {}, "EVENT_CONTACT"),
        ("snackvideo", "CompleteRegistration", {}, "EVENT_COMPLETE_REGISTRATION"),
    ],
)
def test_custom_events(slug: str, custom: str | None, names: dict[str, str], expected: Any) -> None:
    assert _name(slug, _event("Custom", customEventName=custom), eventNames=names) == expected


@pytest.mark.parametrize("slug", PLATFORMS)
def test_a_standard_event_can_be_renamed(slug: str) -> None:
    others = {"pinterest": "contact", "snapchat": "RESERVE", "snackvideo": "EVENT_CONTACT"}
    other = others.get(slug, "Contact")
    told = _name(slug, _event("Lead"), eventNames={"Lead": other})
    assert other in (told if isinstance(told, str) else told["custom_event_name"])


@pytest.mark.parametrize("name", ["InitiateCheckout", "AddPaymentInfo", "Subscribe", "StartTrial"])
def test_what_reddit_has_no_type_for_is_custom_under_its_name(name: str) -> None:
    expected = {"tracking_type": "CUSTOM", "custom_event_name": name}
    assert _name("reddit", _event(name)) == expected


@pytest.mark.parametrize(
    ("slug", "source", "expected"),
    [
        ("meta", "phone_call", "phone_call"),
        ("meta", "app", Reason.UNSUPPORTED_SOURCE),
        ("tiktok", "physical_store", Reason.UNSUPPORTED_SOURCE),
        ("pinterest", "app", Reason.UNSUPPORTED_SOURCE),
        ("pinterest", "phone_call", "offline"),
        ("snapchat", "app", Reason.UNSUPPORTED_SOURCE),
        ("snapchat", "phone_call", "OFFLINE"),
        ("reddit", "app", "APP"),
        ("reddit", "phone_call", "OTHER"),
    ],
)
def test_where_it_happened(slug: str, source: str, expected: Any) -> None:
    answer = PLATFORMS[slug].payload(_event(actionSource=source), _destination(slug))
    told = answer.reason if isinstance(answer, Skip) else answer["action_source"]
    assert told == expected


def test_reddit_is_told_a_page_only_of_what_happened_there() -> None:
    for source, is_told in (("website", True), ("physical_store", False)):
        answer = PLATFORMS["reddit"].payload(_event(actionSource=source), _destination("reddit"))
        assert isinstance(answer, dict)
        assert ("event_source_url" in answer) is is_told


@pytest.mark.parametrize("slug", PLATFORMS)
def test_only_some_platforms_cannot_do_without_the_page(slug: str) -> None:
    answer = PLATFORMS[slug].payload(_event(eventSourceUrl=None), _destination(slug))
    if slug in {"tiktok", "snapchat"}:
        assert isinstance(answer, Skip)
        assert answer.reason is Reason.MISSING_URL
    else:
        assert isinstance(answer, dict)


@pytest.mark.parametrize(
    ("told", "expected"),
    [("product_group", "product_group"), ("page", "product"), (None, "product")],
)
def test_content_type_is_one_of_two_words(told: str | None, expected: str) -> None:
    goods = {"contentType": told, "contents": [{"id": "SKU-1"}]}
    event = _event(customData=goods)
    answer = meta.payload(event, _destination("meta"))
    assert isinstance(answer, dict)
    assert answer["custom_data"]["content_type"] == expected


@pytest.mark.parametrize(
    ("user", "is_enough"),
    [
        ({"userAgent": "a"}, False),
        ({"userAgent": "a", "dateOfBirth": "1990-12-31"}, False),
        ({"city": "Rome", "country": "it", "gender": "f", "userAgent": "a"}, False),
        ({"firstName": "Ada", "gender": "f"}, False),
        ({"firstName": "Ada", "lastName": "King"}, True),
        ({"fbp": "fb.1.1554763741205.42"}, True),
        ({"fbclid": "IwAR2"}, True),
        ({"fbc": "fb.1.1554763741205"}, False),
    ],
)
def test_metas_minimum(user: dict[str, str], is_enough: bool) -> None:
    answer = meta.payload(_event(userData=user), _destination("meta"))
    assert isinstance(answer, dict) is is_enough


@pytest.mark.parametrize(
    ("cookie", "click_id", "expected"),
    [
        ("fb.1.1700000000.AbC", None, "fb.1.1700000000.AbC"),
        ("fb.1.1700000000000.AbC.AQQCAQIB", "AbC", "fb.1.1700000000000.AbC.AQQCAQIB"),
        ("fb.1.1700000000000.AbC", "abc", "fb.1.7.abc"),
        ("garbage", "AbC", "fb.1.7.AbC"),
        ("fb.1.1700000000000.AbC", "a.b", "fb.1.1700000000000.AbC"),
        (None, None, None),
    ],
)
def test_the_click_cookie(cookie: str | None, click_id: str | None, expected: str | None) -> None:
    user = UserData.model_validate({"fbc": cookie, "fbclid": click_id})
    assert meta.click_cookie(user, 7) == expected


def test_what_is_too_long_for_a_platform_is_left_out_and_not_cut() -> None:
    user = USER | {"ttclid": "E" * 1001}
    tiktok = PLATFORMS["tiktok"].payload(_event(userData=user), _destination("tiktok"))
    assert isinstance(tiktok, dict)
    assert "ttclid" not in tiktok["user"]
    order = _event(customData={"orderId": "O" * 101})
    reddit = PLATFORMS["reddit"].payload(order, _destination("reddit"))
    assert isinstance(reddit, dict)
    assert "order_id" not in reddit["metadata"]


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        (" Lw2HvYVkoj1MyzQwwNX4dg\n", "Lw2HvYVkoj1MyzQwwNX4dg"),
        ("a+b/c==", "a+b/c=="),
        ("  ", None),
        (None, None),
        ("62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f", None),
    ],
)
def test_snackvideos_click_id_is_sent_as_it_is_and_never_invented(
    told: str | None, sent: str | None
) -> None:
    event = _event("Lead", userData=USER | {"kwaiClickId": told})
    answer = snackvideo.payload(event, _destination("snackvideo"))
    assert (None if isinstance(answer, Skip) else answer["clickid"]) == sent
    if isinstance(answer, Skip):
        assert answer.reason is Reason.MISSING_CLICK_ID


def test_snackvideo_is_told_of_one_product_in_full_and_of_several_in_a_list() -> None:
    line = {"id": "SKU-1", "name": "Mug", "category": "Kitchen", "quantity": 2, "price": "12.50"}

    def properties(*contents: dict[str, Any]) -> Any:
        goods = {"currency": "BRL", "value": "25.00", "contents": contents}
        event = _event("AddToCart", customData=goods)
        answer = snackvideo.payload(event, _destination("snackvideo"))
        assert isinstance(answer, dict)
        assert type(answer["is_attributed"]) is int
        return orjson.loads(answer["properties"])

    common = {"content_id": "SKU-1", "content_type": "product", "currency": "BRL", "value": 25}
    stamp = {"event_timestamp": 1_795_176_000}
    mug = {"content_name": "Mug", "content_category": "Kitchen", "quantity": 2, "price": 12.5}
    assert properties(line) == common | stamp | mug
    several = {"quantity": 3, "contents": [{"content_id": "SKU-1", **mug}, {"content_id": "SKU-2", "quantity": 1}]}  # fmt: skip
    assert properties(line, {"id": "SKU-2"}) == common | stamp | several


def test_snackvideo_gets_a_test_under_the_consoles_click_id_and_nothing_else_is_changed() -> None:
    answer = snackvideo.payload(_event("Lead"), _destination("snackvideo"))
    assert isinstance(answer, dict)
    account = {"access_token": "token", "pixel_id": "123"}

    def body(**more: str) -> Any:
        credentials = snackvideo.Credentials.model_validate(account | more)
        return orjson.loads(snackvideo.request([orjson.dumps(answer)], credentials).body)

    posted = {**answer, "access_token": "token", "pixelId": "123"}
    assert body() == posted
    test = {"clickid": "q_6k5rENNPu9hOxaaNHn4g", "trackFlag": True}
    assert body(test_event_code="q_6k5rENNPu9hOxaaNHn4g") == posted | test


@pytest.mark.parametrize(
    ("cookie", "is_sent"),
    [
        ("1684189007728.7c73f2ae-a433-4d7b-9838-f467da98f48e", True),
        ("7c73f2ae-a433-4d7b-9838-f467da98f48e", True),
        ("7c73f2ae-a433-0d7b-9838-f467da98f48e", False),
        ("1684189007728", False),
        ("42.x", False),
    ],
)
def test_a_broken_cookie_is_left_out(cookie: str, *, is_sent: bool) -> None:
    reddit = PLATFORMS["reddit"].payload(
        _event(userData=USER | {"rdtUuid": cookie}), _destination("reddit")
    )
    assert isinstance(reddit, dict)
    assert ("uuid" in reddit["user"]) is is_sent


def test_pinterests_limited_processing_works_without_advanced_matching() -> None:
    user = {"ipAddress": "203.0.113.7", "userAgent": "a", "state": "CA", "country": "US"}
    answer = PLATFORMS["pinterest"].payload(
        _event(userData=user),
        _destination("pinterest", advancedMatching=False, limitedDataUse=True),
    )
    assert isinstance(answer, dict)
    assert answer["custom_data"] == {"opt_out_type": "LDP"}
    assert answer["user_data"].keys() >= {"st", "country"}
