"""SnackVideo's (Kwai's) web Event API: judge it by ``result``, for its HTTP status is always 200.

Kwai publishes no page on it; names, types and results are those that independent public
integrations agree on. See Kwai's help on app postbacks for the names of events:
https://docs.qingque.cn/d/home/eZQBCHdYJamURXpkUYpymwhWV
"""

from typing import Any

import orjson

from sandbox.exchange import Answer, Batch, Call, Event, reply, wait_header
from sandbox.rules import CURRENCY, SHA256, is_expired, is_forbidden, is_marked
from sandbox.schema import Problem, Schema, compile_schema

SLUG = "snackvideo"
NAME = "SnackVideo"
PATH = "/log/common/api"
FIRST_MILLISECONDS = 100_000_000_000

STORED = 1
MISSING, WRONG_TYPE, BAD_CLICK_ID, BAD_TOKEN, UNKNOWN_EVENT = 10001, 10002, 10005, 10006, 10007
UNKNOWN = 10003
"""A result that nobody has explained."""

NAMES = [
    "EVENT_CONTENT_VIEW",
    "EVENT_ADD_TO_CART",
    "EVENT_INITIATED_CHECKOUT",
    "EVENT_ADD_PAYMENT_INFO",
    "EVENT_PURCHASE",
    "EVENT_1ST_PURCHASE",
    "EVENT_COMPLETE_REGISTRATION",
    "EVENT_FORM_SUBMIT",
    "EVENT_BUTTON_CLICK",
    "EVENT_CONTACT",
    "EVENT_DOWNLOAD",
    "EVENT_PLACE_ORDER",
    "EVENT_SEARCH",
    "EVENT_ADD_TO_WISHLIST",
    "EVENT_SUBSCRIBE",
]

TEXT = {"type": "string"}
AMOUNT = {"type": "number", "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}
FLAG = {"type": "boolean"}
CONTENT = {
    **dict.fromkeys(("content_id", "content_name", "content_category"), TEXT),
    "quantity": COUNT,
    "price": AMOUNT,
}
PROPERTIES: Schema = {
    "type": "object",
    "properties": {
        **CONTENT,
        "content_type": {"type": "string", "enum": ["product", "product_group"]},
        "value": AMOUNT,
        "currency": {"type": "string", "pattern": f"^{CURRENCY.pattern}$"},
        "query": TEXT,
        "contents": {"type": "array", "items": {"type": "object", "properties": CONTENT}},
        "event_timestamp": {"type": "integer", "maximum": FIRST_MILLISECONDS - 1},
    },
    "additionalProperties": False,
}
"""What the string in ``properties`` holds. Closed, though the platform may well not be: a name
that it has no use for would not be missed otherwise."""
EVENT: Schema = {
    "type": "object",
    "required": ["clickid", "event_name", "is_attributed", "mmpcode", "pixelSdkVersion"],
    "properties": {
        "clickid": {"type": "string", "minLength": 1},
        "event_name": TEXT,
        "is_attributed": {"type": "integer", "minimum": 1, "maximum": 1},
        "mmpcode": {"type": "string", "enum": ["PL"]},
        "pixelSdkVersion": TEXT,
        **dict.fromkeys(("testFlag", "trackFlag"), FLAG),
        "properties": TEXT,
        "third_party": TEXT,
    },
}
"""The body but for the account and the token."""

_ACCOUNT = ("access_token", "pixelId")
_check = compile_schema(EVENT)
_check_properties = compile_schema(PROPERTIES)


class Refusal(Exception):  # noqa: N818 - what the platform answers, not a fault of this program
    """A result of SnackVideo's, raised where it is found."""

    def __init__(self, result: int, text: str):
        super().__init__(text)
        self.result, self.text = result, text


def read(call: Call) -> Batch:
    """The one event of a request, without the token that lies beside it.

    A test is known by its flag alone; its click id says which one.
    """
    body = call.document
    if not isinstance(body, dict):
        return Batch("")
    event = {key: value for key, value in body.items() if key not in _ACCOUNT}
    test_click_id = call.text("clickid") if body.get("trackFlag") is True else None
    return Batch(call.text("pixelId") or "", [event], test_click_id)


def event_id(event: Event) -> Any:
    """The click id: nothing else tells one event of SnackVideo's from another, so two purchases
    after one click look like a repetition."""
    return event.get("clickid")


def event_name(event: Event) -> Any:
    """The standard event name."""
    return event.get("event_name")


def answer(call: Call, batch: Batch) -> Answer:
    """Result 1 for a good event, else what is wrong with it."""
    try:
        _check_account(call)
        for event in batch.events:
            check(event)
    except Refusal as refusal:
        return _say(refusal.result, refusal.text)
    return _say(STORED)


def _check_account(call: Call) -> None:
    body = call.document
    if not isinstance(body, dict):
        raise Refusal(WRONG_TYPE, "the body is not a JSON object")
    for name in _ACCOUNT:
        if name not in body:
            raise Refusal(MISSING, f"{name} is missing")
        if not isinstance(body[name], str):
            raise Refusal(WRONG_TYPE, f"{name} is not a string")
    token = body["access_token"]
    if not token or is_expired(token) or is_forbidden(token):
        raise Refusal(BAD_TOKEN, "invalid access_token")
    if not body["pixelId"]:
        raise Refusal(MISSING, "pixelId is empty")


def check(event: Event) -> None:
    """Raise Refusal for the first thing that SnackVideo would refuse in this event."""
    _refuse(_check(event))
    if event["event_name"] not in NAMES:
        raise Refusal(UNKNOWN_EVENT, "invalid event_name")
    click_id = event["clickid"]
    if click_id != click_id.strip() or SHA256.fullmatch(click_id) or is_marked(SLUG, click_id):
        raise Refusal(BAD_CLICK_ID, "invalid clickid")
    properties = _properties(event)
    _refuse(_check_properties(properties))
    if event["event_name"] == "EVENT_SEARCH" and not properties.get("query"):
        raise Refusal(MISSING, "properties.query is missing")


def _properties(event: Event) -> Any:
    try:
        return orjson.loads(event.get("properties", "{}"))
    except orjson.JSONDecodeError:
        raise Refusal(WRONG_TYPE, "properties is not JSON") from None


def _refuse(problem: Problem | None) -> None:
    if problem is None:
        return
    path = ".".join(map(str, problem.path)) or "properties"
    is_missing = problem.rule in {"required", "minLength"}
    raise Refusal(MISSING if is_missing else WRONG_TYPE, f"{path}: {problem.rule}")


def expired_token(_call: Call) -> Answer:
    """10006, the one result for whatever is wrong with a token."""
    return _say(BAD_TOKEN, "invalid access_token")


def throttled(_call: Call, retry_after: float | None) -> Answer:
    """429; SnackVideo's own result for it, if it has one, is not known."""
    body = {"error_msg": "too many requests"}
    return reply(429, body, code="429", headers=wait_header(retry_after))


def failed_in_200(_call: Call, _batch: Batch) -> Answer:
    """A result that nobody has explained."""
    return _say(UNKNOWN, "system error")


def _say(result: int, text: str | None = None) -> Answer:
    if text is None:
        return reply(200, {"result": result})
    return reply(200, {"result": result, "error_msg": text}, code=str(result))
