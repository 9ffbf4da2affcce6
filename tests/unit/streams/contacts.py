"""A shop that remembers its contacts, and what its customer does there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from runtime.clock import SystemClock
from schemas.config import DomainConfig
from schemas.record import Record
from streams.claims import Claims
from streams.memory import Memory
from streams.worker import Stage
from tests.unit.streams.road import (
    RECEIVED_AT,
    Consumed,
    consumed,
    domain,
    sent,
    stage,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "test."
WHO = {"email": " Canary.Ada@example.com", "externalId": "canary_cust_42", "ipAddress": "8.8.8.8"}
ORDER = {"orderId": "T-1", "value": 1, "currency": "EUR"}
TIKTOK = {"id": "dst_2", "platform": "tiktok", "account": "2", "sealed": "s"}
META = {"id": "dst_1", "platform": "meta", "account": "1", "sealed": "s"}


def shop(**changes: Any) -> DomainConfig:
    """A shop at Meta and TikTok that remembers its contacts."""
    return domain(**{"rememberContacts": True, "destinations": [META, TIKTOK]} | changes)


def at(client: "Redis", *domains: DomainConfig) -> Stage:
    """A stage that keeps its claims and its memory in this Redis."""
    clock = SystemClock()
    return stage(
        *(domains or [shop()]),
        claims=Claims(client, clock, PREFIX),
        memory=Memory(client, clock, PREFIX),
    )


def visit(offset: int, seconds: int = 0, who: Mapping[str, str] = WHO, **clicks: str) -> Consumed:
    """The contact looks at a page, with click ids (camelCase)."""
    return consumed(
        offset,
        {"receivedAt": RECEIVED_AT + seconds * 1000},
        eventId=f"v-{offset}",
        eventName="PageVisit",
        userData={**who, **clicks},
        customData={},
    )


def purchase(
    offset: int,
    seconds: int = 0,
    who: Mapping[str, str] = WHO,
    around: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Consumed:
    """The contact buys, with changes of the event and of its envelope (``around``)."""
    return consumed(
        offset,
        {"receivedAt": RECEIVED_AT + seconds * 1000, **(around or {})},
        **{"eventId": f"p-{offset}", "userData": dict(who)} | changes,
    )


def payloads(records: Sequence[Record], platform: str) -> list[dict[str, Any]]:
    """What goes to a platform."""
    return [orjson.loads(r.value or b"") for r in sent(records) if r.topic.endswith(platform)]


async def buy(known: Stage, record: Consumed) -> tuple[str | None, str | None]:
    """What Meta and TikTok are told of the click, of one record."""
    records = await known.work([record])
    (meta,), (tiktok,) = payloads(records, "meta"), payloads(records, "tiktok")
    return meta["user_data"].get("fbc"), tiktok["user"].get("ttclid")
