"""One good purchase for each platform, and how a client of it sends a batch."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypedDict

NOW = 1_795_176_060.0
"""One minute after the purchases."""
GOOD_TOKEN = "good-token"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36"
URL = "https://shop.example.com/checkout/thank-you?order=ORD-1001"


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return sha256(text.encode()).hexdigest()


EMAIL = digest("ada.lovelace+shop@example.com")
PHONE = digest("442079460018")

META: dict[str, Any] = {
    "event_name": "Purchase",
    "event_time": 1795176000,
    "action_source": "website",
    "event_id": "purchase-ORD-1001",
    "event_source_url": URL,
    "user_data": {
        "em": [EMAIL],
        "ph": [PHONE],
        "external_id": ["cust_42"],
        "client_ip_address": "203.0.113.7",
        "client_user_agent": AGENT,
        "fbc": "fb.1.1554763741205.IwAR2F4-dbP0l7Mn1IawQQGCINEz7PYXQvwjNwB_qa2ofrHyiLjcbCRxTDMgk",
        "fbp": "fb.1.1554763741205.1098115397",
    },
    "custom_data": {
        "currency": "EUR",
        "value": 64.98,
        "content_type": "product",
        "content_ids": ["SKU-1"],
        "contents": [{"id": "SKU-1", "quantity": 2, "item_price": 29.99}],
        "order_id": "ORD-1001",
        "loyalty_tier": "gold",
    },
}
TIKTOK: dict[str, Any] = {
    "event": "Purchase",
    "event_time": 1795176000,
    "event_id": "purchase-ORD-1001",
    "user": {
        "email": [EMAIL],
        "phone": [digest("+442079460018")],
        "external_id": [digest("cust_42")],
        "city": "newyork",
        "state": "ny",
        "country": "us",
        "ttclid": "E.C.P.v3fQ2RHacdksKfofPmlyuStIIHJ4Af1tKYxF9zz2c2PLx1Oaw15oHpcfl5AH",
        "ip": "2001:db8:1111:a:b0::200",
        "user_agent": AGENT,
    },
    "page": {"url": URL},
    "properties": {
        "currency": "EUR",
        "value": 64.98,
        "content_type": "product",
        "contents": [{"content_id": "SKU-1", "price": 29.99, "quantity": 2}],
        "order_id": "ORD-1001",
    },
}
PINTEREST: dict[str, Any] = {
    "event_name": "checkout",
    "action_source": "web",
    "event_time": 1795176000,
    "event_id": "purchase-ORD-1001",
    "event_source_url": URL,
    "user_data": {
        "em": ["853f1782f3ea2d989979386883d08910614006a64f4c44d272f203f9e45a7376"],
        "ph": ["99a4599795d24445a5be21117f375c1bbe9e795daf7f62666686ce081e1f32dc"],
        "country": ["79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621"],
        "external_id": ["2b1cb0b84296c10ce6cc722d09a874d1f0cc1865615cb94ee50e62354aec017b"],
        "client_ip_address": "203.0.113.7",
        "client_user_agent": AGENT,
        "click_id": "dj0yJnU9b2JDcFFHekV4SHJNcmVrbFBkUEdqakh0akdUT1VjVVUmcD0y",
    },
    "custom_data": {
        "currency": "EUR",
        "value": "64.98",
        "content_ids": ["SKU-1", "SKU-2"],
        "contents": [
            {"id": "SKU-1", "item_name": "Runner", "item_price": "29.99", "quantity": 2},
            {"id": "SKU-2", "item_name": "Sock", "item_price": "5.00", "quantity": 1},
        ],
        "num_items": 3,
        "order_id": "ORD-1001",
    },
}
SNAPCHAT: dict[str, Any] = {
    "event_name": "PURCHASE",
    "action_source": "WEB",
    "event_time": 1795176000,
    "event_id": "purchase-ORD-1001",
    "event_source_url": URL,
    "user_data": {
        "em": [EMAIL],
        "ph": [PHONE],
        "external_id": digest("cust_42"),
        "client_ip_address": "203.0.113.7",
        "client_user_agent": AGENT,
        "sc_click_id": "a3f4b5c6-d7e8-4012-8456-7890abcdef12",
        "sc_cookie1": "1b2c3d4e-5f60-4a7b-8c9d-0e1f2a3b4c5d",
    },
    "custom_data": {
        "currency": "EUR",
        "value": 64.98,
        "content_ids": ["SKU-1", "SKU-2"],
        "contents": [{"id": "SKU-1", "quantity": "2", "item_price": "29.99", "brand": "Acme"}],
        "num_items": 3,
        "order_id": "ORD-1001",
    },
}
REDDIT: dict[str, Any] = {
    "event_at": 1795176000250,
    "action_source": "WEBSITE",
    "event_source_url": URL,
    "click_id": "3184742045291813272",
    "type": {"tracking_type": "PURCHASE"},
    "user": {
        "email": "75d98a720d6c2133c018b687d53e3e952249bbca10cb04b2f4acc7e05b0196f1",
        "phone_number": "faad3b10918e39b5f4d5334f1e1e128719608e8bd3ad3b963dc30187b4518e23",
        "external_id": "2b1cb0b84296c10ce6cc722d09a874d1f0cc1865615cb94ee50e62354aec017b",
        "ip_address": "203.0.113.7",
        "user_agent": AGENT,
        "uuid": "1684189007728.7c73f2ae-a433-4d7b-9838-f467da98f48e",
    },
    "metadata": {
        "conversion_id": "purchase-ORD-1001",
        "order_id": "ORD-1001",
        "currency": "EUR",
        "value": 64.98,
        "item_count": 3,
        "products": [{"id": "SKU-1", "name": "Runner", "quantity": 2, "item_price": 29.99}],
    },
}

SNACKVIDEO: dict[str, Any] = {
    "clickid": "Lw2HvYVkoj1MyzQwwNX4dg",
    "event_name": "EVENT_PURCHASE",
    "is_attributed": 1,
    "mmpcode": "PL",
    "pixelSdkVersion": "9.9.9",
    "testFlag": False,
    "trackFlag": False,
    "properties": '{"content_id":"SKU-1","content_type":"product","currency":"BRL","value":64.98}',
}


class Auth(TypedDict, total=False):
    """Where a client call puts a token."""

    headers: dict[str, str]
    params: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """How one platform is called, as its documents say."""

    slug: str
    path: str
    good: dict[str, Any]
    account: str
    id_path: str
    most: int = 1000
    """Events in a request."""
    token_header: str | None = "Authorization"
    token_prefix: str = "Bearer "
    data_path: tuple[str, ...] = ("data",)
    envelope: Mapping[str, Any] = field(default_factory=dict)
    refuses_whole_batch: bool = True
    token_field: str | None = None
    """Where in the body the token is, if it is there."""

    @property
    def event_id(self) -> str:
        """The good event's id."""
        value: Any = self.good
        for key in self.id_path.split("__"):
            value = value[key]
        return str(value)

    def event(self, **changes: Any) -> dict[str, Any]:
        """The good event with dotted paths changed; ``...`` takes a key away.

        A double underscore stands for the dot: ``user_data__em=["x"]``.
        """
        event = deepcopy(self.good)
        for path, value in changes.items():
            *parents, last = path.split("__")
            holder = event
            for parent in parents:
                holder = holder.setdefault(parent, {})
            if value is ...:
                del holder[last]
            else:
                holder[last] = value
        return event

    def named(self, event_id: str) -> dict[str, Any]:
        """The good event under another id."""
        return self.event(**{self.id_path: event_id})

    def body(self, *events: Any) -> dict[str, Any]:
        """The request body for these events: where only one fits, it is the body."""
        if self.most == 1:
            (event,) = events
            return self.signed({**self.envelope, **event})
        value: Any = list(events)
        for key in reversed(self.data_path):
            value = {key: value}
        return {**self.envelope, **value}

    def signed(self, body: dict[str, Any], token: str = GOOD_TOKEN) -> dict[str, Any]:
        """The body with the token, where it belongs there."""
        return body if self.token_field is None else {**body, self.token_field: token}

    def auth(self, token: str = GOOD_TOKEN) -> Auth:
        """Keyword arguments of the client that carry the token to its place."""
        if self.token_field is not None:
            return {}
        if self.token_header is None:
            return {"params": {"access_token": token}}
        return {"headers": {self.token_header: self.token_prefix + token}}


