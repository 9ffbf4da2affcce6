"""One event for one destination: the headers of ``deliveries.<platform>``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from schemas.outcome import Outcome, OutcomeKind, Reason, outcome_id
from schemas.record import Headers, Record, number_header, text_headers
from schemas.topics import deliveries
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

    def key(self) -> bytes:
        """Deliveries of one event to one destination stay in order."""
        return f"{self.destination_id}:{self.event_id}".encode()

    def to_record(self, payload: bytes) -> Record:
        """As it goes onto ``deliveries.<platform>``: nothing but the payload in the value."""
        return Record(deliveries(self.platform), self.key(), payload, self.to_headers())

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
        ]
        if self.dispatch_key is not None:
            headers.append(("dispatch-key", self.dispatch_key.encode()))
        if self.replay is not None:
            headers.append(("replay", self.replay.encode()))
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
            dispatchKey=self.dispatch_key,
            replayId=self.replay,
            receivedAt=self.received_at,
            at=at,
        )
