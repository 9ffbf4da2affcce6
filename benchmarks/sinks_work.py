"""The work of the sinks' measurement: a shop, and deliveries for it. The same for whoever posts them."""

from functools import cache
from typing import Final

import orjson

from benchmarks.load import HOST, purchase
from platforms.base import AccountCredentials
from platforms.registry import PLATFORMS
from runtime.vault import Vault
from schemas.config import Destination, DomainConfig
from schemas.delivery import Delivery
from schemas.event import Event
from schemas.record import Record

GROUP: Final = "sinks"
POSTED: Final = "meta"
"""Where rates and refusals are measured: it takes a thousand events or none of them."""
FAILING: Final = "tiktok"
SLOW: Final = "pinterest"
FED: Final = (POSTED, FAILING, SLOW)
FULL: Final = PLATFORMS[POSTED].LIMITS.max_events
"""Events in a full batch."""
BAD: Final = f"-refuse-at-{POSTED}"
"""An event whose id ends so is one that the platform refuses."""

_DOMAIN_ID: Final = "d-bench"
_ACCOUNT: Final = "123456"
_ID: Final = "@event-id@"


def credentials(platform: str) -> AccountCredentials:
    """What the sandbox takes for good."""
    model = PLATFORMS[platform].Credentials
    return model.model_validate(
        {"pixel_id": _ACCOUNT, "access_token": "good-token", model.account_field: _ACCOUNT}
    )


def shop(vault: Vault) -> DomainConfig:
    """A domain with one destination at each of ``FED``."""
    destinations = [
        {
            "id": _destination_id(slug),
            "platform": slug,
            "account": _ACCOUNT,
            "sealed": vault.seal(
                orjson.dumps(credentials(slug).reveal()),
                domain_id=_DOMAIN_ID,
                destination_id=_destination_id(slug),
            ),
        }
        for slug in FED
    ]
    return DomainConfig.model_validate(
        {
            "domainId": _DOMAIN_ID,
            "orgId": "o-bench",
            "host": HOST,
            "revision": 1,
            "syncTokenSha256": "0" * 64,
            "destinations": destinations,
        }
    )


def payload(platform: str, event_id: str) -> bytes:
    """The event's JSON object in the platform's batch."""
    return _template(platform).replace(_ID.encode(), event_id.encode())


def delivery_record(platform: str, event_id: str, number: int, received_at: int) -> Record:
    """The delivery as streams puts it on the log.

    ``number`` tells it from every other one of the log; ``received_at`` is in Unix milliseconds.
    """
    delivery = Delivery(
        domain_id=_DOMAIN_ID,
        destination_id=_destination_id(platform),
        platform=platform,
        event_id=event_id,
        event_name="Purchase",
        event_time=received_at - 2000,
        received_at=received_at,
        source=f"raw-events-{number % 12}-{number}",
    )
    return delivery.to_record(payload(platform, event_id))


def _destination_id(platform: str) -> str:
    return f"dest-{platform}"


@cache
def _template(platform: str) -> bytes:
    event = Event.model_validate(purchase(_ID))
    destination = Destination(id="template", platform=platform, account=_ACCOUNT, sealed="")
    return orjson.dumps(PLATFORMS[platform].payload(event, destination))
