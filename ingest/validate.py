"""A request's body → canonical events, or one error that names the field. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from pydantic import ValidationError

from schemas.event import ActionSource, Consent, Content, CustomData, Event, EventName, UserData
from schemas.lenient import id_from_json
from schemas.limits import (
    MAX_BODY_BYTES,
    MAX_DISPATCH_KEY_CHARS,
    MAX_EVENT_ID_CHARS,
    MAX_EVENTS_PER_REQUEST,
    MAX_USER_AGENT_CHARS,
)
from schemas.outcome import Reason
from schemas.wire import Wire

TOO_LARGE: Final = f"the body exceeds {MAX_BODY_BYTES // 1024} KB: send fewer events in one request"
MAX_PATH_CHARS: Final = 200
MAX_WARNINGS: Final = 20
"""Unknown keys named in one answer; the rest are counted in the last line."""

_NESTED: Final[Mapping[type[Wire], tuple[tuple[str, type[Wire]], ...]]] = {
    Event: (("userData", UserData), ("customData", CustomData), ("consent", Consent)),
    CustomData: (("contents", Content),),
    UserData: (),
    Consent: (),
    Content: (),
}
_ON_DEVICE: Final = frozenset({ActionSource.WEBSITE, ActionSource.APP})
"""Where the client of the request may be the customer; an order at a till has another."""

_KNOWN_KEYS: Final = {
    model: frozenset(info.alias or name for name, info in model.model_fields.items())
    for model in _NESTED
}


class InvalidPayloadError(Exception):
    """A body that cannot be taken: what is wrong, where, and how to mend it."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


@dataclass(slots=True)
class AcceptedEvent:
    """One valid event, who it is of, and what is decided about it at the door."""

    event_id: str
    document: dict[str, Any]
    """The JSON object that goes into the log."""
    form: Literal["event", "blocks"] = "event"
    """Under which key of the raw event it goes there."""
    address: str | None = None
    user_agent: str | None = None
    is_browser: bool = True
    """Whether it came of a web page, where a user agent is a browser's."""
    withheld: Reason | None = None
    counted: bool = False


@dataclass(slots=True)
class AcceptedRequest:
    """The events of one request, and what was left out of them."""

    events: list[AcceptedEvent] = field(default_factory=list)
    unknown_keys: list[str] = field(default_factory=list)
    dispatch_key: str | None = None

    @property
    def counted_events(self) -> int:
        """How many of them are counted towards the quota."""
        return sum(event.counted for event in self.events)

    def warnings(self) -> list[str]:
        """Sentences for the answer."""
        named = [f"{key}: unknown key, left out" for key in self.unknown_keys[:MAX_WARNINGS]]
        more = len(self.unknown_keys) - len(named)
        return [*named, f"{more} more unknown keys, left out"] if more else named


def read_request(
    body: bytes,
    *,
    strict: bool,
    ip_address: str | None,
    user_agent: str | None,
    is_dispatch: bool = False,
) -> AcceptedRequest:
    """Validate one body of canonical events.

    Unknown keys are left out and named, or refused when the domain is ``strict``. The client's
    address and user agent stand in where an event of a web page or an app brings none. A dispatch
    is named by a ``dispatchKey`` beside its events, and comes from a server.

    Raises ``InvalidPayloadError``: one bad event refuses the request, so that the shop can mend
    it and send the same body again without doubling its neighbours.
    """
    document = read_object(body)
    request = AcceptedRequest()
    if is_dispatch:
        request.dispatch_key = read_dispatch_key(document)
    known = {"events", "dispatchKey"} if is_dispatch else {"events"}
    request.unknown_keys += sorted(document.keys() - known)
    for index, said in enumerate(_event_list(document)):
        path = f"events[{index}]"
        if not isinstance(said, dict):
            raise InvalidPayloadError("must be an object", path)
        _leave_out_unknown(said, Event, path, request.unknown_keys)
        _fill_event_id(said, path)
        event = _validate(said, path)
        if event.action_source in _ON_DEVICE:
            _fill_client(said, ip_address, user_agent)
        user_data = said.get("userData", {})
        request.events.append(
            AcceptedEvent(
                event.event_id,
                said,
                address=user_data.get("ipAddress") or ip_address,
                user_agent=user_data.get("userAgent") or user_agent,
                is_browser=not is_dispatch and event.action_source is ActionSource.WEBSITE,
            )
        )
    refuse_unknown(request.unknown_keys, strict=strict)
    return request


def refuse_unknown(keys: Sequence[str], *, strict: bool) -> None:
    """Raises ``InvalidPayloadError`` when the domain takes no unknown keys and there are some."""
    if strict and keys:
        raise InvalidPayloadError(
            "unknown key, and this domain is strict: leave it out", keys[0][:MAX_PATH_CHARS]
        )


def read_dispatch_key(document: Mapping[str, Any]) -> str:
    """The shop's own name for what it sends.

    Raises ``InvalidPayloadError``.
    """
    key = document.get("dispatchKey")
    if not isinstance(key, str) or not key.strip() or len(key) > MAX_DISPATCH_KEY_CHARS:
        raise InvalidPayloadError(
            f"must be a text of 1 to {MAX_DISPATCH_KEY_CHARS} characters that names this dispatch, "
            "such as purchase:1234",
            "dispatchKey",
        )
    return key.strip()


def read_object(body: bytes) -> dict[str, Any]:
    """A body that is a JSON object within the limit of size.

    Raises ``InvalidPayloadError``.
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidPayloadError(TOO_LARGE)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidPayloadError(f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidPayloadError('the body must be an object, such as {"events": [...]}')
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


def _leave_out_unknown(
    value: dict[str, Any], model: type[Wire], path: str, unknown: list[str]
) -> None:
    """Take away the keys that ``model`` lacks; their paths are added to ``unknown``.

    A value of another shape than the model's is left for the validation to refuse.
    """
    known = _KNOWN_KEYS[model]
    if not value.keys() <= known:
        for key in [key for key in value if key not in known]:
            unknown.append(f"{path}.{key}"[:MAX_PATH_CHARS])
            del value[key]
    for key, nested in _NESTED[model]:
        inner = value.get(key)
        if isinstance(inner, dict):
            _leave_out_unknown(inner, nested, f"{path}.{key}", unknown)
        elif isinstance(inner, list):
            for index, item in enumerate(inner):
                if isinstance(item, dict):
                    _leave_out_unknown(item, nested, f"{path}.{key}[{index}]", unknown)


def _fill_event_id(event: dict[str, Any], path: str) -> None:
    """Give an event without an id one that a repeat of the same event gets again."""
    given = event.get("eventId")
    if not _is_blank(given) or len(given or "") > MAX_EVENT_ID_CHARS:
        return
    custom_data = event.get("customData")
    order_id = id_from_json(custom_data.get("orderId")) if isinstance(custom_data, dict) else None
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


def _validate(event: dict[str, Any], path: str) -> Event:
    try:
        valid = Event.model_validate(event)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidPayloadError(message, path + _location(first["loc"])) from None
    event["eventId"] = valid.event_id
    return valid


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
