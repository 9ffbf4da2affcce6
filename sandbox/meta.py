"""Meta's Conversions API on the Graph: one invalid event refuses the whole request.

https://developers.facebook.com/docs/marketing-api/conversions-api/using-the-api
https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/server-event
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from sandbox.exchange import Answer, Batch, Call, Event, reply, wait_header
from sandbox.rules import (
    DAY_SECONDS,
    MAX_AHEAD_SECONDS,
    first_unhashed,
    is_expired,
    is_forbidden,
    is_ip,
    is_marked,
)
from sandbox.schema import Schema, compile_schema

SLUG = "meta"
NAME = "Meta"
PATH = r"/{version:v\d+\.\d+}/{account}/events"
MAX_EVENTS = 1000
MAX_AGE_DAYS = 7
MAX_AGE_DAYS_IN_STORE = 62

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
AMOUNT = {"type": "number"}
TEXTS = {"type": "array", "items": TEXT}
TEXT_OR_TEXTS = {"anyOf": [TEXTS, TEXT]}

PERSON = ("em", "ph", "fn", "ln", "ge", "db", "ct", "st", "zp", "country")
PARTS = ("f5first", "f5last", "fi", "dobd", "dobm", "doby")
HASHED = (*PERSON, *PARTS)
BROWSER = ("client_ip_address", "client_user_agent", "fbc", "fbp", "anon_id", "madid")
ACCOUNTS = ("subscription_id", "page_id", "page_scoped_user_id", "ig_account_id", "ig_sid")
REMOTE = ["email", "phone_call", "chat", "business_messaging", "system_generated", "other"]
SOURCES = ["website", "app", "physical_store", *REMOTE]

CONTENT = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": TEXT,
        "quantity": WHOLE,
        "item_price": AMOUNT,
        **dict.fromkeys(("title", "description", "brand", "category", "delivery_category"), TEXT),
    },
    "additionalProperties": False,
}
CUSTOM_DATA = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("value", "net_revenue", "predicted_ltv"), AMOUNT),
        "currency": {"type": "string", "pattern": "^[A-Za-z]{3}$"},
        "content_ids": TEXTS,
        "contents": {"type": "array", "items": CONTENT},
        "content_type": {"type": "string", "enum": ["product", "product_group"]},
        "num_items": WHOLE,
        **dict.fromkeys(("content_name", "content_category", "order_id", "search_string"), TEXT),
        "delivery_category": {"type": "string", "enum": ["in_store", "curbside", "home_delivery"]},
    },
    "additionalProperties": True,
}
USER_DATA = {
    "type": "object",
    "properties": {
        **dict.fromkeys((*HASHED, "external_id"), TEXT_OR_TEXTS),
        **dict.fromkeys((*BROWSER, *ACCOUNTS, "ctwa_clid"), TEXT),
        **dict.fromkeys(("fb_login_id", "lead_id"), WHOLE),
    },
    "additionalProperties": False,
}
FREE = {"type": "object"}
EVENT: Schema = {
    "type": "object",
    "required": ["event_name", "event_time", "action_source", "user_data"],
    "properties": {
        "event_name": {"type": "string", "minLength": 1},
        "event_time": WHOLE,
        "action_source": {"type": "string", "enum": SOURCES},
        "user_data": USER_DATA,
        **dict.fromkeys(("event_id", "event_source_url", "referrer_url"), TEXT),
        "custom_data": CUSTOM_DATA,
        "opt_out": {"type": "boolean"},
        "data_processing_options": {"type": "array", "items": {"type": "string", "enum": ["LDU"]}},
        "data_processing_options_country": {"type": "integer", "minimum": 0, "maximum": 1},
        "data_processing_options_state": {"type": "integer", "minimum": 0},
        **dict.fromkeys(("app_data", "original_event_data", "attribution_data"), FREE),
        **dict.fromkeys(("messaging_channel", "advanced_measurement_table"), TEXT),
    },
    "additionalProperties": False,
}
"""Closed, though no page says that the Graph refuses unknown keys: a typo must not pass."""

ENVELOPE = {"data", "test_event_code", "partner_agent", "namespace_id", "upload_id", "upload_tag"}
ENVELOPE |= {"upload_source", "platforms", "progress", "trace", "access_token", "appsecret_proof"}

# Milliseconds, but cookies written with seconds are about, and no document says they are refused.
FBC = re.compile(r"fb\.\d+\.\d{10,13}\.[^.\s]+(\.(.{2}|.{8}))?")
WEAK_SETS: tuple[frozenset[str], ...] = (
    frozenset({"ct", "country", "st", "zp", "ge", "client_user_agent"}),
    frozenset({"db", "client_user_agent"}),
    frozenset({"fn", "ge"}),
    frozenset({"ln", "ge"}),
)
"""An event that has no more than one of these matches nobody and is refused."""

_check = compile_schema(EVENT)


class Refusal(Exception):  # noqa: N818 - what the platform answers, not a fault of this program
    """One error of the Graph API, raised where it is found."""

    def __init__(self, text: str, subcode: int | None = None, title: str = "Invalid parameter"):
        super().__init__(text)
        self.text, self.subcode, self.title = text, subcode, title


def read(call: Call) -> Batch:
    """The events of a request, whatever is wrong with it."""
    return Batch(call.account, call.events("data"), call.text("test_event_code"))


def event_id(event: Event) -> Any:
    """The deduplication id."""
    return event.get("event_id")


def event_name(event: Event) -> Any:
    """The standard or custom event name."""
    return event.get("event_name")


def answer(call: Call, batch: Batch) -> Answer:
    """``events_received`` when every event is good, else the first error and nothing stored."""
    token = call.bearer() or call.query.get("access_token") or call.field("access_token")
    if not isinstance(token, str) or not token:
        return _error(call, 401, "Invalid OAuth access token - Cannot parse access token", 190)
    if is_expired(token):
        return expired_token(call)
    if is_forbidden(token):
        return _error(call, 403, f"(#200) Missing permissions for object {call.account}", 200)
    try:
        _check_envelope(call, batch)
        for index, event in enumerate(batch.events):
            check(event, index, call.now)
    except Refusal as refusal:
        return _invalid(call, refusal)
    received = {"events_received": len(batch.events), "messages": [], "fbtrace_id": call.trace}
    return reply(200, received)


def _check_envelope(call: Call, batch: Batch) -> None:
    if not isinstance(call.document, dict):
        raise Refusal("The request body is not a JSON object.")
    unknown = call.document.keys() - ENVELOPE
    if unknown:
        raise Refusal(f"Unexpected key {min(unknown)!r}.")
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        raise Refusal(f"Param data must be an array of 1 to {MAX_EVENTS} events.")


def check(event: Any, index: int, now: float) -> None:
    """Raise Refusal for the first thing that Meta would refuse in this event."""
    problem = _check(event)
    if problem is not None:
        where = "".join(f"[{key}]" for key in ("data", index, *problem.path))
        raise Refusal(f"{where}: {problem.message}")
    if is_marked(SLUG, event_id(event)):
        raise _too_little()
    _check_time(event, now)
    _check_user(event["user_data"])
    _check_purchase(event)
    _check_processing(event)


def _check_time(event: Event, now: float) -> None:
    in_store = event["action_source"] == "physical_store"
    days = MAX_AGE_DAYS_IN_STORE if in_store else MAX_AGE_DAYS
    if event["event_time"] < now - days * DAY_SECONDS:
        text = "The timestamp for this event is too far in the past. Events need to be sent from "
        text += f"your server within {days} days of when they occurred."
        raise Refusal(text, 2804003, "Event Timestamp Too Old")
    if event["event_time"] > now + MAX_AHEAD_SECONDS:
        raise Refusal("The timestamp for this event is in the future.")


def _check_user(user: Mapping[str, Any]) -> None:
    raw = first_unhashed(user, HASHED)
    if raw is not None:
        text = f"The value of {raw!r} must be hashed with SHA-256."
        raise Refusal(text, 2804016, "Unhashed User Parameter")
    if "fbc" in user and not FBC.fullmatch(user["fbc"]):
        text = "The click ID (fbc) is not of the form fb.subdomainIndex.creationTime.fbclid."
        raise Refusal(text, 2804001, "Click ID Incorrectly Formatted")
    if "client_ip_address" in user and not is_ip(user["client_ip_address"]):
        raise Refusal("client_ip_address is not a valid IPv4 or IPv6 address.")
    given = frozenset(name for name, value in user.items() if value not in ("", []))
    if any(given <= weak for weak in WEAK_SETS):
        raise _too_little()


def _too_little() -> Refusal:
    text = "This event has too little customer information to match it with an account."
    return Refusal(text, 2804050, "Insufficient Customer Information")


def _check_purchase(event: Event) -> None:
    if event["event_name"] != "Purchase":
        return
    custom = event.get("custom_data", {})
    if "value" not in custom:
        text = "Your purchase event doesn't include a value parameter. Enter a value."
        raise Refusal(text, 2804009, "Missing Value for Purchase Event")
    if "currency" not in custom:
        raise Refusal("Your purchase event doesn't include a currency.")


def _check_processing(event: Event) -> None:
    places = {"data_processing_options_country", "data_processing_options_state"}
    if "data_processing_options" not in event and event.keys() & places:
        raise Refusal("data_processing_options is needed beside its country and state.")


def expired_token(call: Call) -> Answer:
    """190/463."""
    text = "Error validating access token: Session has expired."
    return _error(call, 401, text, 190, error_subcode=463)


def throttled(call: Call, retry_after: float | None) -> Answer:
    """Code 4 with the usage headers.

    The Graph tells the time to wait in whole minutes of ``X-Business-Use-Case-Usage``; what is
    shorter than that stands in ``Retry-After`` alone.
    """
    minutes = int((retry_after or 0) // 60)
    usage = {"type": "ads_management", "call_count": 100, "total_cputime": 25, "total_time": 25}
    usage["estimated_time_to_regain_access"] = minutes
    headers = {
        "X-App-Usage": '{"call_count":100,"total_cputime":25,"total_time":25}',
        "X-Business-Use-Case-Usage": orjson.dumps({call.account: [usage]}).decode(),
        **wait_header(retry_after),
    }
    text = "(#4) Application request limit reached"
    return _error(call, 403, text, 4, headers=headers, is_transient=True)


def failed_in_200(call: Call, _batch: Batch) -> Answer:
    """An error body that came under HTTP 200."""
    return _error(call, 200, "Service temporarily unavailable", 2, is_transient=True)


def _invalid(call: Call, refusal: Refusal) -> Answer:
    more: dict[str, Any] = {"error_user_title": refusal.title, "error_user_msg": refusal.text}
    if refusal.subcode is not None:
        more["error_subcode"] = refusal.subcode
    return _error(call, 400, "Invalid parameter", 100, is_transient=False, **more)


def _error(
    call: Call,
    status: int,
    message: str,
    code: int,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Answer:
    error = {"message": message, "type": "OAuthException", "code": code, **more}
    error["fbtrace_id"] = call.trace
    subcode = more.get("error_subcode")
    label = str(code) if subcode is None else f"{code}/{subcode}"
    return reply(status, {"error": error}, code=label, headers=headers)
