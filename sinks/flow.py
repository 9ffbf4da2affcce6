"""Which partitions are read: not those whose first record is not due, nor more than can be held.

Nothing ever sleeps on a partition: one that has to wait is paused and resumed, and the process goes on
reading the others and stays a member of its group.
"""

import threading
from collections.abc import Collection, Iterable
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from runtime.clock import Clock
from sinks.offsets import MAX_WINDOW, OffsetTracker, Partition

_WINDOW: Final = MAX_WINDOW - 2_000
"""Where a partition is stopped: one more read may come after."""


class Flow:
    """Pauses and resumes. The loop decides, the consuming thread applies it between two reads."""

    def __init__(self, consumer: Consumer, clock: Clock, tracker: OffsetTracker) -> None:
        self._consumer = consumer
        self._clock = clock
        self._tracker = tracker
        self._held: dict[Partition, tuple[int, float]] = {}
        """Partition → the offset to go on from, and when (monotonic seconds)."""
        self._far_ahead: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._sought: set[Partition] = set()
        self._lock = threading.Lock()
        self.is_crowded = False
        """Whether the process holds as much as it may."""

    def is_held(self, partition: Partition) -> bool:
        """Whether the partition waits for its first record to be due."""
        with self._lock:
            return partition in self._held

    def hold(self, partition: Partition, offset: int, seconds: float) -> None:
        """Leave a partition alone for ``seconds``, then read it from ``offset`` on."""
        with self._lock:
            self._held[partition] = (offset, self._clock.monotonic() + seconds)

    def release(self, topics: Collection[str]) -> None:
        """Read the partitions of these topics on now."""
        with self._lock:
            for partition, (offset, _) in self._held.items():
                if partition[0] in topics:
                    self._held[partition] = (offset, 0.0)

    def fill(self, level: float) -> None:
        """How much is held, 1 being all that may be: read again when half of it is done."""
        self.is_crowded = level >= (0.5 if self.is_crowded else 1.0)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These belong to somebody else now."""
        with self._lock:
            for partition in partitions:
                self._held.pop(partition, None)
                self._paused.discard(partition)
                self._sought.discard(partition)
                self._far_ahead.discard(partition)

    def apply(self) -> None:
        """Pause and resume what has to be."""
        with self._lock:
            self._apply()

    def _apply(self) -> None:
        windows = self._tracker.windows()
        self._notice(windows)
        now = self._clock.monotonic()
        due = [one for one, (_, at) in self._held.items() if at <= now and one in self._sought]
        for partition in due:
            del self._held[partition]
            self._sought.discard(partition)
        wanted = set(windows) if self.is_crowded else self._far_ahead | self._held.keys()
        wanted &= windows.keys()
        # Paused first: a pause sets the place to go on from, which the seek is to overrule.
        self._call(self._consumer.pause, wanted - self._paused)
        for partition in (self._held.keys() & wanted) - self._sought:
            self._consumer.seek(TopicPartition(*partition, self._held[partition][0]))
            self._sought.add(partition)
        self._call(self._consumer.resume, (self._paused - wanted) & windows.keys())
        self._paused = wanted

    def _notice(self, windows: dict[Partition, int]) -> None:
        """Which partitions are too far ahead of their first unfinished record."""
        for partition, window in windows.items():
            limit = _WINDOW // 2 if partition in self._far_ahead else _WINDOW
            if window >= limit:
                self._far_ahead.add(partition)
            else:
                self._far_ahead.discard(partition)

    def _call(self, call: object, partitions: Iterable[Partition]) -> None:
        chosen = [TopicPartition(*partition) for partition in partitions]
        if chosen and callable(call):
            call(chosen)
