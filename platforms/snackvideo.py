"""SnackVideo (Kwai): the web Event API, ``https://www.adsnebula.com/log/common/api``.

Kwai publishes no page on it. What is sent here is what independent public integrations agree on;
names of events also stand in Kwai's help on app postbacks:
https://docs.qingque.cn/d/home/eZQBCHdYJamURXpkUYpymwhWV

One event per request, the token in the body, ``properties`` as a string that holds JSON, and HTTP
200 also for errors. The click id alone tells who it was: no other identifier has a known name
here, so none is sent. **There is no event id**: SnackVideo cannot tell a repeat from a second
event, so what is posted twice, after a timeout or a crash, is counted twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from platforms import answers, identity, nobody
from platforms.accounts import PixelCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_number, basket, content_type
from platforms.mapping import is_limited, present, renamed
from schemas.config import Destination
from schemas.event import Content, Event, EventName
from schemas.outcome import Reason, Skip

SLUG = "snackvideo"
NAME = "SnackVideo"
BASE_URL = "https://www.adsnebula.com"
# Neither age nor size has a known limit; seven days is what most platforms here take.
LIMITS = Limits(max_events=1, max_body_bytes=1_000_000, max_age_seconds=7 * 86400)
_FIXED: Final[Mapping[str, Any]] = {
    # An integer; a boolean is refused (10002).
    "is_attributed": 1,
    "mmpcode": "PL",
    "pixelSdkVersion": "9.9.9",
    "testFlag": False,
    "trackFlag": False,
}
# An event shares the request's object with account and token, and the last of two keys counts.
BLOCK = Block(
    name=("event_name",),
    id=None,
    time=None,
    defaults=_FIXED,
    reserved=frozenset({"access_token", "pixelId"}),
)

EVENT_NAMES: Final = {
    # SnackVideo has no word for a mere page; most integrations say this.
    EventName.PAGE_VISIT: "EVENT_CONTENT_VIEW",
    EventName.VIEW_CONTENT: "EVENT_CONTENT_VIEW",
    EventName.SEARCH: "EVENT_SEARCH",
    EventName.ADD_TO_CART: "EVENT_ADD_TO_CART",
    EventName.ADD_TO_WISHLIST: "EVENT_ADD_TO_WISHLIST",
    EventName.INITIATE_CHECKOUT: "EVENT_INITIATED_CHECKOUT",
    EventName.ADD_PAYMENT_INFO: "EVENT_ADD_PAYMENT_INFO",
    EventName.PURCHASE: "EVENT_PURCHASE",
    EventName.LEAD: "EVENT_FORM_SUBMIT",
    EventName.SIGN_UP: "EVENT_COMPLETE_REGISTRATION",
    EventName.SUBSCRIBE: "EVENT_SUBSCRIBE",
}
STANDARD_NAMES: Final = frozenset(EVENT_NAMES.values()) | {
    "EVENT_1ST_PURCHASE",
    "EVENT_BUTTON_CLICK",
    "EVENT_CONTACT",
    "EVENT_DOWNLOAD",
    "EVENT_PLACE_ORDER",
}
"""All there are: SnackVideo refuses any other (10007)."""


def _spelling(name: str) -> str:
    """What ``EVENT_ADD_TO_CART`` and the browser pixel's ``addToCart`` have in common."""
    return name.lower().removeprefix("event_").replace("_", "")


_NAMES_BY_SPELLING: Final = {
    **{_spelling(name.value): told for name, told in EVENT_NAMES.items()},
    **{_spelling(told): told for told in STANDARD_NAMES},
}

# One public list is the only source of these codes; it has none for too many requests.
_TAKEN: Final = 1
_REFUSED: Final = frozenset({10001, 10002, 10005, 10007})
_ACCOUNT: Final = frozenset({10006})
_NO_SUCH_EVENT: Final = frozenset({"10005", "10007"})
# What any server may say of its caller.
_TELLING_STATUSES: Final = frozenset({401, 403, 429})


