"""The bodies that the documents of the gateway show; each of them is taken as it stands."""

from collections.abc import Mapping
from typing import Any, Final

from runtime.openapi import REQUEST_ID

EVENT: Final[Mapping[str, Any]] = {
    "eventId": "T-2001-Purchase",
    "eventName": "Purchase",
    "eventTime": 1767225600,
    "eventSourceUrl": "https://shop.example/thanks",
    "actionSource": "website",
    "userData": {
        "email": "ada@example.com",
        "phone": "+49 171 1234567",
        "externalId": "cust_42",
        "country": "DE",
        "ipAddress": "203.0.113.7",
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
        "fbp": "fb.1.1767222000000.1234567890",
    },
    "customData": {
        "currency": "EUR",
        "value": 49.99,
        "orderId": "T-2001",
        "contents": [{"id": "SKU-1", "name": "Mug", "quantity": 1, "price": 49.99}],
    },
    "consent": {"marketing": True, "limitedDataUse": False},
}
EVENTS: Final = {"events": [EVENT]}
DISPATCH: Final = {"dispatchKey": "purchase:2001", "events": [EVENT]}
DISPATCH_KEY: Final = {"dispatchKey": "purchase:2001"}
BLOCKS: Final = {
    "event": "add_to_cart",
    "facebook": {
        "event_name": "AddToCart",
        "event_id": "pmw_k3j9x2m1q8w7e6r5",
        "event_time": 1767225600,
        "action_source": "website",
        "event_source_url": "https://shop.example/p/mug",
        "user_data": {"fbp": "fb.1.1767225600000.1234567890", "client_user_agent": "Mozilla/5.0"},
        "custom_data": {"content_ids": ["SKU-1"], "value": 12.5, "currency": "EUR"},
    },
    "tiktok": {
        "event": "AddToCart",
        "event_id": "pmw_k3j9x2m1q8w7e6r5",
        "event_time": 1767225600,
    },
}

ACCEPTED: Final = {
    "success": True,
    "requestId": REQUEST_ID,
    "eventIds": ["T-2001-Purchase"],
    "warnings": ["events[0].userData.shoeSize: unknown key, left out"],
}
ACCEPTED_BLOCKS: Final = {
    "success": True,
    "requestId": REQUEST_ID,
    "eventIds": ["pmw_k3j9x2m1q8w7e6r5"],
}
ACCEPTED_DISPATCH: Final = {
    "success": True,
    "requestId": REQUEST_ID,
    "eventIds": ["T-2001-Purchase"],
    "alreadyAccepted": False,
}
DISPATCH_STATUS: Final = {
    "success": True,
    "requestId": REQUEST_ID,
    "dispatchKey": "purchase:2001",
    "dispatched": True,
    "acceptedAt": 1767225600123,
    "eventIds": ["T-2001-Purchase"],
    "outcomes": [
        {
            "eventId": "T-2001-Purchase",
            "destinationId": "dst_3f9c2a41d0e87b65",
            "platform": "meta",
            "outcome": "delivered",
            "reason": None,
            "code": None,
            "at": 1767225601500,
        }
    ],
}
