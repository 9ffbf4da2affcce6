"""What every arrangement of the streams' measurement does with an event: the shop, the records, and
the claims for clients that wait. Nothing here knows Kafka, so that it is the same under each of them.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson
import redis

from platforms.registry import PLATFORMS
from runtime.settings import RedisSettings
from schemas.config import DomainConfig
from schemas.raw_event import Door, RawEvent
from schemas.record import Record
from schemas.wire import SCHEMA_VERSION
from streams.claims import CLAIM_SCRIPT, Wanted, script_input
from streams.dedupe import claim_key, first_source
from streams.fan_out import fan_out

GROUP: Final = "streams"
FED: Final = ("meta", "tiktok", "pinterest", "snapchat", "reddit")
"""One destination at each: a delivery or an outcome of an event."""
RECORDS: Final = 1 + len(FED)
"""What comes of an event: that, and its routing."""

SHOP: Final = DomainConfig.model_validate(
    {
        "domainId": "d-bench",
        "orgId": "o-bench",
        "host": "shop.example",
        "revision": 1,
        "syncTokenSha256": "0" * 64,
        "defaultCurrency": "EUR",
        "defaultCountry": "DE",
        "destinations": [
            {"id": f"dest-{slug}", "platform": slug, "account": "123456", "sealed": ""}
            for slug in FED
        ],
    }
)

_FUNNEL: Final = (
    *["PageVisit"] * 10,
    *["ViewContent"] * 5,
    *["AddToCart"] * 3,
    *["InitiateCheckout", "Purchase"],
)
"""What people do in a shop: one visit in ten pages buys."""

_REPEATED: Final = 50
"""One record in so many is the copy of an earlier one."""


def raw_record(number: int, received_at: int, run: str) -> tuple[bytes, bytes]:
    """Key and value of one record of ``raw-events``, as the gateway writes it.

    ``received_at`` is in Unix milliseconds; ``run`` sets the events of one run apart.
    """
    if number % _REPEATED == _REPEATED - 1:
        number -= _REPEATED // 2
    event = _event(number, received_at, run)
    value = {
        "schemaVersion": SCHEMA_VERSION,
        "domainId": SHOP.domain_id,
        "door": Door.EVENTS,
        "requestId": f"request-{number}",
        "receivedAt": received_at,
        "event": event,
        "counted": True,
    }
    return RawEvent.key(SHOP.domain_id, event["eventId"]), orjson.dumps(value)


def _event(number: int, received_at: int, run: str) -> dict[str, Any]:
    name = _FUNNEL[number % len(_FUNNEL)]
    visitor = number // 3
    custom: dict[str, Any] = {}
    if name != "PageVisit":
        sku, quantity, price = f"SKU-{number % 997}", 1 + number % 3, 24.99
        custom = {
            "currency": "EUR",
            "value": round(quantity * price, 2),
            "contents": [{"id": sku, "name": "Widget", "quantity": quantity, "price": price}],
        }
    if name == "Purchase":
        custom["orderId"] = f"{run}-{number}"
    return {
        "eventId": f"{run}-{number:08d}",
        "eventName": name,
        "eventTime": received_at / 1000 - 2,
        "eventSourceUrl": f"https://shop.example/products/{number % 997}?utm_source=newsletter",
        "userData": {
            "email": f"customer{visitor}@example.com",
            "phone": f"+49 30 {visitor:08d}",
            "externalId": f"customer-{visitor}",
            "ipAddress": f"203.0.113.{number % 250}",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
            "fbc": "fb.1.1767222000000.AbCdEf",
            "fbp": f"fb.1.1767222000000.{visitor}",
            "ttp": f"ttp-{visitor}",
            "scCookie1": f"sc-{visitor}",
            "rdtUuid": f"1767222000000.{visitor}",
        },
        "customData": custom,
    }


def wanted_of(raw: RawEvent, token: str) -> Wanted:
    """The claim of one record."""
    return claim_key(raw), token, SHOP.dedupe_window_seconds


def records_of(raw: RawEvent, token: str, holder: str | None, now_ms: int) -> list[Record]:
    """Everything that comes of one event; ``holder`` is who had its claim before."""
    return fan_out(
        raw,
        SHOP,
        PLATFORMS,
        source=token,
        first=first_source(token, holder),
        now_ms=now_ms,
    )


class WaitingClaims:
    """The same claims by the same script, for a client that waits for the answer."""

    def __init__(self, settings: RedisSettings, prefix: str) -> None:
        client = redis.Redis.from_url(settings.url.get_secret_value(), decode_responses=True)
        self._script = client.register_script(CLAIM_SCRIPT)
        self._prefix = prefix

    def take(self, wanted: Sequence[Wanted]) -> list[str | None]:
        """Claim each of ``wanted``; answers who held it before, or None."""
        keys, arguments = script_input(wanted, self._prefix)
        return [holder or None for holder in self._script(keys=keys, args=arguments)]
