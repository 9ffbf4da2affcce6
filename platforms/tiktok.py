"""TikTok: Events API 2.0 of the Business API v1.3.

https://business-api.tiktok.com/portal/docs?id=1771101303285761

TikTok answers HTTP 200 to most errors, with its own ``code`` in the body, and takes unknown field
names without a word: what is sent here is exactly what its reference lists.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from platforms import answers, identity, nobody
from platforms.accounts import PixelCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_number, basket, content_type
from platforms.mapping import array, is_limited, present, renamed
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName, UserData
from schemas.outcome import Reason, Skip

SLUG = "tiktok"
NAME = "TikTok"
BASE_URL = "https://business-api.tiktok.com"
# No limit of age or size is documented: 28 days is the longest attribution window, and the size
# holds a full batch of events with every identifier.
LIMITS = Limits(
    max_events=1000,
    max_body_bytes=3_000_000,
    max_age_seconds=28 * 86400,
    dedupe_window_seconds=48 * 3600,
)
BLOCK = Block(name=("event",), id=("event_id",), time=("event_time",))

EVENT_NAMES: Final = {
    EventName.PAGE_VISIT: "Pageview",
    EventName.VIEW_CONTENT: "ViewContent",
    EventName.SEARCH: "Search",
    EventName.ADD_TO_CART: "AddToCart",
    EventName.ADD_TO_WISHLIST: "AddToWishlist",
    EventName.INITIATE_CHECKOUT: "InitiateCheckout",
    EventName.ADD_PAYMENT_INFO: "AddPaymentInfo",
    EventName.PURCHASE: "CompletePayment",
    EventName.LEAD: "SubmitForm",
    EventName.SIGN_UP: "CompleteRegistration",
    EventName.SUBSCRIBE: "Subscribe",
    EventName.START_TRIAL: "StartTrial",
    EventName.CUSTOM: "CustomEvent",
}
# https://ads.tiktok.com/help/article/supported-standard-events, and the older names still taken
STANDARD_NAMES: Final = frozenset(EVENT_NAMES.values()) - {"CustomEvent"} | {
    "ApplicationApproval",
    "ClickButton",
    "Contact",
    "CustomizeProduct",
    "Download",
    "FindLocation",
    "Lead",
    "PlaceAnOrder",
    "Purchase",
    "Schedule",
    "SubmitApplication",
}
# https://ads.tiktok.com/help/article/custom-events
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")

IDENTIFIERS: Final[identity.Identifiers] = (
    ("email", "email", identity.email),
    ("phone", "phone", identity.phone),
    ("external_id", "external_id", identity.verbatim),
    ("first_name", "first_name", identity.letters_digits),
    ("last_name", "last_name", identity.letters_digits),
    ("zip_code", "postal_code", identity.postal_joined),
)

MAX_CLICK_ID_CHARS: Final = 1000

# https://business-api.tiktok.com/portal/docs?id=1737172488964097 (return codes)
_TAKEN: Final = {
    0: None,
    20001: "taken in part; TikTok does not say which",
    40050: "a duplicate of what TikTok already has",
}
_THROTTLED: Final = frozenset({40100, 40132, 61000})
_LATER: Final = frozenset({40201, 40202, 60001, *range(50000, 60000)})
# Permission (40001), version or route gone (40006, 40051, 40400), tokens (401xx), blocked (41000).
_ACCOUNT: Final = frozenset({40001, 40006, 40051, 40400, 41000, *range(40101, 40200)})
# The rest of 400xx is about what was sent.
_REFUSED: Final = frozenset(range(40000, 40100)) - _ACCOUNT
_BAD_PARAMETER: Final = frozenset({"40002"})
_POSITION: Final = re.compile(r"\bBatch\.(\d{1,4})\.", re.ASCII)


class Credentials(PixelCredentials):
    """A pixel code and a token made in Events Manager for the same ad account."""


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """A web event. With advanced matching off, only click id, cookie, ip and user agent tell who
    it was."""
    if event.action_source is not ActionSource.WEBSITE:
        return Skip(Reason.UNSUPPORTED_SOURCE, "a TikTok pixel takes events of a website only")
    if event.event_source_url is None:
        return Skip(Reason.MISSING_URL, "TikTok wants eventSourceUrl with events of a website")
    name = _event_name(event, destination)
    if isinstance(name, Skip):
        return name
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    user = _user(event.user_data, destination)
    if not user:
        return Skip(Reason.TOO_FEW_MATCH_KEYS, "TikTok needs at least one identifier")
    page = {"url": event.event_source_url, "referrer": event.referrer_url}
    return present(
        {
            "event": name,
            "event_time": event.event_time_seconds,
            "event_id": event.event_id,
            "user": user,
            "page": present(page),
            "properties": _properties(event, goods),
            "limited_data_use": is_limited(event, destination) or None,
        }
    )


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for up to 1,000 events of one pixel."""
    code = credentials.test_event_code
    test = b',"test_event_code":' + orjson.dumps(code) if code else b""
    source = orjson.dumps(credentials.pixel_id)
    return Request(
        path="/open_api/v1.3/event/track/",
        body=b'{"event_source":"web","event_source_id":%b,"data":%b%b}'
        % (source, array(batch), test),
        headers={
            "Content-Type": "application/json",
            "Access-Token": credentials.access_token.get_secret_value(),
        },
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """TikTok takes a request whole or not at all; it may name the first event that it refuses."""
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    number = answers.number(body.get("code"))
    code, detail = answers.safe_code(body.get("code")), answers.safe_text(body.get("message"))
    if number in _TAKEN and response.status == 200:
        told = code if number else None
        return answers.every(batch_size, Verdict(Fate.DELIVERED, told, _TAKEN[number]))
    if number in _THROTTLED:
        return answers.throttled(response, batch_size, code, detail)
    if number in _LATER:
        wait = answers.retry_after_seconds(response)
        return answers.every(batch_size, Verdict(Fate.RETRYABLE, code, detail, wait))
    if number in _ACCOUNT:
        return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    if number in _REFUSED:
        return answers.refused(batch_size, code, detail, _culprit(body))
    return answers.by_status(response, batch_size, code, detail)


def probe(credentials: Credentials, now: int) -> Probe:
    """A page view in the test view of the destination's code, which is not in the actual data.

    Without a code, a page view whose id is a number, which is refused (40002) once the token was
    read. That the token may write to this pixel is certain only with a code.
    """
    is_test = credentials.test_event_code is not None
    event = {
        "event": "Pageview",
        "event_time": now,
        "event_id": nobody.EVENT_ID if is_test else 0,
        "user": {"email": nobody.EMAIL_SHA256},
        "page": {"url": nobody.URL},
    }
    call = request([orjson.dumps(event)], credentials)
    return Probe(call) if is_test else Probe(call, _BAD_PARAMETER)


def _event_name(event: Event, destination: Destination) -> str | Skip:
    name = renamed(event, destination)
    if name is None and event.event_name is EventName.CUSTOM and event.custom_event_name:
        name = event.custom_event_name
        if name in STANDARD_NAMES:
            return Skip(Reason.BAD_CUSTOM_NAME, "TikTok keeps this name for a standard event")
    name = name or EVENT_NAMES[event.event_name]
    if not _NAME.fullmatch(name):
        return Skip(
            Reason.BAD_CUSTOM_NAME,
            "TikTok takes up to 50 letters, digits, _ and -, beginning with a letter",
        )
    return name


def _user(user: UserData, destination: Destination) -> dict[str, Any]:
    hashes: dict[str, str] = {}
    place: dict[str, str | None] = {}
    if destination.advanced_matching:
        hashes = identity.hashes(user, IDENTIFIERS)
        country = identity.country_of(user)
        city, state = identity.plain(user.city), identity.plain(user.state)
        place = {
            "city": "".join(city.lower().split()) if city else None,
            "state": identity.state(state, country) if state else None,
            "country": country,
        }
    click_id = identity.plain(user.ttclid)
    return present(
        {
            **hashes,
            **place,
            # Never cut: a part of a click id is another click's.
            "ttclid": click_id if click_id and len(click_id) <= MAX_CLICK_ID_CHARS else None,
            "ttp": identity.plain(user.ttp),
            "ip": identity.ip(user.ip_address),
            "user_agent": identity.plain(user.user_agent),
        }
    )


def _properties(event: Event, goods: Basket) -> dict[str, Any]:
    data = event.custom_data
    return present(
        {
            "value": as_number(goods.value),
            "currency": goods.currency,
            "content_ids": goods.ids,
            "contents": [
                present(
                    {
                        "content_id": line.id,
                        "content_name": line.name,
                        "content_category": line.category,
                        "brand": line.brand,
                        "quantity": line.quantity,
                        "price": as_number(line.price),
                    }
                )
                for line in goods.lines
            ],
            "content_type": content_type(event, goods),
            "num_items": goods.num_items,
            "order_id": data.order_id,
            "search_string": data.search_string,
        }
    )


def _culprit(body: dict[str, Any]) -> dict[int, str | None]:
    message = body.get("message")
    found = _POSITION.search(message) if isinstance(message, str) else None
    return {int(found[1]): None} if found else {}
