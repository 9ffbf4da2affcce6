"""Which offset may be committed while batches finish out of order."""

import threading
from dataclasses import dataclass, field
from typing import TypeAlias

Partition: TypeAlias = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a consumed record lies, and in which assignment it was taken."""

    partition: Partition
    offset: int
    epoch: int


@dataclass(slots=True)
class _Track:
    epoch: int
    next_offset: int = -1
    unfinished: dict[int, None] = field(default_factory=dict)
    """Offsets under way, in the order of the log (a dict keeps it)."""
    committed: int = -1


class OffsetTracker:
    """Low watermarks: per partition, the offset before which everything is finished.

    Taken by the consuming thread, finished by the loop, hence the lock.
    """

    def __init__(self) -> None:
        self._tracks: dict[Partition, _Track] = {}
        self._epoch = 0
        self._lock = threading.Lock()

    def take(self, partition: Partition, offset: int) -> Position:
        """A record was consumed; it is unfinished until ``finish``."""
        with self._lock:
            track = self._tracks.get(partition)
            if track is None:
                self._epoch += 1
                track = self._tracks[partition] = _Track(self._epoch)
            track.unfinished[offset] = None
            track.next_offset = offset + 1
            return Position(partition, offset, track.epoch)

    def finish(self, position: Position) -> None:
        """A record's fate is on record. Late news of a partition that was given away is ignored:
        its new owner works it again."""
        with self._lock:
            track = self._tracks.get(position.partition)
            if track is not None and track.epoch == position.epoch:
                track.unfinished.pop(position.offset, None)

    def committable(self) -> dict[Partition, int]:
        """Partition → offset to commit, where it moved since ``mark_committed``."""
        with self._lock:
            moved = {}
            for partition, track in self._tracks.items():
                low = next(iter(track.unfinished), track.next_offset)
                if low > track.committed and low > 0:
                    moved[partition] = low
            return moved

    def mark_committed(self, offsets: dict[Partition, int]) -> None:
        """These were committed."""
        with self._lock:
            for partition, offset in offsets.items():
                if (track := self._tracks.get(partition)) is not None:
                    track.committed = offset

    def forget(self, partitions: list[Partition]) -> None:
        """These partitions belong to somebody else now."""
        with self._lock:
            for partition in partitions:
                self._tracks.pop(partition, None)

    @property
    def unfinished(self) -> int:
        """Records taken and not finished."""
        with self._lock:
            return sum(len(track.unfinished) for track in self._tracks.values())
