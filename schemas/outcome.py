"""What became of a delivery: the value of ``audit``."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.record import Record
from schemas.topics import AUDIT
from schemas.wire import SCHEMA_VERSION, Wire


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
        return self is not OutcomeKind.RETRYING and self is not OutcomeKind.PARKED


class Reason(StrEnum):
    """Why. Closed, because it is a metric label and what a merchant filters by; what the vendor
    said stands in ``Outcome.code`` and ``Outcome.detail``."""

    # skipped, before anything is sent; the first two for the event as a whole
    BOT = "bot"
    EXCLUDED = "excluded"
    NO_CONSENT = "no_consent"
    DESTINATION_DISABLED = "destination_disabled"
    EVENT_DISABLED = "event_disabled"
    SOURCE_EXCLUDED = "source_excluded"
    COUNTRY_EXCLUDED = "country_excluded"
    SAMPLED_OUT = "sampled_out"
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
    NO_BLOCK = "no_block"
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
    """One fate of one delivery. The value of ``audit``, as ``schemas.alert.Alert`` is."""

    kind: Literal["outcome"] = "outcome"
    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    outcome_id: str
    domain_id: str
    destination_id: str | None = None
    """None: the event as a whole, which went to no destination."""
    platform: str | None = None
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
    """Where the accepted event lies: ``topic-partition-offset`` of its raw record, or of its copy
    on ``replay-events``, so that each replay has final outcomes of its own."""
    first_source: str | None = None
    """Of a duplicate: where the copy that counts lies."""
    dispatch_key: str | None = None
    """The shop's own name for what it sent, when its server sent it."""
    replay_id: str | None = None
    """Of an event that was driven again: the replay that asked for it."""
    received_at: int
    at: int
    """Unix milliseconds of this outcome."""

    @property
    def name(self) -> str:
        """What no other one is called."""
        return self.outcome_id

    @property
    def delivery_name(self) -> str:
        """What the final outcome of its delivery is called, whether this is it or a passing one."""
        return outcome_id(
            self.source, self.received_at, self.destination_id, replay_id=self.replay_id
        )

    def to_record(self) -> Record:
        """As it goes onto ``audit``."""
        value = self.model_dump_json(exclude_none=True).encode()
        return Record(AUDIT, self.domain_id.encode(), value)


def outcome_id(
    source: str,
    received_at: int,
    destination_id: str | None,
    passing: str = "",
    *,
    replay_id: str | None = None,
) -> str:
    """Name an outcome so that working a record again names it the same.

    There is one final outcome per accepted record and destination, so both make up the name, and
    a reader that keeps one outcome per name has exactly one. ``received_at`` tells apart two
    lives of a broker that starts again from offset 0. ``passing`` (kind and attempt) sets a
    passing outcome apart from the final one, and ``replay_id`` each of the times that one record is
    driven again.
    """
    source = f"{source}|{replay_id}" if replay_id else source
    text = f"{source}|{received_at}|{destination_id or ''}|{passing}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