SAMPLES = {
    sample.slug: sample
    for sample in (
        Sample("meta", "/v26.0/1234567890/events", META, "1234567890", "event_id"),
        Sample(
            "tiktok",
            "/open_api/v1.3/event/track/",
            TIKTOK,
            "C4PIXEL",
            "event_id",
            token_header="Access-Token",
            token_prefix="",
            envelope={"event_source": "web", "event_source_id": "C4PIXEL"},
        ),
        Sample(
            "pinterest",
            "/v5/ad_accounts/549755885175/events",
            PINTEREST,
            "549755885175",
            "event_id",
            refuses_whole_batch=False,
        ),
        Sample(
            "snapchat",
            "/v3/pixel-1/events",
            SNAPCHAT,
            "pixel-1",
            "event_id",
            most=2000,
            token_header=None,
        ),
        Sample(
            "reddit",
            "/api/v3/pixels/a2_abc/conversion_events",
            REDDIT,
            "a2_abc",
            "metadata__conversion_id",
            data_path=("data", "events"),
        ),
        Sample(
            "snackvideo",
            "/log/common/api",
            SNACKVIDEO,
            "271828182845904",
            "clickid",
            most=1,
            envelope={"pixelId": "271828182845904"},
            token_field="access_token",
        ),
    )
}
