"""What is finished and what is not, while deliveries finish out of order.

Kafka keeps one number for a partition: everything before it is done. What is done beyond it is told
in the text that may be committed beside the number, so that whoever takes over works neither a
record twice nor one too few.
"""

import base64
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

Partition: TypeAlias = tuple[str, int]
"""Topic and partition."""

MAX_WINDOW: Final = 22_000
"""Offsets that a partition may be ahead of its first unfinished one: what fits, a bit for each, into
the 4096 characters that a broker keeps beside an offset."""

_MARK: Final = "done:"
"""Tells our text from whatever else may stand beside an offset."""

_MOST_BITS: Final = (4096 - len(_MARK)) // 4 * 3 * 8


class Position(NamedTuple):
    """Where a consumed record lies, and in which assignment it was taken."""

    partition: Partition
    offset: int
    epoch: int

    @property
    def name(self) -> str:
        """``topic-partition-offset``."""
        topic, number = self.partition
        return f"{topic}-{number}-{self.offset}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a partition is, as it is committed."""

    offset: int
    """Everything before it is finished."""
    beyond: str
    """What is finished from there on."""


@dataclass(slots=True)
class _Track:
    epoch: int
    next_offset: int
    finished: set[int]
    """Beyond the first unfinished one; what lies before is dropped when it is looked at."""
    unfinished: dict[int, None] = field(default_factory=dict)
    """In the order of the log (a dict keeps it)."""
    committed: Progress | None = None

    @property
    def low(self) -> int:
        return next(iter(self.unfinished), self.next_offset)

    def progress(self) -> Progress:
        low = self.low
        if self.finished:
            self.finished = {offset for offset in self.finished if offset >= low}
        return Progress(low, encode_beyond(low, self.finished))


class OffsetTracker:
    """Per partition: the offset before which everything is finished, and what is beyond it.

    Used by the consuming thread and by the loop, hence the lock.
    """

    def __init__(self) -> None:
        self._tracks: dict[Partition, _Track] = {}
        self._epoch = 0
        self._lock = threading.Lock()

    def begin(self, partition: Partition, offset: int, beyond: str = "") -> None:
        """A partition was given to this process, which reads it from ``offset`` on.

        ``beyond`` is what was committed beside the offset; a text that is not ours counts as none.
        """
        with self._lock:
            self._epoch += 1
            finished = decode_beyond(offset, beyond)
            self._tracks[partition] = _Track(self._epoch, max(offset, 0), finished)

    def take(self, partition: Partition, offset: int) -> Position | None:
        """A record was consumed; it is unfinished until ``finish``. None: it is not to be worked,
        for it was finished or taken before, or its partition was given away meanwhile."""
        with self._lock:
            track = self._tracks.get(partition)
            if track is None or offset in track.unfinished:
                return None
            track.next_offset = offset + 1
            if offset in track.finished:
                return None
            track.unfinished[offset] = None
            return Position(partition, offset, track.epoch)

    def ours(self, positions: Iterable[Position]) -> list[bool]:
        """For each, whether its partition is still the one that it was taken from, in the same
        assignment: if not, its new owner works it again."""
        with self._lock:
            epochs = {partition: track.epoch for partition, track in self._tracks.items()}
        return [epochs.get(one.partition) == one.epoch for one in positions]

    def finish(self, positions: Iterable[Position]) -> None:
        """The fates of these are on their way onto the record. Late news of a partition that was
        given away is ignored."""
        with self._lock:
            for position in positions:
                track = self._tracks.get(position.partition)
                if track is not None and track.epoch == position.epoch:
                    track.unfinished.pop(position.offset, None)
                    track.finished.add(position.offset)

    def committable(self) -> dict[Partition, Progress]:
        """How far each partition is that moved since ``mark_committed``."""
        with self._lock:
            moved = {}
            for partition, track in self._tracks.items():
                progress = track.progress()
                nothing_yet = track.committed is None and progress == Progress(0, "")
                if progress != track.committed and not nothing_yet:
                    moved[partition] = progress
            return moved

    def mark_committed(self, committed: Mapping[Partition, Progress]) -> None:
        """These were committed."""
        with self._lock:
            for partition, progress in committed.items():
                if (track := self._tracks.get(partition)) is not None:
                    track.committed = progress

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions belong to somebody else now."""
        with self._lock:
            for partition in partitions:
                self._tracks.pop(partition, None)

    def windows(self) -> dict[Partition, int]:
        """How many offsets each partition is ahead of its first unfinished one."""
        with self._lock:
            return {key: track.next_offset - track.low for key, track in self._tracks.items()}

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        with self._lock:
            return sum(len(track.unfinished) for track in self._tracks.values())


def encode_beyond(low: int, finished: Iterable[int]) -> str:
    """Offsets from ``low`` on as text: one bit for each in base64, the first offset in the lowest
    bit of the first byte. What is too far ahead to fit is left out: a commit that the broker refuses
    would be worse than a record that is worked twice."""
    bits = bytearray()
    for offset in finished:
        if offset - low >= _MOST_BITS:
            continue
        byte, bit = divmod(offset - low, 8)
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        bits[byte] |= 1 << bit
    return _MARK + base64.b64encode(bits).decode() if bits else ""


def decode_beyond(low: int, beyond: str) -> set[int]:
    """The offsets that ``encode_beyond`` was told; none if the text is not its own."""
    if not beyond.startswith(_MARK):
        return set()
    try:
        bits = base64.b64decode(beyond.removeprefix(_MARK), validate=True)
    except ValueError:
        return set()
    return {
        low + 8 * number + bit
        for number, byte in enumerate(bits)
        for bit in range(8)
        if byte & (1 << bit)
    }
