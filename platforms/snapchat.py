"""Snapchat: Conversions API v3.

https://developers.snap.com/api/marketing-api/Conversions-API/UsingTheAPI

The schema takes nearly anything in silence; what an event needs is in the pages on verification
and parameters. The access token can only travel in the query, so URLs of this API must never be
logged.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from platforms import answers, identity, nobody
from platforms.accounts import PixelCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_number, as_text, basket
from platforms.mapping import array, is_limited, present, renamed
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName
from schemas.outcome import Reason, Skip

SLUG = "snapchat"
NAME = "Snapchat"
BASE_URL = "https://tr.snapchat.com"
# Snap's pages speak of 37 days, its connectors of 7: what is older may be taken but not counted.
LIMITS = Limits(
    max_events=2000,
    max_body_bytes=2_000_000,
    max_age_seconds=7 * 86400,
    dedupe_window_seconds=48 * 3600,
)
# Snap's own tags send milliseconds too, but its reference has seconds only.
BLOCK = Block(
    name=("event_name",),
    id=("event_id",),
    time=("event_time",),
    defaults={"action_source": "WEB"},
)

EVENT_NAMES: Final = {
    EventName.PAGE_VISIT: "PAGE_VIEW",
    EventName.VIEW_CONTENT: "VIEW_CONTENT",
    EventName.SEARCH: "SEARCH",
    EventName.ADD_TO_CART: "ADD_CART",
    EventName.ADD_TO_WISHLIST: "ADD_TO_WISHLIST",
    EventName.INITIATE_CHECKOUT: "START_CHECKOUT",
    EventName.ADD_PAYMENT_INFO: "ADD_BILLING",
    EventName.PURCHASE: "PURCHASE",
    EventName.LEAD: "SIGN_UP",
    EventName.SIGN_UP: "SIGN_UP",
    EventName.SUBSCRIBE: "SUBSCRIBE",
    EventName.START_TRIAL: "START_TRIAL",
    EventName.CUSTOM: "CUSTOM_EVENT_1",
}
NAMES: Final = frozenset(EVENT_NAMES.values()) | {
    "ACHIEVEMENT_UNLOCKED",
    "AD_CLICK",
    "AD_VIEW",
    "APP_INSTALL",
    "APP_OPEN",
    "COMPLETE_TUTORIAL",
    "INVITE",
    "LEVEL_COMPLETE",
    "LIST_VIEW",
    "LOGIN",
    "RATE",
    "RESERVE",
    "SAVE",
    "SHARE",
    "SPENT_CREDITS",
    *(f"CUSTOM_EVENT_{slot}" for slot in range(1, 6)),
}

IDENTIFIERS: Final[identity.Identifiers] = (
    ("em", "email", identity.email),
    ("ph", "phone", identity.phone_digits),
    ("fn", "first_name", identity.letters_digits),
    ("ln", "last_name", identity.letters_digits),
    ("ge", "gender", identity.gender_binary),
    ("ct", "city", identity.letters_digits),
    ("st", "state", identity.state),
    ("zp", "postal_code", identity.postal_sector),
    ("country", "country", identity.country),
)
_EXTERNAL_ID: Final[identity.Identifiers] = (("external_id", "external_id", identity.verbatim),)

_ABOUT_THE_TOKEN: Final = re.compile(r"access.?token|unauthori[sz]ed|authenticat", re.IGNORECASE)


class Credentials(PixelCredentials):
    """A pixel and a long-lived token of the same business."""


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """A web or offline event.

    With advanced matching off, only click id, cookie, ip and user agent tell who it was. Custom
    events have five numbered slots and no names: which slot, ``event_names`` says.
    """
    if event.action_source is ActionSource.APP:
        return Skip(Reason.UNSUPPORTED_SOURCE, "Snapchat wants events of an app at the app's id")
    on_web = event.action_source is ActionSource.WEBSITE
    if on_web and event.event_source_url is None:
        return Skip(Reason.MISSING_URL, "Snapchat wants eventSourceUrl with events of a website")
    name = renamed(event, destination) or EVENT_NAMES[event.event_name]
    if name not in NAMES:
        return Skip(
            Reason.BAD_CUSTOM_NAME, "Snapchat has its own list of names, and CUSTOM_EVENT_1 to 5"
        )
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    user = _user_data(event, destination)
    has_browser = user.keys() >= {"client_ip_address", "client_user_agent"}
    if not has_browser and user.keys().isdisjoint({"em", "ph"}):
        return Skip(
            Reason.TOO_FEW_MATCH_KEYS,
            "Snapchat needs an e-mail, a phone, or both ip and user agent",
        )
    return present(
        {
            "event_name": name,
            "action_source": "WEB" if on_web else "OFFLINE",
            "event_time": event.event_time_seconds,
            "event_id": event.event_id,
            "event_source_url": event.event_source_url,
            "user_data": user,
            "custom_data": _custom_data(event, goods),
            "data_processing_options": ["LDU"] if is_limited(event, destination) else None,
        }
    )


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for up to 2,000 events of one pixel."""
    code = credentials.test_event_code
    test = b',"test_event_code":' + orjson.dumps(code) if code else b""
    return Request(
        path=f"/v3/{credentials.pixel_id}/events",
        body=b'{"data":' + array(batch) + test + b"}",
        headers={"Content-Type": "application/json"},
        query={"access_token": credentials.access_token.get_secret_value()},
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """VALID or INVALID, for the request as a whole; a success may also have no body.

    ``event`` may name one position, but counted from where is not said: a refused batch is
    divided instead.
    """
    is_success = 200 <= response.status < 300
    if is_success and not response.body.strip():
        return answers.every(batch_size, Verdict(Fate.DELIVERED))
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    status = body.get("status")
    if is_success and status == "VALID":
        return answers.every(batch_size, Verdict(Fate.DELIVERED))
    code, reason = _code_and_reason(body)
    detail = answers.safe_text(reason)
    if status == "INVALID" and response.status not in {401, 403, 429}:
        if _ABOUT_THE_TOKEN.search(reason):
            return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
        return answers.refused(batch_size, code, detail)
    if response.status == 400 and _ABOUT_THE_TOKEN.search(reason):
        return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    return answers.by_status(response, batch_size, code, detail)


def probe(credentials: Credentials, now: int) -> Probe:
    """A page view at Snap's own ``/events/validate``, which judges events and keeps none.

    https://developers.snap.com/api/marketing-api/Conversions-API/VerifySetUp
    """
    event = {
        "event_name": "PAGE_VIEW",
        "action_source": "WEB",
        "event_time": now,
        "event_id": nobody.EVENT_ID,
        "event_source_url": nobody.URL,
        "user_data": {"em": [nobody.EMAIL_SHA256]},
    }
    call = request([orjson.dumps(event)], credentials.under(None))
    return Probe(replace(call, path=f"{call.path}/validate"))


def _user_data(event: Event, destination: Destination) -> dict[str, Any]:
    user = event.user_data
    hashes: dict[str, Any] = {}
    if destination.advanced_matching:
        hashes = {key: [value] for key, value in identity.hashes(user, IDENTIFIERS).items()}
        hashes |= identity.hashes(user, _EXTERNAL_ID)  # not a list in Snap's own SDK
    return present(
        {
            **hashes,
            "client_ip_address": identity.ip(user.ip_address),
            "client_user_agent": identity.plain(user.user_agent),
            "sc_click_id": identity.plain(user.sc_click_id),
            "sc_cookie1": identity.plain(user.sc_cookie1),
        }
    )


def _custom_data(event: Event, goods: Basket) -> dict[str, Any]:
    data = event.custom_data
    return present(
        {
            "currency": goods.currency,
            "value": as_number(goods.value),
            "content_ids": goods.ids,
            "contents": [
                present(
                    {
                        "id": line.id,
                        "quantity": str(line.quantity),
                        "item_price": as_text(line.price, goods.currency),
                        "brand": line.brand,
                    }
                )
                for line in goods.lines
            ],
            "num_items": goods.num_items,
            "order_id": data.order_id,
            "search_string": data.search_string,
            "content_name": data.content_name,
            "content_category": data.content_category,
            "content_type": data.content_type,
        }
    )


def _code_and_reason(body: dict[str, Any]) -> tuple[str | None, str]:
    """The first error code, and all that is said about why."""
    errors = body.get("errors")
    known = errors if isinstance(errors, dict) else {}
    codes, texts = known.get("codes"), known.get("error_msgs")
    code = answers.safe_code(codes[0]) if isinstance(codes, list) and codes else None
    said = [body.get("reason"), *(texts if isinstance(texts, list) else ())]
    return code, "; ".join(text for text in said if isinstance(text, str))
