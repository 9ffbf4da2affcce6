"""One event for one destination: the headers of ``deliveries.<platform>``."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Self

import orjson

from schemas.outcome import OutcomeKind, Reason, outcome_id
from schemas.record import Headers, Record, number_header, text_of
from schemas.topics import AUDIT, deliveries
from schemas.wire import SCHEMA_VERSION


class Delivery(NamedTuple):
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
        found = dict(headers or ())
        try:
            if number_header(found, "schema-version") > SCHEMA_VERSION:
                newer = text_of(found["schema-version"])
                raise ValueError(f"schema-version {newer} is newer than ours")
            return cls(
                domain_id=text_of(found["domain"]),
                destination_id=text_of(found["destination"]),
                platform=text_of(found["platform"]),
                event_id=text_of(found["event-id"]),
                event_name=text_of(found["event-name"]),
                event_time=number_header(found, "event-time"),
                received_at=number_header(found, "received-at"),
                source=text_of(found["source"]),
                attempt=number_header(found, "attempt"),
                dispatch_key=text_of(found["dispatch-key"]) if "dispatch-key" in found else None,
                replay=text_of(found["replay"]) if "replay" in found else None,
                not_before=number_header(found, "not-before") if "not-before" in found else 0,
                origins=_names(found["origins"]) if "origins" in found else (),
                # Empty when it is live; older records have none.
                test_event_code=text_of(found.get("test-event-code")) or None,
            )
        except KeyError as missing:
            raise ValueError(f"delivery header {missing} is missing") from None

    @property
    def name(self) -> str:
        """What its final outcome is called: the same whenever, and however often, it is worked."""
        return self._outcome_id()

    def outcome_record(
        self,
        kind: OutcomeKind,
        *,
        at: int,
        reason: Reason | None = None,
        code: str | None = None,
        detail: str | None = None,
        first_source: str | None = None,
        name: str | None = None,
    ) -> Record:
        """What became of this delivery, as it goes onto ``audit``: a ``schemas.outcome.Outcome``,
        printed without its model, which takes most of the time of it.

        ``at`` is Unix milliseconds; ``name`` is the delivery's own, where it is at hand.
        """
        passing = "" if kind.is_final else f"{kind}|{self.attempt}"
        said: dict[str, Any] = {
            "kind": "outcome",
            "schemaVersion": SCHEMA_VERSION,
            "outcomeId": self._outcome_id(passing) if passing or name is None else name,
            "domainId": self.domain_id,
            "destinationId": self.destination_id,
            "platform": self.platform,
            "eventId": self.event_id,
            "eventName": self.event_name,
            "eventTime": self.event_time,
            "outcome": kind,
            "attempt": self.attempt,
            "source": self.source,
            "receivedAt": self.received_at,
            "at": at,
        }
        if reason is not None:
            said["reason"] = reason
        if code is not None:
            said["code"] = code
        if detail is not None:
            said["detail"] = detail
        if first_source is not None:
            said["firstSource"] = first_source
        if self.dispatch_key is not None:
            said["dispatchKey"] = self.dispatch_key
        if self.replay is not None:
            said["replayId"] = self.replay
        return Record(AUDIT, self.domain_id.encode(), orjson.dumps(said))

    def _outcome_id(self, passing: str = "") -> str:
        return outcome_id(
            self.source, self.received_at, self.destination_id, passing, replay_id=self.replay
        )


def _names(value: bytes | str | None) -> tuple[str, ...]:
    return tuple(filter(None, text_of(value).split(",")))
