"""What the tests of this folder put through the stage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from typing_extensions import override

from runtime.config_feed import ConfigFeed
from runtime.kafka import ConsumedRecord
from runtime.settings import Settings, StreamsSettings
from schemas.config import DomainConfig
from schemas.event import Event
from schemas.outcome import Outcome
from schemas.raw_event import RawEvent
from schemas.record import Record
from schemas.topics import AUDIT, DEAD_LETTERS
from streams.claims import Claims, Wanted
from streams.memory import Memory
from streams.quota import Quota
from streams.remember import Answer, Question
from streams.worker import Stage
from tests.outcomes import outcomes_among
from tests.unit.runtime.clocks import JumpingClock

RECEIVED_AT = 1_767_225_700_000
EVENT: dict[str, Any] = {
    "eventId": "o-1",
    "eventName": "Purchase",
    "eventTime": 1767225600,
    "eventSourceUrl": "https://shop.example/thanks",
    "userData": {
        "email": "ada@example.com",
        "ipAddress": "203.0.113.7",
        "userAgent": "Mozilla/5",
        "kwaiClickId": "click",
    },
    "customData": {"currency": "EUR", "value": 49.99},
}
DOMAIN: dict[str, Any] = {
    "domainId": "dom_1",
    "orgId": "org",
    "host": "shop.example",
    "revision": 1,
    "syncTokenSha256": "",
    "destinations": [{"id": "dst_1", "platform": "meta", "account": "1", "sealed": "s"}],
}


def domain(**changes: Any) -> DomainConfig:
    """The shop, with changes (camelCase)."""
    return DomainConfig.model_validate(DOMAIN | changes)


def event(**changes: Any) -> Event:
    """The purchase, with changes (camelCase)."""
    return Event.model_validate(EVENT | changes)


def raw(received_at: int = RECEIVED_AT, **changes: Any) -> RawEvent:
    """The purchase as the gateway keeps it."""
    return RawEvent.model_validate(envelope(received_at, **changes))


def raw_blocks(by_platform: dict[str, Any], **changes: Any) -> RawEvent:
    """The purchase in the platforms' own words, with changes of its envelope (camelCase)."""
    blocks = {"eventId": "o-1", "eventName": "Purchase", "eventTime": RECEIVED_AT - 100_000}
    named = {key: changes.pop(key) for key in blocks if key in changes}
    body = envelope() | {"door": "pmw-events", "event": None} | changes
    return RawEvent.model_validate(body | {"blocks": blocks | {"byPlatform": by_platform} | named})


def envelope(received_at: int = RECEIVED_AT, **changes: Any) -> dict[str, Any]:
    """The JSON of that."""
    return {
        "domainId": "dom_1",
        "door": "events",
        "requestId": "r",
        "receivedAt": received_at,
        "event": EVENT | changes,
    }


@dataclass
class Consumed:
    """One record of ``raw-events``."""

    offset: int
    value: bytes | None
    topic: str = "raw-events"
    partition: int = 3
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes | None]] = field(default_factory=list)


def consumed(offset: int, around: Mapping[str, Any] | None = None, **changes: Any) -> Consumed:
    """The purchase as a record, with changes, and others of its envelope (``around``)."""
    return Consumed(offset, orjson.dumps(envelope(**changes) | dict(around or {})))


class ClaimsInMemory(Claims):
    """Claims as Redis keeps them, for as long as the test."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}

    @override
    async def take(self, wanted: Sequence[tuple[str, str, int]]) -> list[str | None]:
        """The first token of a key stays."""
        holders = []
        for key, token, _ in wanted:
            holders.append(self.held.get(key))
            self.held.setdefault(key, token)
        return holders


class Forgetful(Memory):
    """A memory of nothing, as after Redis was emptied; what is asked of a real one is tested with
    Valkey."""

    def __init__(self) -> None:
        pass

    @override
    async def recall(
        self, claims: Claims, wanted: Sequence[Wanted], questions: Sequence[Question]
    ) -> tuple[list[str | None], dict[str, Answer]]:
        """Just the claims."""
        return await claims.take(wanted), {}


class QuotaInMemory(Quota):
    """Counts as Redis keeps them, for as long as the test."""

    def __init__(self, **counts: int) -> None:
        self.counts = Counter(counts)

    @override
    async def correct(self, changes: Mapping[str, int]) -> None:
        """Add them."""
        self.counts.update(changes)


def stage(
    *domains: DomainConfig,
    claims: Claims | None = None,
    memory: Memory | None = None,
    quota: Quota | None = None,
    directory: Path | None = None,
    **limits: Any,
) -> Stage:
    """A stage that knows these domains. Needs a running loop."""
    settings = Settings(
        data_dir=directory or Path("unused"),
        streams=StreamsSettings(**{"unknown_domain_wait_seconds": 0} | limits),
    )
    feed = ConfigFeed(settings)
    for known in domains or [domain()]:
        value = known.model_dump_json().encode()
        feed._apply(ConsumedRecord("domain-configs", 0, 0, b"", value, ()))
    return Stage(
        settings,
        feed,
        claims or ClaimsInMemory(),
        memory or Forgetful(),
        quota or QuotaInMemory(),
        JumpingClock(),
    )


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """The outcomes among records."""
    return outcomes_among(records)


def sent(records: Sequence[Record]) -> list[Record]:
    """The deliveries among records."""
    return [r for r in records if r.topic not in {AUDIT, DEAD_LETTERS}]
