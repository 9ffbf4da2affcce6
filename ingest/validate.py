"""A request's body → canonical events, or one error that names the field. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from pydantic import ValidationError

from schemas.event import Consent, Content, CustomData, Event, EventName, UserData
from schemas.limits import (
    MAX_BODY_BYTES,
    MAX_EVENT_ID_CHARS,
    MAX_EVENTS_PER_REQUEST,
    MAX_USER_AGENT_CHARS,
)
from schemas.wire import Wire

MAX_WARNINGS: Final = 20
"""Unknown keys named in one answer; the rest are counted in the last line."""

_NESTED: Final[Mapping[str, type[Wire]]] = {
    "userData": UserData,
    "customData": CustomData,
    "contents": Content,
    "consent": Consent,
}
_MODELS: Final[tuple[type[Wire], ...]] = (Event, *_NESTED.values())
_KNOWN_KEYS: Final = {
    model: frozenset(info.alias or name for name, info in model.model_fields.items())
    for model in _MODELS
}


class InvalidPayloadError(Exception):
    """A body that cannot be taken: what is wrong, where, and how to mend it."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


@dataclass(frozen=True, slots=True)
class AcceptedEvent:
    """One valid event: its id, and the JSON object that goes into the log."""

    event_id: str
    document: dict[str, Any]


@dataclass(slots=True)
class AcceptedRequest:
    """The events of one request, and what was left out of them."""

    events: list[AcceptedEvent] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """Sentences for the answer."""
        named = [f"{key}: unknown key, left out" for key in self.unknown_keys[:MAX_WARNINGS]]
        more = len(self.unknown_keys) - len(named)
        return [*named, f"{more} more unknown keys, left out"] if more else named


def read_request(
    body: bytes, *, strict: bool, ip_address: str | None, user_agent: str | None
) -> AcceptedRequest:
    """Validate one body of ``POST /v1/events``.

    Unknown keys are left out and named, or refused when the domain is ``strict``. The client's
    address and user agent stand in where an event brings none.

    Raises ``InvalidPayloadError``: one bad event refuses the request, so that the shop can mend
    it and send the same body again without doubling its neighbours.
    """
    document = _parse(body)
    request = AcceptedRequest()
    request.unknown_keys += sorted(document.keys() - {"events"})
    for index, raw in enumerate(_event_list(document)):
        path = f"events[{index}]"
        clean = _known_part(raw, Event, path, request.unknown_keys)
        if not isinstance(clean, dict):
            raise InvalidPayloadError("must be an object", path)
        _fill_event_id(clean, path)
        _validate(clean, path)
        _fill_client(clean, ip_address, user_agent)
        request.events.append(AcceptedEvent(str(clean["eventId"]), clean))
    if strict and request.unknown_keys:
        raise InvalidPayloadError(
            "unknown key, and this domain is strict: leave it out", request.unknown_keys[0]
        )
    return request


def _parse(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BODY_BYTES:
        raise InvalidPayloadError(
            f"the body exceeds {MAX_BODY_BYTES // 1024} KB: send fewer events in one request"
        )
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidPayloadError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayloadError('the body must be an object: {"events": [...]}')
    return document


def _event_list(document: dict[str, Any]) -> list[Any]:
    events = document.get("events")
    if not isinstance(events, list) or not events:
        raise InvalidPayloadError("must be a list with at least one event", "events")
    if len(events) > MAX_EVENTS_PER_REQUEST:
        raise InvalidPayloadError(
            f"holds {len(events)} events; at most {MAX_EVENTS_PER_REQUEST} go in one request",
            "events",
        )
    return events


def _known_part(value: Any, model: type[Wire], path: str, unknown: list[str]) -> Any:
    """A copy without the keys that ``model`` lacks; their paths are added to ``unknown``.

    A value of another shape is passed through for the validation to refuse.
    """
    if isinstance(value, list):
        # Of lists only one level: nothing that we know is deeper, and what comes may be.
        return [
            _known_part(item, model, f"{path}[{index}]", unknown)
            if isinstance(item, dict)
            else item
            for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    known = _KNOWN_KEYS[model]
    clean = {}
    for key, inner in value.items():
        if key not in known:
            unknown.append(f"{path}.{key}"[:200])
        elif (nested := _NESTED.get(key)) is not None and isinstance(inner, dict | list):
            clean[key] = _known_part(inner, nested, f"{path}.{key}", unknown)
        else:
            clean[key] = inner
    return clean


def _fill_event_id(event: dict[str, Any], path: str) -> None:
    """Give an event without an id one that a repeat of the same event gets again."""
    if not _is_blank(event.get("eventId")):
        return
    custom_data = event.get("customData")
    order_id = custom_data.get("orderId") if isinstance(custom_data, dict) else None
    if event.get("eventName") == EventName.PURCHASE and not _is_blank(order_id):
        from_order = f"{str(order_id).strip()}-{EventName.PURCHASE}"
        if len(from_order) <= MAX_EVENT_ID_CHARS:
            event["eventId"] = from_order
            return
    try:
        canonical = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise InvalidPayloadError("is nested too deeply", path) from None
    event["eventId"] = hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _validate(event: dict[str, Any], path: str) -> None:
    try:
        valid = Event.model_validate(event)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidPayloadError(message, path + _location(first["loc"])) from None
    event["eventId"] = valid.event_id


def _location(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _fill_client(event: dict[str, Any], ip_address: str | None, user_agent: str | None) -> None:
    user_data = event.setdefault("userData", {})
    if _is_blank(user_data.get("ipAddress")) and ip_address:
        user_data["ipAddress"] = ip_address
    if _is_blank(user_data.get("userAgent")) and user_agent:
        # A header may hold bytes that are no text, and be longer than an event's field.
        text = user_agent.encode(errors="replace").decode()
        user_data["userAgent"] = text[:MAX_USER_AGENT_CHARS]
