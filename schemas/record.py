"""A record to produce, and headers as Kafka has them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

Headers: TypeAlias = list[tuple[str, str | bytes | None]]
"""Kafka record headers as librdkafka wants them."""

_MOST: Final = 10**18
"""Numbers are below it, and so fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record to produce. ``topic`` is the name in ``schemas.topics``; a cluster's own prefix
    is the producer's business."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


class SourceRecord(Protocol):
    """What every record that was consumed tells, whichever client read it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


def text_headers(headers: Iterable[tuple[str, bytes | str | None]] | None) -> Mapping[str, str]:
    """Headers as text by name; bytes that are not UTF-8 are shown as such, never an error."""
    return {name: text_of(value) for name, value in headers or ()}


def text_of(value: bytes | str | None) -> str:
    """One header's value as text, empty if it has none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def number_header(headers: Mapping[str, bytes | str | None], name: str) -> int:
    """A header that is a decimal number.

    Raises ``KeyError`` when it is missing, ``ValueError`` naming it when it is no number, or one
    that not every reader of JSON can hold.
    """
    try:
        number = int(headers[name] or b"")
    except ValueError:
        raise ValueError(f"header {name!r} is not a number") from None
    if not -_MOST < number < _MOST:
        raise ValueError(f"header {name!r} is not a number of ours")
    return number
