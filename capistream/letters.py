"""Dead letters: what they are about, as what they are driven again, and which are wanted. Pure."""

import base64
import dataclasses
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import orjson

from platforms.registry import PLATFORMS
from runtime.errors import CapistreamError
from runtime.kafka import ConsumedRecord
from runtime.logs import get_logger
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.raw_event import RawEvent
from schemas.record import Headers, Record, text_headers
from schemas.replay import Replay
from schemas.topics import RAW_EVENTS, REPLAY_EVENTS, deliveries
from streams.decode import UndecodableError, decode
from streams.dedupe import source_token

log = get_logger(__name__)

Place: TypeAlias = tuple[int, int]
"""Partition and offset on ``dead-letters``: what a letter's id says."""

_ID: Final = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)
_RENEWED: Final = {"replay", "source", "attempt", "not-before"}
"""Headers of a delivery that speak of its earlier way."""


def read_id(text: str) -> Place:
    """The place that an id names.

    Raises ``CapistreamError`` when it is none.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise CapistreamError(
            f"{text!r} is no id of a dead letter; it is one like 3-120, "
            "as `capistream dead-letters list` shows"
        )
    return int(found[1]), int(found[2])


def missing(places: Iterable[Place]) -> CapistreamError:
    """The failure of letters that are asked for and not there."""
    ids = ", ".join("{}-{}".format(*place) for place in sorted(places))
    return CapistreamError(f"there is no dead letter {ids}")


@dataclass(frozen=True, slots=True)
class About:
    """What an origin tells of its event; None where it tells nothing."""

    domain_id: str | None = None
    destination_id: str | None = None
    platform: str | None = None
    event_name: str | None = None
    event_id: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter where it lies."""

    place: Place
    token: str
    """The same with its topic: the source of what comes of it."""
    at: int
    """When it was put there, Unix milliseconds."""
    origin: str
    """The topic that its record came from, as ``schemas.topics`` calls it."""
    dead: DeadLetter
    about: About
    asked: Replay | None
    """With what an event of ``replay-events`` was driven again, if that can be read."""

    @classmethod
    def of(cls, record: ConsumedRecord, prefix: str) -> Self:
        """Read a record of ``dead-letters``; ``prefix`` stands before the cluster's topics.

        Raises ``ValueError`` when it is not a dead letter.
        """
        dead = DeadLetter.from_record(record.key, record.value, record.headers)
        origin = dead.topic.removeprefix(prefix) if dead.topic.startswith(prefix) else ""
        return cls(
            place=(record.partition, record.offset),
            token=source_token(record.topic, record.partition, record.offset),
            at=record.timestamp_ms,
            origin=origin,
            dead=dead,
            about=_about(origin, dead),
            asked=_asked(dead) if origin == REPLAY_EVENTS else None,
        )

    @property
    def id(self) -> str:
        """How a person names it."""
        return "{}-{}".format(*self.place)

    @property
    def source(self) -> str:
        """Where its record lay."""
        return source_token(self.dead.topic, self.dead.partition, self.dead.offset)

    @property
    def order(self) -> tuple[int, Place]:
        """Sorts letters by when they were put there."""
        return self.at, self.place

    @property
    def name(self) -> str:
        """What a letter that comes of driving this one again ``follows``."""
        if self.origin == RAW_EVENTS:
            return self.source
        return self.token if self.asked is None else _asks(self.asked)

    @property
    def follows(self) -> str | None:
        """The name of the letter that came before it, if it is of something driven again."""
        if self.asked is not None:
            return _asks(self.asked)
        found = text_headers(self.dead.origin_headers)
        return found.get("source") if "replay" in found else None

    def again(self, replay_id: str) -> Record | None:
        """Its record as it is driven again; None when that cannot be."""
        dead = self.dead
        if self.origin == RAW_EVENTS:
            return Replay(replay_id, self.source).to_record(dead.key, dead.value)
        if self.asked is not None:
            return dataclasses.replace(self.asked, id=replay_id).to_record(dead.key, dead.value)
        platform = self.about.platform
        if platform is None or platform not in PLATFORMS:
            return None
        headers: Headers = [pair for pair in dead.origin_headers if pair[0] not in _RENEWED]
        headers += [
            ("replay", replay_id.encode()),
            ("source", self.token.encode()),
            ("attempt", b"0"),
        ]
        return Record(deliveries(platform), dead.key, dead.value, headers)

    def told(self) -> dict[str, object]:
        """As it is listed."""
        return {
            "id": self.id,
            "at": self.at,
            "reason": self.dead.reason,
            "platform": self.about.platform,
            "domainId": self.about.domain_id,
            "destinationId": self.about.destination_id,
            "eventName": self.about.event_name,
            "eventId": self.about.event_id,
            "detail": self.dead.detail,
        }

    def told_whole(self) -> dict[str, Any]:
        """All there is: personal data may be in it."""
        dead = self.dead
        return self.told() | {
            "origin": self.source,
            "key": None if dead.key is None else dead.key.decode(errors="replace"),
            "headers": dict(text_headers(dead.origin_headers)),
            "value": self.document(),
            "valueBase64": None if dead.value is None else base64.b64encode(dead.value).decode(),
        }

    def document(self) -> object:
        """Its value, if that is JSON."""
        try:
            return orjson.loads(self.dead.value or b"")
        except orjson.JSONDecodeError:
            return None


def _about(origin: str, dead: DeadLetter) -> About:
    if origin.startswith(deliveries("")):
        found = text_headers(dead.origin_headers)
        return About(
            found.get("domain"),
            found.get("destination"),
            origin.split(".")[1],  # deliveries.<platform>, or a topic where those wait
            found.get("event-name"),
            found.get("event-id"),
        )
    raw = _decoded(dead) if origin in {RAW_EVENTS, REPLAY_EVENTS} else None
    if raw is None:
        return About()
    return About(raw.domain_id, event_name=raw.event_name, event_id=raw.said.event_id)


def _decoded(dead: DeadLetter) -> RawEvent | None:
    try:
        return decode(dead.value)
    except UndecodableError:
        return None


def _asked(dead: DeadLetter) -> Replay | None:
    try:
        return Replay.from_headers(dead.origin_headers)
    except ValueError:
        return None


def _asks(asked: Replay) -> str:
    """Names an event together with the destinations that it is to go to."""
    return " ".join((asked.source, *asked.destination_ids))


def read_letters(records: Iterable[ConsumedRecord], prefix: str) -> Iterator[Letter]:
    """The letters among what lies on ``dead-letters``."""
    for record in records:
        try:
            yield Letter.of(record, prefix)
        except ValueError as error:
            log.warning("A record on dead-letters is none; passed over.", error=str(error))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters; what is None or empty stands for all."""

    domain_id: str | None = None
    destination_id: str | None = None
    platform: str | None = None
    reasons: frozenset[DeadLetterReason] = frozenset()
    from_ms: int | None = None
    """Put there at this moment or later, Unix milliseconds."""
    to_ms: int | None = None
    """Put there before this moment."""
    places: frozenset[Place] = frozenset()

    def fits(self, letter: Letter) -> bool:
        """Whether a letter is one of them."""
        about = letter.about
        return (
            self.domain_id in (None, about.domain_id)
            and self.destination_id in (None, about.destination_id)
            and self.platform in (None, about.platform)
            and (not self.reasons or letter.dead.reason in self.reasons)
            and (self.from_ms is None or self.from_ms <= letter.at)
            and (self.to_ms is None or letter.at < self.to_ms)
            and (not self.places or letter.place in self.places)
        )
