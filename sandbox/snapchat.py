"""Snapchat's Conversions API v3: VALID, or INVALID with a reason, for the request as a whole.

https://developers.snap.com/api/marketing-api/Conversions-API/UsingTheAPI
https://developers.snap.com/api/marketing-api/Conversions-API/VerifySetUp
"""

from collections.abc import Mapping
from typing import Any

from sandbox.exchange import Answer, Batch, Call, Event, reply, wait_header
from sandbox.rules import (
    CURRENCY,
    DAY_SECONDS,
    DECIMAL,
    MAX_AHEAD_SECONDS,
    first_unhashed,
    is_expired,
    is_forbidden,
    is_ip,
    is_marked,
)
from sandbox.schema import Schema, compile_schema

SLUG = "snapchat"
NAME = "Snapchat"
PATH = "/v3/{account}/events{validate:(/validate)?}"
VALIDATE = "/events/validate"
"""Where events are judged and not kept."""
MAX_EVENTS = 2000
MAX_AGE_DAYS = 37
FIRST_MILLISECONDS = 100_000_000_000
"""From here on, a time is read as milliseconds: the vendor's own code sends either unit."""

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
TEXTS = {"type": "array", "items": TEXT}
TEXT_OR_TEXTS = {"anyOf": [TEXTS, TEXT]}
AMOUNT = {"anyOf": [{"type": "number", "minimum": 0}, {**TEXT, "pattern": f"^{DECIMAL.pattern}$"}]}

HASHED = ("em", "ph", "fn", "ln", "ge", "ct", "st", "zp", "country")
PLAIN = (
    "client_ip_address",
    "client_user_agent",
    "sc_click_id",
    "sc_cookie1",
    "madid",
    "mobile_ad_id",
    "idfv",
    "subscription_id",
    "lead_id",
    "download_id",
    "partner_id",
)
WEB = ("WEB", "web", "website")
SOURCES = [*WEB, "MOBILE_APP", "app", "OFFLINE", "physical_store"]
NAMES = [
    "PAGE_VIEW",
    "VIEW_CONTENT",
    "LIST_VIEW",
    "SEARCH",
    "ADD_CART",
    "ADD_TO_WISHLIST",
    "START_CHECKOUT",
    "ADD_BILLING",
    "PURCHASE",
    "SIGN_UP",
    "SUBSCRIBE",
    "START_TRIAL",
    "LOGIN",
    "SAVE",
    "SHARE",
    "INVITE",
    "RATE",
    "RESERVE",
    "AD_CLICK",
    "AD_VIEW",
    "COMPLETE_TUTORIAL",
    "LEVEL_COMPLETE",
    "ACHIEVEMENT_UNLOCKED",
    "SPENT_CREDITS",
    "APP_INSTALL",
    "APP_OPEN",
    *(f"CUSTOM_EVENT_{slot}" for slot in range(1, 6)),
]

CONTENT = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("id", "delivery_category", "brand"), TEXT),
        **dict.fromkeys(("quantity", "item_price"), AMOUNT),
    },
}
CUSTOM_DATA = {
    "type": "object",
    "properties": {
        "currency": {"type": "string", "pattern": f"^{CURRENCY.pattern}$"},
        **dict.fromkeys(("value", "predicted_ltv"), AMOUNT),
        **dict.fromkeys(("content_ids", "destination_ids", "brands"), TEXT_OR_TEXTS),
        "contents": {"type": "array", "items": CONTENT},
        "num_items": WHOLE,
        **dict.fromkeys(("order_id", "search_string", "content_category", "content_type"), TEXT),
        **dict.fromkeys(("content_name", "sign_up_method", "event_tag", "status"), TEXT),
        "custom_fields": {"type": "object"},
    },
}
EVENT: Schema = {
    "type": "object",
    "required": ["event_name", "event_time", "action_source", "user_data"],
    "properties": {
        "event_name": {"type": "string", "enum": NAMES},
        "event_time": WHOLE,
        "action_source": {"type": "string", "enum": SOURCES},
        **dict.fromkeys(("event_source_url", "event_id", "integration", "test_event_code"), TEXT),
        "user_data": {
            "type": "object",
            "properties": {
                **dict.fromkeys((*HASHED, "external_id", "anon_id"), TEXT_OR_TEXTS),
                **dict.fromkeys(PLAIN, TEXT),
            },
        },
        "custom_data": CUSTOM_DATA,
        "app_data": {"type": "object"},
        "data_processing_options": {"type": "array", "items": {"type": "string", "enum": ["LDU"]}},
        "data_processing_options_country": WHOLE,
        "data_processing_options_state": WHOLE,
        "opt_out": {"type": "boolean"},
    },
}
"""Open at every level, as Snapchat's own: an unknown key is kept and means nothing."""

