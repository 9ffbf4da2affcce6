"""Events of ``raw-events`` driven again: which ones, where to, and how fast."""

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from capistream.again import FAILURES, Sender, failed, read_to_end
from runtime.clock import Clock
from runtime.errors import CapistreamError
from runtime.kafka import ConsumedRecord
from runtime.lifecycle import Shutdown
from runtime.logs import get_logger
from runtime.settings import Settings
from schemas.config import DomainConfig
from schemas.raw_event import RawEvent
from schemas.record import Record
from schemas.replay import Replay
from schemas.topics import RAW_EVENTS
from streams.decode import UndecodableError, decode
from streams.dedupe import claim_key, source_token

log = get_logger(__name__)

KNOWN_COPIES: Final = 1_000_000
"""Events whose second copies are recognised, about 110 bytes each. Copies meet in one partition,
and further apart than this a second one goes out again, under the same event id."""

_AGO: Final = re.compile(r"(\d+)([smhd])")
_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def read_moment(text: str, now_ms: int) -> int:
    """A moment in Unix milliseconds: ISO 8601 (UTC where no offset is told), Unix seconds, or so
    long ago (``45s``, ``30m``, ``2h``, ``3d``).

    Raises ``CapistreamError`` when it is none of these.
    """
    if ago := _AGO.fullmatch(text):
        return now_ms - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        if text.isdecimal():
            return int(datetime.fromtimestamp(int(text), UTC).timestamp()) * 1000
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise CapistreamError(
            f"{text!r} is no time; write 2026-01-31T08:00:00Z, Unix seconds, or 2h or 3d for so long ago"
        ) from None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events of a domain are to be driven again; an empty tuple stands for all."""

    domain_id: str
    from_ms: int
    """Received at this moment or later, Unix milliseconds."""
    to_ms: int
    """Received before this moment."""
    names: tuple[str, ...] = ()
    """Canonical names, and custom events' own."""
    event_ids: tuple[str, ...] = ()

    def fits(self, raw: RawEvent) -> bool:
        """Whether an event is one of them."""
        return (
            raw.domain_id == self.domain_id
            and self.from_ms <= raw.received_at < self.to_ms
            and not (self.names and self._other_name(raw))
            and not (self.event_ids and raw.said.event_id not in self.event_ids)
        )

    def _other_name(self, raw: RawEvent) -> bool:
        return not {raw.names[0], raw.event_name} & set(self.names)


class FirstCopies:
    """Tells the first copy of an event from later ones, in bounded memory."""

    def __init__(self, size: int = KNOWN_COPIES) -> None:
        self._size = size
        self._known: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def is_first(self, raw: RawEvent) -> bool:
        """Whether no copy of the event was asked about before."""
        name = hashlib.blake2b(claim_key(raw).encode(), digest_size=16).digest()
        if name in self._known:
            return False
        self._known.add(name)
        self._order.append(name)
        if len(self._order) > self._size:
            self._known.discard(self._order.popleft())
        return True


@dataclass(slots=True)
class Progress:
    """How far a replay is."""

    scanned: int = 0
    """Records of ``raw-events``, of all domains."""
    found: int = 0
    replayed: int = 0
    repeats: int = 0
    """Later copies of what was found, which do not go again."""
    withheld: int = 0
    """Passed over, for the gateway withheld them."""


@dataclass(slots=True)
class Picker:
    """Picks the events of a replay out of what is read. Pure, but for its counts."""

    wanted: Wanted
    replay_id: str
    destination_ids: tuple[str, ...] = ()
    include_withheld: bool = False
    progress: Progress = field(default_factory=Progress)
    _copies: FirstCopies = field(default_factory=FirstCopies)

    def pick(self, records: Sequence[ConsumedRecord]) -> Iterator[Record]:
        """What is to be produced for these."""
        prefix = RawEvent.key(self.wanted.domain_id, "")
        for record in records:
            self.progress.scanned += 1
            if (record.key or b"").startswith(prefix) and self._picks(record):
                source = source_token(record.topic, record.partition, record.offset)
                replay = Replay(self.replay_id, source, self.destination_ids, self.include_withheld)
                yield replay.to_record(record.key, record.value)

    def summary(self, domain: DomainConfig, *, stopped: bool) -> dict[str, object]:
        """What a person, or a script, is told in the end."""
        return {
            "replayId": self.replay_id,
            "found": self.progress.found,
            "replayed": self.progress.replayed,
            "repeats": self.progress.repeats,
            "withheld": self.progress.withheld,
            "destinations": list(self.destination_ids or (one.id for one in domain.destinations)),
            "stopped": stopped,
        }

    def _picks(self, record: ConsumedRecord) -> bool:
        try:
            raw = decode(record.value)
        except UndecodableError as error:
            log.warning("A record on raw-events is not an event; passed over.", error=str(error))
            return False
        if not self.wanted.fits(raw):
            return False
        if raw.withheld is not None and not self.include_withheld:
            self.progress.withheld += 1
            return False
        if not self._copies.is_first(raw):
            self.progress.repeats += 1
            return False
        self.progress.found += 1
        return True


def pick_destinations(domain: DomainConfig, named: Sequence[str]) -> tuple[str, ...]:
    """The ids of the destinations that ``named`` (ids or platforms) stands for.

    Raises ``CapistreamError`` for a name that stands for none.
    """
    found: list[str] = []
    for name in named:
        ids = [one.id for one in domain.destinations if name in (one.id, one.platform)]
        if not ids:
            there = ", ".join(f"{one.id} ({one.platform})" for one in domain.destinations)
            raise CapistreamError(
                f"{domain.host} has no destination {name}; it has {there or 'none at all'}"
            )
        found += ids
    return tuple(dict.fromkeys(found))


async def run_replay(
    settings: Settings,
    picker: Picker,
    shutdown: Shutdown,
    clock: Clock,
    *,
    per_second: int,
    dry_run: bool,
    tell: Callable[[Progress], None],
) -> None:
    """Read ``raw-events`` to its end and put what ``picker`` picks onto ``replay-events``, at most
    ``per_second`` events, until done or a shutdown is asked for. ``tell`` hears of the progress.

    Raises ``UnavailableError`` when Kafka does not answer; what was replayed until then stays so.
    """
    sender = Sender(settings, clock, shutdown, per_second)
    from_ms = picker.wanted.from_ms
    try:
        async with aclosing(read_to_end(settings, RAW_EVENTS, shutdown, from_ms=from_ms)) as lots:
            async for records in lots:
                picked = list(picker.pick(records))
                if not dry_run:
                    async for count in sender.send(picked):
                        picker.progress.replayed += count
                        tell(picker.progress)
                tell(picker.progress)
    except FAILURES as error:
        raise failed(error, picker.progress.replayed, picker.replay_id) from None
