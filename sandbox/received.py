"""What the stand-ins got, in bounded memory and without a credential."""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sandbox.exchange import Answer, Batch, Platform
from sandbox.schema import unknown_keys

DEFAULT_KEPT_EVENTS = 50_000
REMEMBERED_IDS = 1_000_000
"""How many accepted events a repetition is recognised among."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of one request."""

    platform: Platform
    account: str
    event_id: Any
    event_name: Any
    received_at: float
    accepted: bool
    status: int
    code: str | None
    test_event_code: str | None
    payload: bytes
    """JSON again: a tenth of the memory, and nothing for the garbage collector to walk."""

    def shown(self) -> dict[str, Any]:
        """The entry as JSON. ``ignored`` names the keys that the platform has no use for."""
        return {
            "platform": self.platform.SLUG,
            "account": self.account,
            "eventId": self.event_id,
            "eventName": self.event_name,
            "receivedAt": round(self.received_at, 3),
            "accepted": self.accepted,
            "answer": {"status": self.status, "code": self.code},
            "testEventCode": self.test_event_code,
            "ignored": unknown_keys(self.platform.EVENT, orjson.loads(self.payload)),
            "payload": orjson.Fragment(self.payload),
        }


class Received:
    """The newest events that came in, and counts of all of them."""

    def __init__(self, kept_events: int = DEFAULT_KEPT_EVENTS) -> None:
        self._entries: deque[Entry] = deque(maxlen=kept_events)
        self._ids: dict[int, None] = {}
        self._requests = 0
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, platform: Platform, batch: Batch, answer: Answer, at: float) -> None:
        """Keep one request's events with what was answered."""
        self._requests += 1
        self._counts[platform.SLUG, "requests"] += 1
        for index, event in enumerate(batch.events):
            code = answer.code_of(index)
            is_object = isinstance(event, dict)
            entry = Entry(
                platform=platform,
                account=batch.account,
                event_id=platform.event_id(event) if is_object else None,
                event_name=platform.event_name(event) if is_object else None,
                received_at=at,
                accepted=code is None,
                status=answer.status,
                code=code,
                test_event_code=batch.test_event_code,
                payload=orjson.dumps(event),
            )
            self._entries.append(entry)
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        slug = entry.platform.SLUG
        if not entry.accepted:
            self._counts[slug, "refused"] += 1
            return
        self._counts[slug, "accepted"] += 1
        if entry.event_id is None:
            return
        key = hash((slug, entry.account, entry.event_name, entry.event_id))
        if key in self._ids:
            self._counts[slug, "duplicates"] += 1
            return
        self._ids[key] = None
        if len(self._ids) > REMEMBERED_IDS:
            del self._ids[next(iter(self._ids))]

    def shown(self, platform: str | None, event_id: str | None, limit: int | None) -> Any:
        """``{"requests": n, "events": […]}``, oldest first, the newest ``limit`` of what fits."""
        fitting = deque(self._fitting(platform, event_id), maxlen=limit)
        return {"requests": self._requests, "events": [entry.shown() for entry in fitting]}

    def _fitting(self, platform: str | None, event_id: str | None) -> Iterator[Entry]:
        for entry in self._entries:
            if platform in (None, entry.platform.SLUG) and event_id in (None, entry.event_id):
                yield entry

    def stats(self) -> dict[str, Any]:
        """Counts since the start or the last clearing: in all, and for each platform seen."""
        names = ("requests", "accepted", "refused", "duplicates")
        slugs = sorted({slug for slug, _ in self._counts})
        return {
            "requests": self._requests,
            "platforms": {
                slug: {name: self._counts[slug, name] for name in names} for slug in slugs
            },
        }

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._ids.clear()
        self._counts.clear()
        self._requests = 0
