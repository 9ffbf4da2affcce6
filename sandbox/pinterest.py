"""Pinterest's conversion events, v5: the published schema refuses a request, a bad content an event.

https://developers.pinterest.com/docs/api/v5/events-create/
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import orjson

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
from sandbox.schema import compile_schema

SLUG = "pinterest"
NAME = "Pinterest"
PATH = "/v5/ad_accounts/{account}/events"
MAX_AGE_DAYS = 7

BODY: Mapping[str, Any] = orjson.loads(
    files("sandbox").joinpath("pinterest_events.schema.json").read_bytes()
)
"""Pinterest's own schema of the request (MIT, see its ``description``)."""
EVENT: Mapping[str, Any] = BODY["properties"]["data"]["items"]
USER_KEYS = frozenset(
    name for branch in EVENT["properties"]["user_data"]["anyOf"] for name in branch["properties"]
)

PERSON = ("em", "ph", "ge", "db", "fn", "ln", "ct", "st", "zp", "country")
HASHED = (*PERSON, "external_id", "hashed_maids")
SOURCES = ("app_android", "app_ios", "web", "offline")
NAMES = {
    "add_payment_info",
    "add_to_cart",
    "add_to_wishlist",
    "app_install",
    "app_open",
    "checkout",
    "contact",
    "custom",
    "customize_product",
    "find_location",
    "initiate_checkout",
    "lead",
    "page_visit",
    "schedule",
    "search",
    "signup",
    "start_trial",
    "submit_application",
    "subscribe",
    "view_category",
    "view_content",
    "watch_video",
}

_check_body = compile_schema(BODY)


def read(call: Call) -> Batch:
    """The events of a request, whatever is wrong with it. ``?test=true`` stands for a test code."""
    is_test = call.query.get("test", "").lower() == "true"
    return Batch(call.account, call.events("data"), "test" if is_test else None)


def event_id(event: Event) -> Any:
    """The deduplication id."""
    return event.get("event_id")


def event_name(event: Event) -> Any:
    """The event name."""
    return event.get("event_name")


def answer(call: Call, batch: Batch) -> Answer:
    """One status per event, unless the request breaks the schema and is refused whole."""
    token = call.bearer()
    if not token or is_expired(token):
        return expired_token(call)
    if is_forbidden(token):
        return _refuse(403, 29, "You are not permitted to access that resource.")
    problem = _check_body(call.document)
    if problem is not None:
        return _refuse(400, 4196, f"Invalid request: {problem.message}")
    return _report(batch, [check(event, call.now) for event in batch.events])


def check(event: Event, now: float) -> str:
    """Why Pinterest fails an event that obeys the schema; empty when it does not."""
    if is_marked(SLUG, event_id(event)):
        return "event_id is not acceptable"
    if event["event_name"] not in NAMES:
        return f"event_name {event['event_name']!r} is not supported"
    if event["action_source"] not in SOURCES:
        return f"action_source {event['action_source']!r} is not supported"
    if event["event_time"] < now - MAX_AGE_DAYS * DAY_SECONDS:
        return f"event_time is more than {MAX_AGE_DAYS} days ago"
    if event["event_time"] > now + MAX_AHEAD_SECONDS:
        return "event_time is in the future"
    return _check_user(event["user_data"]) or _check_money(event.get("custom_data", {}))


def _check_user(user: Mapping[str, Any]) -> str:
    raw = first_unhashed(user, HASHED)
    if raw is not None:
        return f"user_data.{raw} is not a SHA-256 hash"
    if "client_ip_address" in user and not is_ip(user["client_ip_address"]):
        return "user_data.client_ip_address is not an IP address"
    return ""


def _check_money(custom: Mapping[str, Any]) -> str:
    currency = custom.get("currency")
    if currency is not None and not CURRENCY.fullmatch(currency):
        return "custom_data.currency is not an ISO 4217 code"
    amounts = [
        custom.get("value"),
        *(item.get("item_price") for item in custom.get("contents", ())),
    ]
    if any(amount is not None and not DECIMAL.fullmatch(amount) for amount in amounts):
        return "custom_data holds an amount that is not a decimal number"
    return ""


def _report(batch: Batch, errors: list[str]) -> Answer:
    failed = {index: "failed" for index, error in enumerate(errors) if error}
    results = [
        {
            "status": "failed" if error else "processed",
            "error_message": error,
            "warning_message": _warning(event),
        }
        for event, error in zip(batch.events, errors, strict=True)
    ]
    body = {
        "num_events_received": len(errors),
        "num_events_processed": len(errors) - len(failed),
        "events": results,
    }
    return reply(200, body, failed=failed)


def _warning(event: Any) -> str:
    user = event.get("user_data") if isinstance(event, dict) else None
    unknown = user.keys() - USER_KEYS if isinstance(user, dict) else ()
    return f"Non-standard user_data: {', '.join(sorted(unknown))}" if unknown else ""


def expired_token(_call: Call) -> Answer:
    """401, code 2."""
    return _refuse(401, 2, "Authentication failed.")


def throttled(_call: Call, retry_after: float | None) -> Answer:
    """429, code 8; Pinterest documents no header for it."""
    text = "You have exceeded your rate limit. Try again later."
    return _refuse(429, 8, text, headers=wait_header(retry_after))


def failed_in_200(_call: Call, batch: Batch) -> Answer:
    """Every event received, none of them processed."""
    return _report(batch, ["The event could not be processed"] * len(batch.events))


def _refuse(
    status: int, code: int, message: str, headers: Mapping[str, str] | None = None
) -> Answer:
    return reply(status, {"code": code, "message": message}, code=str(code), headers=headers)
