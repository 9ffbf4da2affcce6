"""An event to be driven again: the headers of ``replay-events``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from schemas.raw_event import RawEvent
from schemas.record import Headers, Record, number_header, text_headers
from schemas.topics import REPLAY_EVENTS
from schemas.wire import SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class Replay:
    """What is asked of an event besides its own bytes: the headers of ``replay-events``."""

    id: str
    """Names the one command that asked, in every delivery and outcome that comes of it."""
    source: str
    """Where the event's own record lies: ``topic-partition-offset`` on ``raw-events``."""
    destination_ids: tuple[str, ...] = ()
    """Where it is to go; none: to every destination that its domain has by then."""
    include_withheld: bool = False
    """Whether it goes out although the gateway withheld it, taking a person for a program."""

    def wants(self, destination_id: str) -> bool:
        """Whether the event is to go to this destination of its domain."""
        return not self.destination_ids or destination_id in self.destination_ids

    def apply(self, raw: RawEvent) -> RawEvent:
        """The event as it goes again. Its dispatch key stays behind: the shop's server asks what
        became of what it sent, which a replay of an old event must not overrule."""
        withheld = None if self.include_withheld else raw.withheld
        return raw.model_copy(update={"withheld": withheld, "dispatch_key": None})

    def to_record(self, key: bytes | None, value: bytes | None) -> Record:
        """As it goes onto ``replay-events``: key and value as they lie on ``raw-events``."""
        return Record(REPLAY_EVENTS, key, value, self.to_headers())

    def to_headers(self) -> Headers:
        """Headers in Kafka's form."""
        return [
            ("schema-version", b"%d" % SCHEMA_VERSION),
            ("replay", self.id.encode()),
            ("source", self.source.encode()),
            ("destinations", ",".join(self.destination_ids).encode()),
            ("include-withheld", b"%d" % self.include_withheld),
        ]

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes | str | None]] | None) -> Self:
        """Read the headers back. Without ``destinations`` it is all of them, and without
        ``include-withheld`` what is withheld stays so.

        Raises ``ValueError`` naming the header that is missing or malformed.
        """
        found = text_headers(headers)
        try:
            if number_header(found, "schema-version") > SCHEMA_VERSION:
                raise ValueError(f"schema-version {found['schema-version']} is newer than ours")
            return cls(
                id=found["replay"],
                source=found["source"],
                destination_ids=tuple(filter(None, found.get("destinations", "").split(","))),
                include_withheld=found.get("include-withheld") == "1",
            )
        except KeyError as missing:
            raise ValueError(f"replay header {missing} is missing") from None
