"""A record that could not go on: ``dead-letters``."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from schemas.record import Headers, Record, SourceRecord, number_header, text_headers
from schemas.topics import DEAD_LETTERS
from schemas.wire import SCHEMA_VERSION


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

    @classmethod
    def of(cls, record: SourceRecord, reason: DeadLetterReason, detail: str) -> Self:
        """A record as it was consumed, and why it could not go on."""
        return cls(
            value=record.value,
            key=record.key,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            reason=reason,
            detail=detail,
            origin_headers=tuple(record.headers or ()),
        )

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
        found = text_headers(pair for pair in pairs if not pair[0].startswith(prefix))
        try:
            return cls(
                value=value,
                key=key,
                topic=found["origin-topic"],
                partition=number_header(found, "origin-partition"),
                offset=number_header(found, "origin-offset"),
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
