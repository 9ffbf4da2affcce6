"""Reddit's Conversions API v3: a closed schema, and none of a request is stored if one event is bad.

https://ads-api.reddit.com/docs/v3/operations/Post%20Conversion%20Events
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

import orjson

from sandbox.exchange import Answer, Batch, Call, Event, reply, wait_header
from sandbox.rules import (
    MAX_AHEAD_SECONDS,
    is_expired,
    is_forbidden,
    is_ip,
    is_marked,
    is_sha256,
)
from sandbox.schema import Problem, compile_schema

SLUG = "reddit"
NAME = "Reddit"
PATH = "/api/v3/pixels/{account}/conversion_events"
MAX_AGE_HOURS = 168

BODY: Mapping[str, Any] = orjson.loads(
    files("sandbox").joinpath("reddit_events.schema.json").read_bytes()
)
DATA: Mapping[str, Any] = BODY["properties"]["data"]
EVENT: Mapping[str, Any] = DATA["properties"]["events"]["items"]
SIGNALS = ("uuid", "email", "phone_number", "external_id", "idfa", "aaid")
E164 = re.compile(r"\+\d{7,15}")

Finding = tuple[str, str]
"""The path of a field within its event, and what is wrong with it."""


def _envelope_schema() -> Mapping[str, Any]:
    """The body's schema but for the events themselves, which are judged one by one."""
    events = {**DATA["properties"]["events"], "items": {}}
    data = {**DATA, "properties": {**DATA["properties"], "events": events}}
    return {**BODY, "properties": {"data": data}}


_check_envelope = compile_schema(_envelope_schema())
_check_event = compile_schema(EVENT)


def read(call: Call) -> Batch:
    """The events of a request, whatever is wrong with it."""
    return Batch(call.account, call.events("data", "events"), call.text("data", "test_id"))


def event_id(event: Event) -> Any:
    """The deduplication id."""
    metadata = event.get("metadata")
    return metadata.get("conversion_id") if isinstance(metadata, dict) else None


def event_name(event: Event) -> Any:
    """The tracking type, or the custom name where there is one."""
    kind = event.get("type")
    if not isinstance(kind, dict):
        return None
    return kind.get("custom_event_name") or kind.get("tracking_type")


def answer(call: Call, batch: Batch) -> Answer:
    """All events processed, or all bad ones named and none processed."""
    token = call.bearer()
    if not token or is_expired(token):
        return expired_token(call)
    if is_forbidden(token):
        return _error(403, "Forbidden: no permission for this pixel.")
    problem = _check_envelope(call.document)
    if problem is not None:
        field = ".".join(("$", *map(str, problem.path)))
        return _error(
            400, "The request is invalid.", [{"field": field, "message": problem.message}]
        )
    findings = [
        {"field": f"$.data.events[{index}].{field}", "message": message}
        for index, event in enumerate(batch.events)
        for field, message in check(event, call.now)
    ]
    if findings:
        text = f"There were {len(findings)} invalid conversion events. None were processed."
        return _error(400, text, findings)
    return _processed(len(batch.events))


def check(event: Any, now: float) -> list[Finding]:
    """The first thing that is wrong with an event, as a list of one; empty when it is good."""
    problem = _check_event(event)
    if problem is not None:
        return [_finding(problem)]
    if is_marked(SLUG, event_id(event)):
        return [("metadata.conversion_id", "invalid conversion_id")]
    return _check_time(event, now) or _check_type(event) or _check_user(event)


def _finding(problem: Problem) -> Finding:
    match problem.path, problem.rule:
        case ("user", "uuid"), "pattern":
            text = "user.UUID: invalid UUID: UUID must be RFC-4122 compliant"
            return "user.UUID", text
        case path, "enum":
            return _dotted(path), f"invalid {path[-1]}: {problem.value}"
        case path, _:
            return _dotted(path), f"{_dotted(path)}: {problem.message}"


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).lstrip(".")


def _check_time(event: Event, now: float) -> list[Finding]:
    age_seconds = now - event["event_at"] / 1000
    if age_seconds > MAX_AGE_HOURS * 3600:
        return [("event_at", f"event_at timestamp must be less than {MAX_AGE_HOURS}h0m0s old")]
    if age_seconds < -MAX_AHEAD_SECONDS:
        return [("event_at", "event_at timestamp must not be in the future")]
    return []


def _check_type(event: Event) -> list[Finding]:
    kind = event["type"]
    if (kind["tracking_type"] == "CUSTOM") != ("custom_event_name" in kind):
        return [("type.custom_event_name", "custom_event_name goes with CUSTOM, and only with it")]
    if "event_source_url" in event and event["action_source"] != "WEBSITE":
        return [("event_source_url", "event_source_url is for action_source WEBSITE only")]
    return []


def _check_user(event: Event) -> list[Finding]:
    """Reddit hashes what comes raw, so a raw e-mail is good; half a hash is neither."""
    user = event.get("user", {})
    if "email" in user and not ("@" in user["email"] or is_sha256(user["email"])):
        return [("user.email", "user.email: neither an e-mail address nor its SHA-256")]
    phone = user.get("phone_number")
    if phone is not None and not (E164.fullmatch(phone) or is_sha256(phone)):
        return [("user.phone_number", "user.phone_number: neither E.164 nor its SHA-256")]
    address = user.get("ip_address")
    if address is not None and not (is_ip(address) or is_sha256(address)):
        return [("user.ip_address", "user.ip_address: neither an IP address nor its SHA-256")]
    pair = address and user.get("user_agent")
    if pair or event.get("click_id") or any(user.get(name) for name in SIGNALS):
        return []
    return [("user", "at least one attribution signal is required")]


def expired_token(_call: Call) -> Answer:
    """401; its body in v3 is not documented."""
    return _error(401, "Unauthorized")


def throttled(_call: Call, retry_after: float | None) -> Answer:
    """429; its body is not documented."""
    return _error(429, "Too Many Requests", headers=wait_header(retry_after))


def failed_in_200(_call: Call, _batch: Batch) -> Answer:
    """HTTP 200 whose message counts no event at all."""
    return replace(_processed(0), code="200")


def _processed(count: int) -> Answer:
    return reply(200, {"data": {"message": f"Successfully processed {count} conversion events."}})


def _error(
    status: int,
    message: str,
    fields: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    error = {"code": status, "message": message, **({"fields": fields} if fields else {})}
    return reply(status, {"error": error}, code=str(status), headers=headers)
