"""TikTok's Events API 2.0: judge it by ``code``, which is where most refusals are, under HTTP 200.

https://business-api.tiktok.com/portal/docs?id=1771101303285761
https://business-api.tiktok.com/portal/docs?id=1737172488964097 (return codes)
"""

from collections.abc import Mapping
from typing import Any

from sandbox.exchange import Answer, Batch, Call, Event, reply, wait_header
from sandbox.rules import (
    MAX_AHEAD_SECONDS,
    first_unhashed,
    is_expired,
    is_forbidden,
    is_ip,
    is_marked,
)
from sandbox.schema import Problem, Schema, compile_schema

SLUG = "tiktok"
NAME = "TikTok"
PATH = "/open_api/v1.3/event/track/"
MAX_EVENTS = 1000
SOURCES = ("web", "app", "offline", "crm")

TEXT = {"type": "string"}
AMOUNT = {"type": "number"}
FREE = {"type": "object"}
TEXT_OR_TEXTS = {"anyOf": [{"type": "array", "items": TEXT}, TEXT]}

HASHED = ("email", "phone", "external_id", "first_name", "last_name", "zip_code")
PLAIN = (
    "city",
    "state",
    "country",
    "ttp",
    "ip",
    "user_agent",
    "locale",
    "idfa",
    "idfv",
    "gaid",
    "att_status",
)

CONTENT = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("content_id", "content_name", "content_category", "brand"), TEXT),
        "content_type": TEXT,
        "price": AMOUNT,
        "quantity": {"type": "integer"},
    },
}
EVENT: Schema = {
    "type": "object",
    "required": ["event", "event_time"],
    "properties": {
        "event": {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,49}$"},
        "event_time": {"type": "integer"},
        "event_id": TEXT,
        "user": {
            "type": "object",
            "properties": {
                **dict.fromkeys(("email", "phone", "external_id"), TEXT_OR_TEXTS),
                **dict.fromkeys(("first_name", "last_name", "zip_code", *PLAIN), TEXT),
                "ttclid": {"type": "string", "maxLength": 1000},
            },
        },
        "page": {"type": "object", "properties": {"url": TEXT, "referrer": TEXT}},
        "properties": {
            "type": "object",
            "properties": {
                "content_ids": {"type": "array", "items": TEXT},
                "contents": {"type": "array", "items": CONTENT},
                "content_type": {"type": "string", "enum": ["product", "product_group"]},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
                "value": AMOUNT,
                "num_items": {"type": "integer"},
                **dict.fromkeys(("search_string", "query", "description"), TEXT),
                **dict.fromkeys(("order_id", "shop_id"), TEXT),
                "customer_type": {"type": "string", "enum": ["new", "returning"]},
            },
        },
        "limited_data_use": {"type": "boolean"},
        **dict.fromkeys(("ad", "app", "lead"), FREE),
    },
}
"""Open at every level: TikTok answers code 0 to a field that it does not know."""

_check = compile_schema(EVENT)


class Refusal(Exception):  # noqa: N818 - what the platform answers, not a fault of this program
    """A code of TikTok's, raised where it is found."""

    def __init__(self, code: int, text: str):
        super().__init__(text)
        self.code, self.text = code, text


def read(call: Call) -> Batch:
    """The events of a request, whatever is wrong with it; the account is in the body."""
    account = call.text("event_source_id") or ""
    return Batch(account, call.events("data"), call.text("test_event_code"))


def event_id(event: Event) -> Any:
    """The deduplication id."""
    return event.get("event_id")


def event_name(event: Event) -> Any:
    """The standard or custom event name."""
    return event.get("event")


def answer(call: Call, batch: Batch) -> Answer:
    """Code 0 when every event is good, else the first error and nothing stored."""
    token = call.headers.get("Access-Token", "").strip()
    if not token:
        return _say(call, 40104, "Access token is empty", status=401)
    if " " in token:
        return _say(call, 40105, "Access token is incorrect or has been revoked", status=401)
    if is_expired(token):
        return expired_token(call)
    try:
        _check_envelope(call, batch, token)
        for index, event in enumerate(batch.events):
            check(event, index, call)
    except Refusal as refusal:
        return _say(call, refusal.code, refusal.text)
    return _say(call, 0, "OK")


def _check_envelope(call: Call, batch: Batch, token: str) -> None:
    if call.field("event_source") not in SOURCES:
        raise Refusal(40002, f"event_source: Must be one of: {', '.join(SOURCES)}")
    if not batch.account:
        raise Refusal(40002, "event_source_id: Not a valid string")
    if is_forbidden(token):
        raise Refusal(40001, f"No permission to operate pixel {batch.account}")
    if not 1 <= len(batch.events) <= MAX_EVENTS:
        raise Refusal(40002, f"data: Length must be between 1 and {MAX_EVENTS}")


def check(event: Any, index: int, call: Call) -> None:
    """Raise Refusal for the first thing that TikTok would refuse in this event."""
    problem = _check(event)
    if problem is not None:
        raise _at(index, *problem.path, says=_words(problem))
    if is_marked(SLUG, event_id(event)):
        raise _at(index, "event_id", says="Not a valid string")
    if event["event_time"] > call.now + MAX_AHEAD_SECONDS:
        raise _at(index, "event_time", says="Must not be in the future")
    if call.field("event_source") == "web" and "url" not in event.get("page", {}):
        raise _at(index, "page", "url", says="Missing data for required field")
    user = event.get("user", {})
    raw = first_unhashed(user, HASHED)
    if raw is not None:
        raise Refusal(40062, f"The {raw} parameter must be hashed with SHA256")
    if "ip" in user and not is_ip(user["ip"]):
        raise _at(index, "user", "ip", says="Not a valid IP address")


def _at(index: int, *path: str | int, says: str) -> Refusal:
    return Refusal(40002, f"Batch.{'.'.join(map(str, (index, *path)))}: {says}")


def _words(problem: Problem) -> str:
    if problem.rule == "required":
        return "Missing data for required field"
    if problem.rule == "type":
        return f"Not a valid {problem.wanted}"
    return "Not a valid value"


def expired_token(call: Call) -> Answer:
    """40102."""
    return _say(call, 40102, "Access token has expired", status=401)


def throttled(call: Call, retry_after: float | None) -> Answer:
    """40100, which comes with HTTP 401; TikTok itself documents no Retry-After."""
    return _say(call, 40100, "Too many requests", status=401, headers=wait_header(retry_after))


def failed_in_200(call: Call, _batch: Batch) -> Answer:
    """A system error, which TikTok may well send with HTTP 200."""
    return _say(call, 50000, "System error, please try again later")


def _say(
    call: Call,
    code: int,
    message: str,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    body = {"code": code, "message": message, "request_id": call.trace, "data": {}}
    return reply(status, body, code=str(code) if code else None, headers=headers)
