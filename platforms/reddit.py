"""Reddit: Conversions API v3.

https://ads-api.reddit.com/docs/v3/operations/Post%20Conversion%20Events

The schema is closed, times are milliseconds, and one bad event means that nothing of the request
is stored; Reddit then names the ones it refused.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import orjson

from platforms import answers, identity, nobody
from platforms.accounts import PixelCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_number, basket
from platforms.mapping import array, is_limited, present, renamed
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName, UserData
from schemas.outcome import Reason, Skip

SLUG = "reddit"
NAME = "Reddit"
BASE_URL = "https://ads-api.reddit.com"
# The size of a body is not documented: this holds a full batch of events with every identifier.
LIMITS = Limits(
    max_events=1000,
    max_body_bytes=3_000_000,
    max_age_seconds=7 * 86400,
    dedupe_window_seconds=48 * 3600,
)
BLOCK = Block(
    name=("type", "tracking_type"),
    id=("metadata", "conversion_id"),
    time=("event_at",),
    time_unit_ms=1,
    defaults={"action_source": "WEBSITE"},
)

TRACKING_TYPES: Final = {
    EventName.PAGE_VISIT: "PAGE_VISIT",
    EventName.VIEW_CONTENT: "VIEW_CONTENT",
    EventName.SEARCH: "SEARCH",
    EventName.ADD_TO_CART: "ADD_TO_CART",
    EventName.ADD_TO_WISHLIST: "ADD_TO_WISHLIST",
    EventName.PURCHASE: "PURCHASE",
    EventName.LEAD: "LEAD",
    EventName.SIGN_UP: "SIGN_UP",
}
"""Reddit has no other; the rest is ``CUSTOM`` under a name."""

# A merchant may know a type by its name in v2, PageVisit.
_TYPES_BY_NAME: Final = {
    **{kind: kind for kind in TRACKING_TYPES.values()},
    **{name.value: kind for name, kind in TRACKING_TYPES.items()},
}
MAX_CUSTOM_NAME_CHARS: Final = 64
MAX_ORDER_ID_CHARS: Final = 100

ACTION_SOURCES: Final = {
    ActionSource.WEBSITE: "WEBSITE",
    ActionSource.APP: "APP",
    ActionSource.PHYSICAL_STORE: "PHYSICAL_STORE",
}

IDENTIFIERS: Final[identity.Identifiers] = (
    ("email", "email", identity.email_canonical),
    ("phone_number", "phone", identity.phone),
    ("external_id", "external_id", identity.verbatim),
)
_SIGNALS: Final = frozenset({"email", "phone_number", "external_id", "uuid"})

# The cookie {ms}.{uuid} or the bare uuid; one that is not RFC 4122 sinks the whole batch.
_UUID: Final = re.compile(
    r"(?:\d+\.)?[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    re.IGNORECASE | re.ASCII,
)

# Reddit slows down the default agents of HTTP libraries.
USER_AGENT: Final = "server:capistream:v0.1 (conversion events relay)"

_INVALID_EVENT: Final = frozenset({"400"})
_POSITION: Final = re.compile(r"\bevents\[(\d{1,4})\]", re.ASCII)
_PROCESSED: Final = re.compile(r"\bprocessed (\d{1,4})\b", re.IGNORECASE | re.ASCII)


class Credentials(PixelCredentials):
    """A pixel and its conversion access token; the test code is what Reddit calls a test id."""


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """A conversion event.

    With advanced matching off, only click id, cookie, ip and user agent tell who it was.
    """
    kind = _type(event, destination)
    if isinstance(kind, Skip):
        return kind
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    limited = is_limited(event, destination)
    click_id = identity.plain(event.user_data.rdt_cid)
    user = _user(event.user_data, destination)
    has_browser = user.keys() >= {"ip_address", "user_agent"}
    if not (click_id or has_browser) and _SIGNALS.isdisjoint(user):
        return Skip(
            Reason.TOO_FEW_MATCH_KEYS,
            "Reddit needs a click id, its cookie, an e-mail, phone or external id, "
            "or both ip and user agent",
        )
    if limited:
        user["data_processing_options"] = _limits(event.user_data)
    on_web = event.action_source is ActionSource.WEBSITE
    return present(
        {
            "event_at": event.event_time,
            "action_source": ACTION_SOURCES.get(event.action_source, "OTHER"),
            "event_source_url": event.event_source_url if on_web else None,
            "referrer_url": event.referrer_url,
            "click_id": click_id,
            "type": kind,
            "user": user,
            "metadata": _metadata(event, goods),
        }
    )


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for up to 1,000 events. A test id makes all of them a test."""
    code = credentials.test_event_code
    test = b',"test_id":' + orjson.dumps(code) if code else b""
    return Request(
        path=f"/api/v3/pixels/{credentials.pixel_id}/conversion_events",
        body=b'{"data":{"events":' + array(batch) + test + b"}}",
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {credentials.access_token.get_secret_value()}",
            "User-Agent": USER_AGENT,
        },
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """Reddit takes a request whole or not at all, and names the events that it refuses."""
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    error = body.get("error")
    if isinstance(error, dict):
        return _read_error(error, response, batch_size)
    if response.status == 200 and _confirms(body.get("data"), batch_size):
        return answers.every(batch_size, Verdict(Fate.DELIVERED))
    return answers.by_status(response, batch_size, detail=answers.safe_text(body.get("message")))


