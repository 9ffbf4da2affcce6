"""What happened to events, told to a real event log as the streams and the sinks tell it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from audit.log import SqlEventLog
from audit.store import EventLogStore
from audit.tables import upgrade
from runtime.database import Database
from runtime.kafka import ConsumedRecord
from schemas.outcome import Outcome, OutcomeKind, outcome_id
from schemas.raw_event import Door
from schemas.routing import Routed, Routing, routing_id


async def open_log(database: Database) -> SqlEventLog:
    """The event log of a database, on its tables."""
    await upgrade(database)
    return SqlEventLog(database)


@dataclass
class Happening:
    """Events of one domain, and their way to the event log."""

    database: Database
    domain_id: str
    destination_id: str = "dst_1"
    platform: str = "meta"
    at: int = 0
    """Unix milliseconds of what is told next."""
    _numbers: Iterator[int] = field(default_factory=count)

    async def accepted(
        self, event_id: str, *, goes: bool = True, replay_id: str | None = None, **more: Any
    ) -> str:
        """An event was taken, and ``goes`` to the destination or to none; answers where it lies."""
        source = f"raw-events-{self.domain_id}-{next(self._numbers)}"
        there = Routed(destinationId=self.destination_id, platform=self.platform)
        routing: dict[str, Any] = {
            "routingId": routing_id(source, self.at, replay_id),
            "domainId": self.domain_id,
            "eventId": event_id,
            "eventName": "Purchase",
            "eventTime": self.at,
            "door": Door.EVENTS,
            "source": source,
            "receivedAt": self.at,
            "at": self.at + 10,
            "replayId": replay_id,
            "destinations": [there] if goes else [],
        }
        await self._tell(Routing.model_validate(routing | more))
        return source

    async def became(
        self,
        event_id: str,
        source: str,
        kind: OutcomeKind,
        *,
        nowhere: bool = False,
        replay_id: str | None = None,
        **more: Any,
    ) -> None:
        """Something became of it at the destination; ``nowhere``: of the event as a whole."""
        destination_id = None if nowhere else self.destination_id
        attempt = more.get("attempt", 0)
        passing = "" if kind.is_final else f"{kind}|{attempt}"
        outcome: dict[str, Any] = {
            "outcomeId": outcome_id(source, self.at, destination_id, passing, replay_id=replay_id),
            "domainId": self.domain_id,
            "destinationId": destination_id,
            "platform": None if nowhere else self.platform,
            "eventId": event_id,
            "eventName": "Purchase",
            "eventTime": self.at,
            "outcome": kind,
            "source": source,
            "receivedAt": self.at,
            "at": self.at + 1000,
            "replayId": replay_id,
        }
        await self._tell(Outcome.model_validate(outcome | more))

    async def delivered(self, event_id: str, **more: Any) -> None:
        """An event was taken and delivered."""
        source = await self.accepted(event_id, **more)
        await self.became(event_id, source, OutcomeKind.DELIVERED)

    async def _tell(self, told: Outcome | Routing) -> None:
        value, key = told.model_dump_json(exclude_none=True).encode(), self.domain_id.encode()
        offset = next(self._numbers)
        place = f"audit-{self.domain_id}"
        consumed = ConsumedRecord(place, 0, offset, key, value, (), timestamp_ms=offset + 1)
        await EventLogStore(self.database).keep([consumed])