_check = compile_schema(EVENT)


def read(call: Call) -> Batch:
    """The events of a request; the test code stands beside them or in the first of them. What is
    only judged counts as a test, too."""
    events = call.events("data")
    first = events[0] if events and isinstance(events[0], dict) else {}
    code = call.text("test_event_code") or first.get("test_event_code")
    if call.path.endswith(VALIDATE):
        code = "validate"
    return Batch(call.account, events, code if isinstance(code, str) else None)


def event_id(event: Event) -> Any:
    """The deduplication id."""
    return event.get("event_id")


def event_name(event: Event) -> Any:
    """The event name."""
    return event.get("event_name")


def answer(call: Call, batch: Batch) -> Answer:
    """VALID when every event is good, else the first error and nothing stored.

    Whether the good neighbours of a bad event are kept is not documented; here they are not, so
    that a sender has to find the bad one. A missing token is a 400, as senders have seen it.
    """
    token = call.query.get("access_token", "").strip()
    if not token:
        return _invalid(400, "The access_token query parameter is missing.")
    if is_expired(token):
        return expired_token(call)
    if is_forbidden(token):
        return _invalid(403, "The access token has no permission for this asset.")
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        return _invalid(400, f"data must be an array of 1 to {MAX_EVENTS} events.")
    for index, event in enumerate(batch.events):
        reason = check(event, call.now)
        if reason:
            return _invalid(400, reason, index)
    said: dict[str, Any] = {"status": "VALID", "reason": "ok"}
    if call.path.endswith(VALIDATE):
        logs = [{"event": n, "status": "VALID", "warnings": []} for n in range(len(batch.events))]
        said |= {"test_event": True, "event_logs": logs}
    return reply(200, said)


def check(event: Any, now: float) -> str:
    """Why Snapchat refuses this event; empty when it does not."""
    problem = _check(event)
    if problem is not None:
        return f"{'.'.join(map(str, problem.path))}: {problem.message}"
    if is_marked(SLUG, event_id(event)):
        return "The event cannot be processed."
    if event["action_source"] in WEB and not event.get("event_source_url"):
        return "event_source_url is required for web events."
    return _check_time(event["event_time"], now) or _check_user(event["user_data"]) or _price(event)


def _check_time(event_time: int, now: float) -> str:
    seconds = event_time / 1000 if event_time >= FIRST_MILLISECONDS else event_time
    if seconds < now - MAX_AGE_DAYS * DAY_SECONDS or seconds > now + MAX_AHEAD_SECONDS:
        return "The timestamp is out of range."
    return ""


def _check_user(user: Mapping[str, Any]) -> str:
    raw = first_unhashed(user, HASHED)
    if raw is not None:
        return f"{raw} contains unhashed PII."
    if "client_ip_address" in user and not is_ip(user["client_ip_address"]):
        return "client_ip_address is hashed or invalid."
    alone = any(user.get(name) for name in ("em", "ph", "madid", "mobile_ad_id"))
    pair = user.get("client_ip_address") and user.get("client_user_agent")
    return "" if alone or pair else "Not enough PII to match the event."


def _price(event: Event) -> str:
    priced = {"value", "currency"} <= event.get("custom_data", {}).keys()
    if priced or event["event_name"] != "PURCHASE":
        return ""
    return "A purchase needs a price and a currency."


def expired_token(_call: Call) -> Answer:
    """401; its body is not documented."""
    return _invalid(401, "The access token is expired or invalid.")


def throttled(_call: Call, retry_after: float | None) -> Answer:
    """429; its body is not documented."""
    body = {"reason": "Too many requests."}
    return reply(429, body, code="429", headers=wait_header(retry_after))


def failed_in_200(_call: Call, _batch: Batch) -> Answer:
    """INVALID under HTTP 200."""
    return _invalid(200, "The request could not be processed.")


def _invalid(status: int, reason: str, index: int | None = None) -> Answer:
    body: dict[str, Any] = {"status": "INVALID", "reason": reason}
    if index is not None:
        body |= {"event": index, "errors": {"codes": [], "error_msgs": [reason]}}
    return reply(status, body, code="INVALID")
