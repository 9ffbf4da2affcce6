"""Turns the vectors' storefront records into our own event, for the tests beside this file."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from schemas.config import Destination
from schemas.event import Event

VECTORS: Final = Path(__file__).parent / "vectors"

_NAMES: Final = {
    "page_view": "PageVisit",
    "product_view": "ViewContent",
    "search": "Search",
    "add_to_cart": "AddToCart",
    "add_to_wishlist": "AddToWishlist",
    "begin_checkout": "InitiateCheckout",
    "add_payment_info": "AddPaymentInfo",
    "purchase": "Purchase",
    "lead": "Lead",
    "sign_up": "SignUp",
    "subscribe": "Subscribe",
    "start_trial": "StartTrial",
}
_SOURCES: Final = {"web": "website", "store": "physical_store", "app": "app"}
_USER: Final = {
    "birth_date": "dateOfBirth",
    "customer_id": "externalId",
    "ip": "ipAddress",
    "first_name": "firstName",
    "last_name": "lastName",
    "postal_code": "postalCode",
    "user_agent": "userAgent",
}
_CLICKS: Final = {
    "epik": "epik",
    "ScCid": "scClickId",
    "_scid": "scCookie1",
    "rdt_cid": "rdtCid",
    "_rdt_uuid": "rdtUuid",
}


def vectors(slug: str) -> dict[str, Any]:
    """All vectors of one platform."""
    loaded: dict[str, Any] = json.loads((VECTORS / f"{slug}.json").read_text())
    return loaded


def destination(slug: str, **changes: Any) -> Destination:
    """A destination with everything switched on, but for ``changes`` (camelCase)."""
    fields = {"id": "d1", "platform": slug, "account": "1", "sealed": ""}
    return Destination.model_validate(fields | changes)


def storefront_event(record: dict[str, Any]) -> Event:
    """One storefront record as an event. Names that are not ours become custom events."""
    name = record["event"]
    user = {_USER.get(key, key): value for key, value in record["user"].items()}
    user |= {_CLICKS[key]: value for key, value in record["click"].items()}
    order = record["order"] or {}
    money = {"currency": order.get("currency"), "value": order.get("total")}
    moment = datetime.fromisoformat(record["occurred_at"])
    return Event.model_validate(
        {
            "eventId": record["event_id"],
            "eventName": _NAMES.get(name, "Custom"),
            "customEventName": None if name in _NAMES else name,
            "eventTime": round(moment.timestamp() * 1000),
            "eventSourceUrl": record["url"],
            "actionSource": _SOURCES[record["source"]],
            "userData": user,
            "customData": {
                **{key: value for key, value in money.items() if value is not None},
                "orderId": order.get("id"),
                "contents": order.get("items", []),
            },
            "consent": {"limitedDataUse": record["consent"]["limited_data_use"]},
        }
    )


def named(name: str) -> Event:
    """An event of that storefront name with enough in it for any platform."""
    return storefront_event(
        {
            "event": name,
            "event_id": "e1",
            "occurred_at": "2026-11-20T12:00:00Z",
            "url": "https://shop.example/",
            "source": "web",
            "user": {"email": "a@b.co"},
            "click": {},
            "order": {"currency": "EUR", "total": "1.00"},
            "consent": {"limited_data_use": False},
        }
    )
