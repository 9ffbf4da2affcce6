"""What lies in the topics: raw events, delivery headers, outcomes, dead letters."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self, TypeAlias

from pydantic import Field

from schemas.event import Event
from schemas.topics import AUDIT, DEAD_LETTERS, deliveries
from schemas.wire import SCHEMA_VERSION, Wire

Headers: TypeAlias = list[tuple[str, str | bytes | None]]
"""Kafka record headers as librdkafka wants them."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce. ``topic`` is the name in ``schemas.topics``; a cluster's own prefix
    is the producer's business."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


class Door(StrEnum):
    """Through which HTTP route an event came."""

    EVENTS = "events"


class RawEvent(Wire):
    """What was received, by whom, when, through which door. The value of ``raw-events``."""

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    domain_id: str
    door: Door
    request_id: str
    received_at: int
    """Unix milliseconds at the gateway: the clock by which age is judged, so that a replay of the
    log decides as the first run did."""
    event: Event

    @staticmethod
    def key(domain_id: str, event_id: str) -> bytes:
        """Copies of one event meet in one partition, so the first is the same at every replay."""
        return f"{domain_id}:{event_id}".encode()


class OutcomeKind(StrEnum):
    """What became of one delivery. The last two are passing, the others final."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SKIPPED = "skipped"
    DUPLICATE = "duplicate"
    RETRYING = "retrying"
    PARKED = "parked"

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to this delivery."""
        return self not in {OutcomeKind.RETRYING, OutcomeKind.PARKED}


class Reason(StrEnum):
    """Why. Closed, because it is a metric label and what a merchant filters by; what the vendor
    said stands in ``Outcome.code`` and ``Outcome.detail``."""

    # skipped, before anything is sent
    NO_CONSENT = "no_consent"
    DESTINATION_DISABLED = "destination_disabled"
    EVENT_DISABLED = "event_disabled"
    UNKNOWN_PLATFORM = "unknown_platform"
    UNSUPPORTED_EVENT = "unsupported_event"
    UNSUPPORTED_SOURCE = "unsupported_source"
    TOO_OLD = "too_old"
    IN_THE_FUTURE = "in_the_future"
    TOO_FEW_MATCH_KEYS = "too_few_match_keys"
    MISSING_VALUE = "missing_value"
    MISSING_CURRENCY = "missing_currency"
    MISSING_CLICK_ID = "missing_click_id"
    MISSING_URL = "missing_url"
    BAD_CUSTOM_NAME = "bad_custom_name"
    OVERSIZE = "oversize"
    # duplicate
    SAME_EVENT_ID = "same_event_id"
    # rejected, expired or passing, after something was sent
    REFUSED_BY_PLATFORM = "refused_by_platform"
    THROTTLED = "throttled"
    PLATFORM_UNAVAILABLE = "platform_unavailable"
    MISCONFIGURED = "misconfigured"
    DESTINATION_REMOVED = "destination_removed"


@dataclass(frozen=True, slots=True)
class Skip:
    """A decision not to send: the reason, and a sentence that tells the merchant what to mend."""

    reason: Reason
    detail: str


class Outcome(Wire):
    """One fate of one delivery. The value of ``audit``."""

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    outcome_id: str
    domain_id: str
    destination_id: str
    platform: str
    event_id: str
    event_name: str
    event_time: int
    """Unix milliseconds."""
    outcome: OutcomeKind
    reason: Reason | None = None
    code: str | None = None
    """The platform's own code, when it gave one."""
    detail: str | None = None
    """A safe sentence: no personal data, no credential."""
    attempt: int = 0
    source: str
    """Where the accepted event lies: ``topic-partition-offset`` of its raw record."""
    first_source: str | None = None
    """Of a duplicate: where the copy that counts lies."""
    received_at: int
    at: int
    """Unix milliseconds of this outcome."""

    def to_record(self) -> Record:
        """As it goes onto ``audit``."""
        value = self.model_dump_json(exclude_none=True).encode()
        return Record(AUDIT, self.domain_id.encode(), value)