def probe(credentials: Credentials, now: int) -> Probe:
    """A page visit of now under the destination's test id, or else one of long ago, which Reddit
    refuses (400) once it has accepted token and pixel: those are 401, 403 and 404."""
    is_test = credentials.test_event_code is not None
    event = {
        "event_at": (now if is_test else now - nobody.LONG_SECONDS) * 1000,
        "action_source": "WEBSITE",
        "event_source_url": nobody.URL,
        "type": {"tracking_type": "PAGE_VISIT"},
        "user": {"email": nobody.EMAIL_SHA256},
        "metadata": {"conversion_id": nobody.EVENT_ID},
    }
    call = request([orjson.dumps(event)], credentials)
    return Probe(call) if is_test else Probe(call, _INVALID_EVENT)


def _type(event: Event, destination: Destination) -> dict[str, str] | Skip:
    name = renamed(event, destination)
    kind = TRACKING_TYPES.get(event.event_name) if name is None else _TYPES_BY_NAME.get(name)
    if kind:
        return {"tracking_type": kind}
    is_custom = event.event_name is EventName.CUSTOM
    name = name or (event.custom_event_name if is_custom else None) or event.event_name.value
    if len(name) > MAX_CUSTOM_NAME_CHARS:
        return Skip(
            Reason.BAD_CUSTOM_NAME,
            f"Reddit takes custom names of up to {MAX_CUSTOM_NAME_CHARS} characters",
        )
    return {"tracking_type": "CUSTOM", "custom_event_name": name}


def _user(user: UserData, destination: Destination) -> dict[str, Any]:
    hashes = identity.hashes(user, IDENTIFIERS) if destination.advanced_matching else {}
    return present(
        {
            **hashes,
            "ip_address": identity.ip(user.ip_address),
            "user_agent": identity.plain(user.user_agent),
            "uuid": user.rdt_uuid if user.rdt_uuid and _UUID.fullmatch(user.rdt_uuid) else None,
        }
    )


def _limits(user: UserData) -> dict[str, Any]:
    country = identity.country_of(user)
    return present(
        {
            "modes": ["LDU"],
            "country": country.upper() if country else None,
            "region": identity.region_of(user),
        }
    )


def _metadata(event: Event, goods: Basket) -> dict[str, Any]:
    order_id = event.custom_data.order_id
    return present(
        {
            "conversion_id": event.event_id,
            "order_id": order_id if order_id and len(order_id) <= MAX_ORDER_ID_CHARS else None,
            "currency": goods.currency,
            "value": as_number(goods.value),
            "item_count": goods.num_items,
            "products": [
                present(
                    {
                        "id": line.id,
                        "name": line.name,
                        "category": line.category,
                        "quantity": line.quantity,
                        "item_price": as_number(line.price),
                    }
                )
                for line in goods.lines
            ],
        }
    )


def _confirms(data: object, batch_size: int) -> bool:
    message = data.get("message") if isinstance(data, dict) else None
    found = _PROCESSED.search(message) if isinstance(message, str) else None
    return found is not None and int(found[1]) >= batch_size


def _read_error(error: dict[str, Any], response: Response, batch_size: int) -> list[Verdict]:
    code, detail = answers.safe_code(error.get("code")), answers.safe_text(error.get("message"))
    status = answers.number(error.get("code")) or response.status
    if status != 400:
        said = Response(status, response.body, response.headers)
        return answers.by_status(said, batch_size, code, detail)
    culprits: dict[int, str | None] = {}
    fields = error.get("fields")
    for field in fields if isinstance(fields, list) else ():
        path = field.get("field") if isinstance(field, dict) else None
        found = _POSITION.search(path) if isinstance(path, str) else None
        if found:
            culprits.setdefault(int(found[1]), answers.safe_text(field.get("message")))
    return answers.refused(batch_size, code, detail, culprits)
