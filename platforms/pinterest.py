"""Pinterest: conversions API v5.

https://developers.pinterest.com/docs/api/v5/events-create/

The schema is closed: one unknown key anywhere makes Pinterest refuse the whole request. Money is
text, counts are integers, hashes are lists.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import orjson

from platforms import answers, identity, nobody
from platforms.accounts import AccountId, TokenCredentials
from platforms.base import Block, Fate, Limits, Probe, Request, Response, Verdict
from platforms.commerce import Basket, as_text, basket
from platforms.mapping import array, is_limited, present, renamed
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName
from schemas.outcome import Reason, Skip

SLUG = "pinterest"
NAME = "Pinterest"
BASE_URL = "https://api.pinterest.com"
LIMITS = Limits(
    max_events=1000,
    max_body_bytes=2_000_000,
    max_age_seconds=7 * 86400,
    dedupe_window_seconds=24 * 3600,
)
BLOCK = Block(
    name=("event_name",),
    id=("event_id",),
    time=("event_time",),
    demands_id=True,
    defaults={"action_source": "web"},
)

EVENT_NAMES: Final = {
    EventName.PAGE_VISIT: "page_visit",
    EventName.VIEW_CONTENT: "view_category",
    EventName.SEARCH: "search",
    EventName.ADD_TO_CART: "add_to_cart",
    EventName.ADD_TO_WISHLIST: "add_to_wishlist",
    EventName.INITIATE_CHECKOUT: "initiate_checkout",
    EventName.ADD_PAYMENT_INFO: "add_payment_info",
    EventName.PURCHASE: "checkout",
    EventName.LEAD: "lead",
    EventName.SIGN_UP: "signup",
    EventName.SUBSCRIBE: "subscribe",
    # The specification has no trial, only a connector's word for one.
    EventName.START_TRIAL: "custom",
    EventName.CUSTOM: "custom",
}
NAMES: Final = frozenset(EVENT_NAMES.values()) | {
    "app_install",
    "app_open",
    "contact",
    "customize_product",
    "find_location",
    "schedule",
    "start_trial",
    "submit_application",
    "view_content",
    "watch_video",
}

IDENTIFIERS: Final[identity.Identifiers] = (
    ("em", "email", identity.email),
    ("ph", "phone", identity.phone_digits),
    ("fn", "first_name", identity.lower),
    ("ln", "last_name", identity.lower),
    ("ge", "gender", identity.gender),
    ("db", "date_of_birth", identity.date_of_birth),
    ("ct", "city", identity.letters_digits),
    ("st", "state", identity.state),
    ("zp", "postal_code", identity.postal_digits),
    ("country", "country", identity.country),
    ("external_id", "external_id", identity.verbatim),
)
_PLACE: Final = tuple(row for row in IDENTIFIERS if row[0] in {"st", "country"})

_ACCOUNT: Final = frozenset({2, 29})
_THROTTLED: Final = 8
_REFUSED: Final = 4196
_RAMPED_DOWN: Final = 4197


class Credentials(TokenCredentials):
    """An ad account and a conversion token; any test code at all turns test mode on.

    ``pixel_id`` is the tag of the same account; the API has no use for it.
    """

    account_field: ClassVar[str] = "ad_account_id"

    ad_account_id: AccountId
    pixel_id: AccountId | None = None


def payload(event: Event, destination: Destination) -> dict[str, Any] | Skip:
    """A conversion event.

    With advanced matching off, only click id, ip and user agent tell who it was; under limited
    data processing state and country go along even then, because Pinterest ignores the wish
    without them.
    """
    if event.action_source is ActionSource.APP:
        return Skip(Reason.UNSUPPORTED_SOURCE, "Pinterest asks whether an app is Android or iOS")
    name = renamed(event, destination) or EVENT_NAMES[event.event_name]
    if name not in NAMES:
        return Skip(Reason.BAD_CUSTOM_NAME, "Pinterest has its own list of names, and custom")
    goods = basket(event)
    if isinstance(goods, Skip):
        return goods
    user = _user_data(event, destination)
    if "em" not in user and not user.keys() >= {"client_ip_address", "client_user_agent"}:
        return Skip(
            Reason.TOO_FEW_MATCH_KEYS, "Pinterest needs an e-mail, or both ip and user agent"
        )
    on_web = event.action_source is ActionSource.WEBSITE
    return present(
        {
            "event_name": name,
            "action_source": "web" if on_web else "offline",
            "event_time": event.event_time_seconds,
            "event_id": event.event_id,
            "event_source_url": event.event_source_url,
            "user_data": user,
            "custom_data": _custom_data(event, goods, limited=is_limited(event, destination)),
        }
    )


def request(batch: Sequence[bytes], credentials: Credentials) -> Request:
    """One call for up to 1,000 events of one ad account."""
    return Request(
        path=f"/v5/ad_accounts/{credentials.ad_account_id}/events",
        body=b'{"data":' + array(batch) + b"}",
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {credentials.access_token.get_secret_value()}",
        },
        query={"test": "true"} if credentials.test_event_code else {},
    )


def read(response: Response, batch_size: int) -> list[Verdict]:
    """A refused schema is refused whole; of what passes it, each event has its own status.

    The specification shows the list of statuses under 200; under 422 its place is not said.
    """
    body = answers.json_object(response)
    if body is None:
        return answers.not_the_platform(response, batch_size)
    if response.status in {200, 422}:
        statuses = _statuses(body)
        if len(statuses) == batch_size:
            return [_read_status(status) for status in statuses]
    number = answers.number(body.get("code"))
    code, detail = answers.safe_code(body.get("code")), answers.safe_text(body.get("message"))
    if number == _THROTTLED:
        return answers.throttled(response, batch_size, code, detail)
    if number == _RAMPED_DOWN:
        wait = answers.retry_after_seconds(response)
        return answers.every(batch_size, Verdict(Fate.RETRYABLE, code, detail, wait))
    if number in _ACCOUNT:
        return answers.every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    if number == _REFUSED:
        return answers.refused(batch_size, code, detail)
    return answers.by_status(response, batch_size, code, detail)


def probe(credentials: Credentials, now: int) -> Probe:
    """A page visit under ``?test=true``: answered as any other, and nothing is recorded."""
    event = {
        "event_name": "page_visit",
        "action_source": "web",
        "event_time": now,
        "event_id": nobody.EVENT_ID,
        "event_source_url": nobody.URL,
        "user_data": {"em": [nobody.EMAIL_SHA256]},
    }
    return Probe(replace(request([orjson.dumps(event)], credentials), query={"test": "true"}))


def _user_data(event: Event, destination: Destination) -> dict[str, Any]:
    user = event.user_data
    identifiers: identity.Identifiers = ()
    if destination.advanced_matching:
        identifiers = IDENTIFIERS
    elif is_limited(event, destination):
        identifiers = _PLACE
    return present(
        {
            **{key: [value] for key, value in identity.hashes(user, identifiers).items()},
            "client_ip_address": identity.ip(user.ip_address),
            "client_user_agent": identity.plain(user.user_agent),
            "click_id": identity.plain(user.epik),
        }
    )


def _custom_data(event: Event, goods: Basket, *, limited: bool) -> dict[str, Any]:
    data = event.custom_data
    return present(
        {
            "currency": goods.currency,
            "value": as_text(goods.value, goods.currency),
            "content_ids": goods.ids,
            "contents": [
                present(
                    {
                        "id": line.id,
                        "item_name": line.name,
                        "item_category": line.category,
                        "item_brand": line.brand,
                        "item_price": as_text(line.price, goods.currency),
                        "quantity": line.quantity,
                    }
                )
                for line in goods.lines
            ],
            "num_items": goods.num_items,
            "order_id": data.order_id,
            "search_string": data.search_string,
            "content_name": data.content_name,
            "content_category": data.content_category,
            "opt_out_type": "LDP" if limited else None,
        }
    )


def _statuses(body: dict[str, Any]) -> list[Any]:
    details = body.get("details")
    inner = details.get("events") if isinstance(details, dict) else details
    for found in (body.get("events"), inner):
        if isinstance(found, list):
            return found
    return []


def _read_status(status: object) -> Verdict:
    known = status if isinstance(status, dict) else {}
    if known.get("status") == "processed":
        return Verdict(Fate.DELIVERED, detail=answers.safe_text(known.get("warning_message")))
    if known.get("status") == "failed":
        return Verdict(Fate.REJECTED, "failed", answers.safe_text(known.get("error_message")))
    return Verdict(Fate.RETRYABLE, detail="Pinterest does not say what became of this event")