def outcome_id(source: str, received_at: int, destination_id: str, passing: str = "") -> str:
    """Name an outcome so that working a record again names it the same.

    There is one final outcome per accepted record and destination, so both make up the name, and
    a reader that keeps one outcome per name has exactly one. ``received_at`` tells apart two
    lives of a broker that starts again from offset 0. ``passing`` (kind and attempt) sets a
    passing outcome apart from the final one.
    """
    text = f"{source}|{received_at}|{destination_id}|{passing}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Delivery:
    """All we know of a delivery besides its payload: the headers of ``deliveries.<platform>``."""

    domain_id: str
    destination_id: str
    platform: str
    event_id: str
    event_name: str
    event_time: int
    received_at: int
    source: str
    attempt: int = 0

    def key(self) -> bytes:
        """Deliveries of one event to one destination stay in order."""
        return f"{self.destination_id}:{self.event_id}".encode()

    def to_record(self, payload: bytes) -> Record:
        """As it goes onto ``deliveries.<platform>``: nothing but the payload in the value."""
        return Record(deliveries(self.platform), self.key(), payload, self.to_headers())

    def to_headers(self) -> Headers:
        """Headers in Kafka's form; numbers as decimal text, so that ``kcat`` shows them."""
        return [
            ("schema-version", b"%d" % SCHEMA_VERSION),
            ("domain", self.domain_id.encode()),
            ("destination", self.destination_id.encode()),
            ("platform", self.platform.encode()),
            ("event-id", self.event_id.encode()),
            ("event-name", self.event_name.encode()),
            ("event-time", b"%d" % self.event_time),
            ("received-at", b"%d" % self.received_at),
            ("source", self.source.encode()),
            ("attempt", b"%d" % self.attempt),
        ]

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | str | None]] | None) -> Self:
        """Read the headers back.

        Raises ``ValueError`` naming the header that is missing or malformed.
        """
        found = _text_headers(headers)
        try:
            if _number(found, "schema-version") > SCHEMA_VERSION:
                raise ValueError(f"schema-version {found['schema-version']} is newer than ours")
            return cls(
                domain_id=found["domain"],
                destination_id=found["destination"],
                platform=found["platform"],
                event_id=found["event-id"],
                event_name=found["event-name"],
                event_time=_number(found, "event-time"),
                received_at=_number(found, "received-at"),
                source=found["source"],
                attempt=_number(found, "attempt"),
            )
        except KeyError as missing:
            raise ValueError(f"delivery header {missing} is missing") from None

    def outcome(
        self,
        kind: OutcomeKind,
        *,
        at: int,
        reason: Reason | None = None,
        code: str | None = None,
        detail: str | None = None,
        first_source: str | None = None,
    ) -> Outcome:
        """The outcome of this delivery; ``at`` is Unix milliseconds."""
        passing = "" if kind.is_final else f"{kind}|{self.attempt}"
        return Outcome(
            outcomeId=outcome_id(self.source, self.received_at, self.destination_id, passing),
            domainId=self.domain_id,
            destinationId=self.destination_id,
            platform=self.platform,
            eventId=self.event_id,
            eventName=self.event_name,
            eventTime=self.event_time,
            outcome=kind,
            reason=reason,
            code=code,
            detail=detail,
            attempt=self.attempt,
            source=self.source,
            firstSource=first_source,
            receivedAt=self.received_at,
            at=at,
        )


class DeadLetterReason(StrEnum):
    """Why a record could not go on."""

    UNDECODABLE = "undecodable"
    UNKNOWN_DOMAIN = "unknown_domain"
    FAILED_TRANSFORM = "failed_transform"
    REJECTED = "rejected"
    EXPIRED = "expired"


MAX_DEAD_LETTER_DETAIL_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not go on: its bytes as they came, and where they came from."""

    value: bytes | None
    key: bytes | None
    topic: str
    partition: int
    offset: int
    reason: DeadLetterReason
    detail: str
    origin_headers: tuple[tuple[str, bytes | None], ...] = ()

    def to_record(self) -> Record:
        """As it goes onto ``dead-letters``."""
        return Record(DEAD_LETTERS, self.key, self.value, self.to_headers())

    def to_headers(self) -> Headers:
        """Origin and reason, then the record's own headers under ``origin.``."""
        own: Headers = [
            ("schema-version", b"%d" % SCHEMA_VERSION),
            ("origin-topic", self.topic.encode()),
            ("origin-partition", b"%d" % self.partition),
            ("origin-offset", b"%d" % self.offset),
            ("reason", self.reason.encode()),
            ("detail", self.detail[:MAX_DEAD_LETTER_DETAIL_CHARS].encode()),
        ]
        return own + [(f"origin.{name}", value) for name, value in self.origin_headers]

    @classmethod
    def from_record(
        cls,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | str | None]] | None,
    ) -> Self:
        """Read a dead letter back.

        Raises ``ValueError`` when it is not one of ours.
        """
        pairs = list(headers or ())
        prefix = "origin."
        found = _text_headers(pair for pair in pairs if not pair[0].startswith(prefix))
        try:
            return cls(
                value=value,
                key=key,
                topic=found["origin-topic"],
                partition=_number(found, "origin-partition"),
                offset=_number(found, "origin-offset"),
                reason=DeadLetterReason(found["reason"]),
                detail=found["detail"],
                origin_headers=tuple(
                    (name.removeprefix(prefix), raw.encode() if isinstance(raw, str) else raw)
                    for name, raw in pairs
                    if name.startswith(prefix)
                ),
            )
        except KeyError as missing:
            raise ValueError(f"dead-letter header {missing} is missing") from None


def _text_headers(headers: Iterable[tuple[str, bytes | str | None]] | None) -> Mapping[str, str]:
    return {
        name: value if isinstance(value, str) else (value or b"").decode(errors="replace")
        for name, value in headers or ()
    }


def _number(headers: Mapping[str, str], name: str) -> int:
    try:
        return int(headers[name])
    except ValueError:
        raise ValueError(f"header {name!r} is not a number") from None
