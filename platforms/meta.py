"""Meta: Conversions API.

https://developers.facebook.com/docs/marketing-api/conversions-api/using-the-api

One invalid event makes Meta refuse the whole request, so everything that it is known to refuse is
judged here before it is sent. Answers are told apart by numbers, because their texts are
translated.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from pydantic import StringConstraints

from platforms import answers, identity, nobody
from platforms.accounts import PixelCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_number, basket, content_type
from platforms.mapping import array, is_limited, present, renamed
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName, UserData
from schemas.outcome import Reason, Skip

SLUG = "meta"
NAME = "Meta"
BASE_URL = "https://graph.facebook.com"
# The size of a body is not documented: this holds a full batch of events with every identifier.
# The age is, and one older event sinks its batch.
LIMITS = Limits(
    max_events=1000,
    max_body_bytes=3_000_000,
    max_age_seconds=7 * 86400,
    max_ahead_seconds=60,
    dedupe_window_seconds=48 * 3600,
)
BLOCK = Block(
    name=("event_name",),
    id=("event_id",),
    time=("event_time",),
    defaults={"action_source": "website"},
)

EVENT_NAMES: Final = {
    EventName.PAGE_VISIT: "PageView",
    EventName.VIEW_CONTENT: "ViewContent",
    EventName.SEARCH: "Search",
    EventName.ADD_TO_CART: "AddToCart",
    EventName.ADD_TO_WISHLIST: "AddToWishlist",
    EventName.INITIATE_CHECKOUT: "InitiateCheckout",
    EventName.ADD_PAYMENT_INFO: "AddPaymentInfo",
    EventName.PURCHASE: "Purchase",
    EventName.LEAD: "Lead",
    EventName.SIGN_UP: "CompleteRegistration",
    EventName.SUBSCRIBE: "Subscribe",
    EventName.START_TRIAL: "StartTrial",
    EventName.CUSTOM: "CustomEvent",
}
MAX_NAME_CHARS: Final = 50

# https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
IDENTIFIERS: Final[identity.Identifiers] = (
    ("em", "email", identity.email),
    ("ph", "phone", identity.phone_lenient),
    ("fn", "first_name", identity.letters_digits),
    ("ln", "last_name", identity.letters_digits),
    ("ge", "gender", identity.gender_binary),
    ("db", "date_of_birth", identity.date_of_birth),
    ("ct", "city", identity.letters),
    ("st", "state", identity.state),
    ("zp", "postal_code", identity.postal_cut),
    ("country", "country", identity.country),
    ("external_id", "external_id", identity.lower),
)

# "Customer information must not be only one of these combinations, or less" (error 2804050).
TOO_FEW: Final = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)

# fb.<subdomain index>.<ms>.<value>[.<appendix of Meta's own parameter builder>]; a cookie without
# its last part is error 2804001, for the whole batch.
_COOKIE: Final = re.compile(r"fb\.\d+\.\d+\.([^.\s]+)(?:\.[^.\s]+)?", re.ASCII)
_CLICK_ID: Final = re.compile(r"[^.\s]+")

# Codes of the Graph API and of Marketing API rate limiting.
_THROTTLED: Final = frozenset({4, 17, 32, 341, 368, 613, *range(80000, 80015)})
_LATER: Final = frozenset({1, 2, 5000, 21009})
_ACCOUNT: Final = frozenset({3, 10, 102, 190, *range(200, 300)})
_BAD_PARAMETER: Final = frozenset({34, 38, 100})
_NO_SUCH_ACCOUNT: Final = (100, 33)
_BLOCKED_FOR_POLICY: Final = 368
_POLICY_BLOCK_SECONDS: Final = 3600.0


class Credentials(PixelCredentials):
    """A pixel (or dataset), a system user's token, and the Graph version to speak."""

    api_version: Annotated[str, StringConstraints(pattern=r"^v\d{2}\.\d$")] = "v24.0"


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """A server event: https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event

    With advanced matching off, only click id, cookies, ip and user agent tell who it was.
    """
    if event.action_source is ActionSource.APP:
        return Skip(Reason.UNSUPPORTED_SOURCE, "Meta wants device data with events of an app")
    name = _event_name(event, destination)
    if not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
        return Skip(Reason.BAD_CUSTOM_NAME, f"Meta takes names of 1 to {MAX_NAME_CHARS} characters")
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    user = _user_data(event, destination)
    if not user or any(user.keys() <= few for few in TOO_FEW):
        return Skip(
            Reason.TOO_FEW_MATCH_KEYS,
            "Meta needs an e-mail, phone, external id, click id, browser id or ip address",
        )
    limited = {
        "data_processing_options": ["LDU"],
        # Meta finds out where the person is.
        "data_processing_options_country": 0,
        "data_processing_options_state": 0,
    }
    return present(
        {
            "event_name": name,
            "event_time": event.event_time_seconds,
            "event_id": event.event_id,
            "action_source": event.action_source.value,
            "event_source_url": event.event_source_url,
            "referrer_url": event.referrer_url,
            "user_data": user,
            "custom_data": _custom_data(event, goods),
            **(limited if is_limited(event, destination) else {}),
        }
    )


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for up to 1,000 events. The token goes into a header, out of access logs."""
    code = credentials.test_event_code
    test = b',"test_event_code":' + orjson.dumps(code) if code else b""
    return Request(
        path=f"/{credentials.api_version}/{credentials.pixel_id}/events",
        body=b'{"data":' + array(batch) + test + b"}",
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {credentials.access_token.get_secret_value()}",
        },
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """Meta takes a request whole or not at all.

    https://developers.facebook.com/docs/graph-api/using-graph-api/error-handling
    """
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    error = body.get("error")
    if isinstance(error, dict):
        return _read_error(error, response, batch_size)
    if response.status == 200 and body.get("events_received") == batch_size:
        # A good answer, too, may say that it was the last one for a while.
        wait = _wait_seconds(response)
        return answers.every(batch_size, Verdict(Fate.DELIVERED, retry_after_seconds=wait))
    return answers.by_status(response, batch_size)


def probe(credentials: Credentials, now: int) -> Probe:
    """An event of long ago, which Meta refuses with the whole request once it has read token and pixel.
    A test code alone would not do: Meta counts the events that come with one."""
    event = {
        "event_name": "PageView",
        "event_time": now - nobody.LONG_SECONDS,
        "action_source": "other",
        "user_data": {"em": [nobody.EMAIL_SHA256]},
    }
    return Probe(request([orjson.dumps(event)], credentials), frozenset({"100/2804003"}))


def click_cookie(user: UserData, event_time: int) -> str | None:
    """The ``_fbc`` value: the cookie as it is, unless the click of the page is another one.

    Built from ``fbclid`` byte for byte, with ``event_time`` (ms) as when it was first seen.
    https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/fbp-and-fbc
    """
    click_id = undated_click(user)
    if click_id:
        return f"fb.1.{event_time}.{click_id}"
    return user.fbc if user.fbc and _COOKIE.fullmatch(user.fbc) else None


def undated_click(user: UserData) -> str | None:
    """The ``fbclid`` whose cookie has to be built, because the person's own is another click's."""
    cookie = _COOKIE.fullmatch(user.fbc) if user.fbc else None
    click_id = identity.plain(user.fbclid)
    if click_id and _CLICK_ID.fullmatch(click_id) and (not cookie or cookie[1] != click_id):
        return click_id
    return None


def _event_name(event: Event, destination: Destination) -> str:
    if name := renamed(event, destination):
        return name
    if event.event_name is EventName.CUSTOM and event.custom_event_name:
        return event.custom_event_name
    return EVENT_NAMES[event.event_name]


def _user_data(event: Event, destination: Destination) -> dict[str, Any]:
    user = event.user_data
    hashes = identity.hashes(user, IDENTIFIERS) if destination.advanced_matching else {}
    browser = user.fbp if user.fbp and _COOKIE.fullmatch(user.fbp) else None
    return present(
        {
            **{key: [value] for key, value in hashes.items()},
            "client_ip_address": identity.ip(user.ip_address),
            "client_user_agent": identity.plain(user.user_agent),
            "fbc": click_cookie(user, event.event_time),
            "fbp": browser,
        }
    )


def _custom_data(event: Event, goods: Basket) -> dict[str, Any]:
    data = event.custom_data
    return present(
        {
            "value": as_number(goods.value),
            "currency": goods.currency,
            "content_ids": goods.ids,
            "contents": [
                present(
                    {
                        "id": line.id,
                        "quantity": line.quantity,
                        "item_price": as_number(line.price),
                        "title": line.name,
                        "brand": line.brand,
                        "category": line.category,
                    }
                )
                for line in goods.lines
            ],
            "content_type": content_type(event, goods),
            "content_name": data.content_name,
            "content_category": data.content_category,
            "num_items": goods.num_items,
            "order_id": data.order_id,
            "search_string": data.search_string,
        }
    )


def _read_error(error: dict[str, Any], response: Response, batch_size: int) -> list[Verdict]:
    number = answers.number(error.get("code"))
    subcode = answers.number(error.get("error_subcode"))
    code = "/".join(filter(None, map(answers.safe_code, (number, subcode)))) or None
    detail = answers.safe_text(error.get("message"))
    if number in _THROTTLED:
        wait = _wait_seconds(response)
        if wait is None and number == _BLOCKED_FOR_POLICY:
            wait = _POLICY_BLOCK_SECONDS
        return answers.every(batch_size, Verdict(Fate.THROTTLED, code, detail, wait))
    if error.get("is_transient") is True or number in _LATER:
        return answers.every(batch_size, Verdict(Fate.RETRYABLE, code, detail))
    if number in _ACCOUNT or (number, subcode) == _NO_SUCH_ACCOUNT:
        return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    if number in _BAD_PARAMETER:
        return answers.refused(batch_size, code, detail)
    return answers.by_status(response, batch_size, code, detail)


def _wait_seconds(response: Response) -> float | None:
    """``Retry-After``, else the longest of the minutes in ``X-Business-Use-Case-Usage``.

    https://developers.facebook.com/docs/graph-api/overview/rate-limiting
    """
    wait = answers.retry_after_seconds(response)
    if wait is not None:
        return wait
    try:
        usage = orjson.loads(response.headers.get("x-business-use-case-usage", "{}"))
        minutes = max(
            entry["estimated_time_to_regain_access"]
            for entries in usage.values()
            for entry in entries
        )
        return float(minutes) * 60 or None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
