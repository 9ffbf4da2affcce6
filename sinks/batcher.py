"""What waits for one destination, and which of it makes the next batch. Pure: it is told the time.

What is not to share a request is kept apart by a key: deliveries under a test code, each code by
itself, never go with live ones.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TypeAlias

from platforms.base import Limits
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind
from sinks.offsets import Position

Key: TypeAlias = str | None
"""The test code; None: live."""


@dataclass(slots=True)
class Pending:
    """A delivery that has no final outcome yet."""

    delivery: Delivery
    payload: bytes
    position: Position
    taken_at: float
    """When it was read, in monotonic seconds."""
    name: str
    """``Delivery.name``: it is asked for several times, and worked out once."""
    told: OutcomeKind | None = None
    """The passing outcome that is on record already."""
    copies: list[Position] = field(default_factory=list)
    """Where else it lies, made again by streams: what becomes of it finishes these too."""
    origins: tuple[str, ...] = ()
    """Where it lay first, and where its copies did: by these the ledger knows it, wherever it has
    waited since."""

    def __post_init__(self) -> None:
        """A delivery that has not waited elsewhere lies where it lay first."""
        self.origins = self.origins or self.delivery.origins or (self.position.name,)

    @property
    def places(self) -> list[Position]:
        """All records that are this delivery."""
        return [self.position, *self.copies]

    @property
    def key(self) -> Key:
        """What it may share a request with."""
        return self.delivery.test_event_code

    @property
    def size(self) -> int:
        """Bytes that it takes in a request's body: its own and a comma."""
        return len(self.payload) + 1


@dataclass(slots=True)
class _Queue:
    items: deque[Pending] = field(default_factory=deque)
    size: int = 0
    tried: int = 0
    """How many at the head were tried before: they do not linger again."""


class Batcher:
    """The queues of one destination."""

    def __init__(self, limits: Limits, linger_seconds: float) -> None:
        self._limits = limits
        self._linger_seconds = linger_seconds
        self._queues: dict[Key, _Queue] = {}

    def __len__(self) -> int:
        return sum(len(queue.items) for queue in self._queues.values())

    @property
    def size(self) -> int:
        """Bytes of the payloads that wait."""
        return sum(queue.size for queue in self._queues.values())

    @property
    def oldest_at(self) -> float | None:
        """When what waits longest was read (monotonic seconds)."""
        heads = (queue.items[0].taken_at for queue in self._queues.values() if queue.items)
        return min(heads, default=None)

    def add(self, pending: Pending) -> None:
        """One more, behind the others."""
        queue = self._queues.setdefault(pending.key, _Queue())
        queue.items.append(pending)
        queue.size += pending.size

    def put_back(self, batch: Sequence[Pending]) -> None:
        """These were tried and come before all others again, in their order."""
        if not batch:
            return
        queue = self._queues.setdefault(batch[0].key, _Queue())
        queue.items.extendleft(reversed(batch))
        queue.size += sum(pending.size for pending in batch)
        queue.tried += len(batch)

    def take(self, now: float, *, at_once: bool = False) -> list[Pending]:
        """The next batch that is full or has lingered, or with ``at_once`` any; else none."""
        ready = [key for key, one in self._queues.items() if self._is_ready(one, now, at_once)]
        if not ready:
            return []
        key = min(ready, key=lambda one: self._queues[one].items[0].taken_at)
        queue = self._queues[key]
        batch = list(self._next(queue))
        for pending in batch:
            queue.items.popleft()
            queue.size -= pending.size
        queue.tried = max(0, queue.tried - len(batch))
        if not queue.items:
            del self._queues[key]
        return batch

    def ready_at(self) -> float | None:
        """When the next batch has lingered, if no other comes before (monotonic seconds)."""
        moments = (
            queue.items[0].taken_at + (0.0 if queue.tried else self._linger_seconds)
            for queue in self._queues.values()
            if queue.items
        )
        return min(moments, default=None)

    def give_up(self, now: float, waited_seconds: float = 0.0) -> list[Pending]:
        """Take out what was read so many seconds ago, or longer, up to the first that was not: what
        waits lies nearly in the order in which it was read."""
        given_up = []
        for key, queue in list(self._queues.items()):
            while queue.items and queue.items[0].taken_at + waited_seconds <= now:
                pending = queue.items.popleft()
                queue.size -= pending.size
                queue.tried = max(0, queue.tried - 1)
                given_up.append(pending)
            if not queue.items:
                del self._queues[key]
        return given_up

    def _is_ready(self, queue: _Queue, now: float, at_once: bool) -> bool:  # noqa: FBT001
        if not queue.items:
            return False
        if at_once or queue.tried or queue.items[0].taken_at + self._linger_seconds <= now:
            return True
        return (
            len(queue.items) >= self._limits.max_events
            or queue.size > self._limits.max_payload_bytes
        )

    def _next(self, queue: _Queue) -> Iterator[Pending]:
        size = 0

        def fits(numbered: tuple[int, Pending]) -> bool:
            nonlocal size
            number, pending = numbered
            size += pending.size
            return number < self._limits.max_events and (
                number == 0 or size <= self._limits.max_payload_bytes
            )

        return (pending for _, pending in takewhile(fits, enumerate(queue.items)))
