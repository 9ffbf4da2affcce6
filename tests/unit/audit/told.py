"""Records of ``audit`` for the tests of this folder, and what the event log has made of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from audit.tables import METADATA, POSITIONS
from runtime.database import Database
from runtime.kafka import ConsumedRecord
from schemas.delivery import Delivery
from schemas.outcome import OutcomeKind, Reason
from schemas.raw_event import RawEvent
from schemas.routing import routing_record

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOON = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
META = ("dst_meta", "meta")
TIKTOK = ("dst_tiktok", "tiktok")


@dataclass(frozen=True)
class Told:
    """One accepted event, and what is said of it."""

    number: int = 1
    domain_id: str = "dom_1"
    received_at: int = NOON
    name: str = "Purchase"
    order_id: str | None = None
    replay_id: str | None = None
    dispatch_key: str | None = None

    @property
    def event_id(self) -> str:
        """Its id."""
        return f"e-{self.number}"

    @property
    def source(self) -> str:
        """Where its record lies."""
        return f"{'replay' if self.replay_id else 'raw'}-events-0-{self.number}"

    def routing(self, *to: tuple[str, str], at: int = 10, first: str | None = None) -> bytes | None:
        """Its routing, so many milliseconds after its receipt."""
        raw = RawEvent.model_validate(
            {
                "domainId": self.domain_id,
                "door": "events",
                "requestId": "r",
                "receivedAt": self.received_at,
                "dispatchKey": self.dispatch_key,
                "event": {
                    "eventId": self.event_id,
                    "eventName": self.name,
                    "eventTime": self.received_at / 1000 - 5,
                    "customData": {"orderId": self.order_id},
                },
            }
        )
        return routing_record(
            raw,
            to,
            source=self.source,
            at=self.received_at + at,
            first_source=first,
            replay_id=self.replay_id,
        ).value

    def outcome(
        self,
        kind: OutcomeKind = OutcomeKind.DELIVERED,
        to: tuple[str, str] = META,
        *,
        at: int = 500,
        attempt: int = 0,
        **said: Any,
    ) -> bytes | None:
        """An outcome of it, so many milliseconds after its receipt."""
        delivery = Delivery(
            self.domain_id,
            *to,
            self.event_id,
            self.name,
            self.received_at - 5000,
            self.received_at,
            self.source,
            attempt=attempt,
            dispatch_key=self.dispatch_key,
            replay=self.replay_id,
        )
        return delivery.outcome_record(kind, at=self.received_at + at, **said).value

    def refused(self, to: tuple[str, str] = META, **said: Any) -> bytes | None:
        """The outcome of what its platform did not take."""
        given = {"reason": Reason.REFUSED_BY_PLATFORM, "code": "100", "detail": "Bad."} | said
        return self.outcome(OutcomeKind.REJECTED, to, **given)


def consumed(
    values: Iterable[bytes | None], start: int = 0, partition: int = 0, at: int = NOON
) -> list[ConsumedRecord]:
    """Values as they lie on the topic, one after the other."""
    return [
        ConsumedRecord("audit", partition, offset, b"dom_1", value, (), at)
        for offset, value in enumerate(values, start)
    ]


def elsewhere(records: Sequence[ConsumedRecord], partition: int) -> list[ConsumedRecord]:
    """The same where nothing was read yet: no position says that they were taken before."""
    return [record._replace(partition=partition) for record in records]


async def contents(database: Database, *without: Any) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table but the positions, and those that are named."""
    found = {}
    async with database.reading() as session:
        for table in METADATA.sorted_tables:
            if table is not POSITIONS and table not in without:
                rows = await session.execute(select(table))
                found[table.name] = sorted((tuple(row) for row in rows), key=repr)
    return found