class Credentials(PixelCredentials):
    """A pixel and its token. The test event code is the test click id that Kwai's console shows:
    with it, every event goes out as a test under that click id."""


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """All of the request's body but account and token.

    There is no switch for limited data use, so an event that asks for it is not sent.
    """
    name = _event_name(event, destination)
    if isinstance(name, Skip):
        return name
    if is_limited(event, destination):
        return Skip(
            Reason.NO_CONSENT, "SnackVideo cannot be asked to use an event in a limited way"
        )
    click_id = identity.plain(event.user_data.kwai_click_id)
    if click_id is None:
        return Skip(
            Reason.MISSING_CLICK_ID,
            "SnackVideo needs userData.kwaiClickId, the click_id of the page that the ad opened",
        )
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    return {
        "clickid": click_id,
        "event_name": name,
        **_FIXED,
        "properties": orjson.dumps(_properties(event, goods)).decode(),
    }


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for one event.

    Sources disagree on how to mark a test; the ones that cite Kwai set ``trackFlag`` and leave
    ``testFlag`` alone.
    """
    (event,) = batch
    if credentials.test_event_code:
        test = {"clickid": credentials.test_event_code, "trackFlag": True}
        event = orjson.dumps(orjson.loads(event) | test)
    token = orjson.dumps(credentials.access_token.get_secret_value())
    pixel_id = orjson.dumps(credentials.pixel_id)
    return Request(
        path="/log/common/api",
        body=b'{"access_token":%b,"pixelId":%b,%b' % (token, pixel_id, event.removeprefix(b"{")),
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json;charset=utf-8",
        },
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """``result`` decides, never the status; nothing is rejected on a result of unknown meaning."""
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    result = answers.number(body.get("result"))
    code = answers.safe_code(body.get("result"))
    detail = answers.safe_text(body.get("error_msg"))
    if result == _TAKEN and response.status == 200:
        return answers.every(batch_size, Verdict(Fate.DELIVERED))
    if result in _REFUSED:
        return answers.refused(batch_size, code, detail)
    if result in _ACCOUNT:
        return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    if response.status in _TELLING_STATUSES:
        return answers.by_status(response, batch_size, code, detail)
    unclear = Verdict(
        Fate.RETRYABLE,
        code or f"HTTP {response.status}",
        detail or "the answer does not say that the event was taken",
        answers.retry_after_seconds(response),
    )
    return answers.every(batch_size, unclear)


def probe(credentials: Credentials, now: int) -> Probe:
    """A content view under the console's test click id, or else an event of a name that there is
    not, after no click: it is refused for either (10005, 10007), and for a bad token before (10006).
    """
    is_test = credentials.test_event_code is not None
    event = {
        "clickid": nobody.EVENT_ID,  # a test has its own
        "event_name": "EVENT_CONTENT_VIEW" if is_test else "EVENT_CREDENTIALS_CHECK",
        **_FIXED,
        "properties": orjson.dumps({"event_timestamp": now}).decode(),
    }
    call = request([orjson.dumps(event)], credentials)
    return Probe(call) if is_test else Probe(call, _NO_SUCH_EVENT)


def _event_name(event: Event, destination: Destination) -> str | Skip:
    told = renamed(event, destination)
    if told is None and event.event_name is EventName.CUSTOM:
        told = event.custom_event_name
    name = EVENT_NAMES.get(event.event_name)
    if told is not None:
        name = _NAMES_BY_SPELLING.get(_spelling(told))
    if name is None:
        return Skip(
            Reason.UNSUPPORTED_EVENT,
            "SnackVideo takes its standard events only; give this one such a name, for instance "
            "EVENT_CONTACT, or switch it off",
        )
    if name == "EVENT_SEARCH" and event.custom_data.search_string is None:
        return Skip(
            Reason.UNSUPPORTED_EVENT, "SnackVideo takes a search only with customData.searchString"
        )
    return name


def _properties(event: Event, goods: Basket) -> dict[str, Any]:
    """What it was about. ``content_id`` is one id, which product ads match on: of several lines,
    the first; ``contents`` then has them all, in the same words."""
    data = event.custom_data
    lines = [_line(line) for line in goods.lines]
    first = lines[0] if lines else {}
    alone = first if len(lines) == 1 else {}
    return present(
        {
            "content_id": first.get("content_id"),
            "content_type": content_type(event, goods),
            "content_name": data.content_name or alone.get("content_name"),
            "content_category": data.content_category or alone.get("content_category"),
            "quantity": goods.num_items,
            "price": alone.get("price"),
            "currency": goods.currency,
            "value": as_number(goods.value),
            "query": data.search_string,
            "contents": lines if len(lines) > 1 else None,
            "event_timestamp": event.event_time_seconds,
        }
    )


def _line(line: Content) -> dict[str, Any]:
    return present(
        {
            "content_id": line.id,
            "content_name": line.name,
            "content_category": line.category,
            "quantity": line.quantity,
            "price": as_number(line.price),
        }
    )
