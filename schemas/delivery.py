"""One event for one destination: the headers of ``deliveries.<platform>``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import orjson

from schemas.outcome import Outcome, OutcomeKind, Reason, outcome_id
from schemas.record import Headers, Record, number_header, text_headers
from schemas.topics import AUDIT, deliveries
from schemas.wire import SCHEMA_VERSION


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
    dispatch_key: str | None = None
    replay: str | None = None
    """The replay's id, when the event is driven again: then it is meant to be posted again."""
    not_before: int = 0
    """Unix milliseconds before which it is not to be sent; 0: it may be sent now."""
    origins: tuple[str, ...] = ()
    """Of what waited elsewhere: ``topic-partition-offset`` of the records that streams made of it."""
    test_event_code: str | None = None
    """The code under which it is posted, as it was routed; None when it is live."""

    def key(self) -> bytes:
        """Deliveries of one event to one destination stay in order."""
        return f"{self.destination_id}:{self.event_id}".encode()

    def to_record(self, payload: bytes, topic: str | None = None) -> Record:
        """As it goes onto ``deliveries.<platform>``, or one of the topics where it waits: nothing
        but the payload in the value."""
        return Record(topic or deliveries(self.platform), self.key(), payload, self.to_headers())

    def to_headers(self) -> Headers:
        """Headers in Kafka's form; numbers as decimal text, so that ``kcat`` shows them."""
        headers: Headers = [
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
            ("test-event-code", (self.test_event_code or "").encode()),
        ]
        if self.dispatch_key is not None:
            headers.append(("dispatch-key", self.dispatch_key.encode()))
        if self.replay is not None:
            headers.append(("replay", self.replay.encode()))
        if self.not_before:
            headers.append(("not-before", b"%d" % self.not_before))
        if self.origins:
            headers.append(("origins", ",".join(self.origins).encode()))
        return headers

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | str | None]] | None) -> Self:
        """Read the headers back.

        Raises ``ValueError`` naming the header that is missing or malformed.
        """
        found = text_headers(headers)
        try:
            if number_header(found, "schema-version") > SCHEMA_VERSION:
                raise ValueError(f"schema-version {found['schema-version']} is newer than ours")
            return cls(
                domain_id=found["domain"],
                destination_id=found["destination"],
                platform=found["platform"],
                event_id=found["event-id"],
                event_name=found["event-name"],
                event_time=number_header(found, "event-time"),
                received_at=number_header(found, "received-at"),
                source=found["source"],
                attempt=number_header(found, "attempt"),
                dispatch_key=found.get("dispatch-key"),
                replay=found.get("replay"),
                # Empty when it is live; older records have none.
                test_event_code=found.get("test-event-code") or None,
                not_before=number_header(found, "not-before") if "not-before" in found else 0,
                origins=tuple(filter(None, found.get("origins", "").split(","))),
            )
        except KeyError as missing:
            raise ValueError(f"delivery header {missing} is missing") from None

    @property
    def name(self) -> str:
        """What its final outcome is called: the same whenever, and however often, it is worked."""
        return self._outcome_id()

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
        return Outcome.model_validate(self._said(kind, at, reason, code, detail, first_source))

    def outcome_record(
        self,
        kind: OutcomeKind,
        *,
        at: int,
        reason: Reason | None = None,
        code: str | None = None,
        detail: str | None = None,
        first_source: str | None = None,
    ) -> Record:
        """``outcome(…).to_record()`` without the model, which takes most of the time of it."""
        said = self._said(kind, at, reason, code, detail, first_source)
        value = orjson.dumps({name: one for name, one in said.items() if one is not None})
        return Record(AUDIT, self.domain_id.encode(), value)

    def _said(
        self,
        kind: OutcomeKind,
        at: int,
        reason: Reason | None,
        code: str | None,
        detail: str | None,
        first_source: str | None,
    ) -> dict[str, Any]:
        """The outcome as it crosses the wire, in the order of its model."""
        return {
            "kind": "outcome",
            "schemaVersion": SCHEMA_VERSION,
            "outcomeId": self._outcome_id("" if kind.is_final else f"{kind}|{self.attempt}"),
            "domainId": self.domain_id,
            "destinationId": self.destination_id,
            "platform": self.platform,
            "eventId": self.event_id,
            "eventName": self.event_name,
            "eventTime": self.event_time,
            "outcome": kind,
            "reason": reason,
            "code": code,
            "detail": detail,
            "attempt": self.attempt,
            "source": self.source,
            "firstSource": first_source,
            "dispatchKey": self.dispatch_key,
            "replayId": self.replay,
            "receivedAt": self.received_at,
            "at": at,
        }

    def _outcome_id(self, passing: str = "") -> str:
        # One record may be driven again several times: each time has outcomes of its own.
        source = f"{self.source}|{self.replay}" if self.replay else self.source
        return outcome_id(source, self.received_at, self.destination_id, passing)
