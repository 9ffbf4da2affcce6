"""All that happened to an event, told from its rows. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self, TypeAlias

from sqlalchemy import Row

from audit.fold import ACCEPTED, FINAL
from audit.query import Found, place_of
from schemas.event_log import State, Step, Timeline
from schemas.raw_event import Door

TextKey: TypeAlias = tuple[str, int]
Texts: TypeAlias = Mapping[tuple[str, int | None], tuple[str | None, str | None]]
"""Domain and text id → code and detail."""


class Passing(NamedTuple):
    """A passing outcome of a delivery."""

    state: str
    attempt: int
    at: int
    reason: str | None
    text_id: int | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        """What a delivery has come to, told in the same way."""
        return cls(row.state, row.attempt, row.at, row.reason, row.text_id)


Attempts: TypeAlias = Mapping[tuple[int, bytes], list[Passing]]


def said_in(deliveries: Found, passing: Attempts) -> set[TextKey]:
    """The texts that these speak of."""
    return {
        (row.domain_id, told.text_id)
        for row in deliveries
        for told in (Passing.of(row), *passing.get(place_of(row), ()))
        if told.text_id is not None
    }


def timeline_of(events: Found, deliveries: Found, passing: Attempts, texts: Texts) -> Timeline:
    """What happened to one domain's event."""
    steps = _accepted(events, deliveries)
    for row in deliveries:
        steps += _steps(row, passing.get(place_of(row), ()), texts)
    first = (*events, *deliveries)[0]
    return Timeline(
        domainId=first.domain_id,
        eventId=first.event_id,
        eventName=first.event_name,
        eventTime=first.event_time,
        orderId=next((one.order_id for one in events if one.order_id is not None), None),
        # Within a millisecond, what comes first stands first already.
        steps=tuple(sorted(steps, key=lambda step: step.at)),
    )


def _accepted(events: Found, deliveries: Found) -> list[Step]:
    """Each copy once, whether its routing is known or its deliveries; a replay accepts nothing."""
    doors: dict[str, str | None] = {one.source: None for one in deliveries if one.replay_id is None}
    doors |= {one.source: one.door for one in events if one.replay_id is None}
    received = {one.source: one.received_at for one in (*deliveries, *events)}
    return [
        Step(step=ACCEPTED, at=received[source], source=source, door=Door(door) if door else None)
        for source, door in doors.items()
    ]


def _steps(row: Row[Any], passing: Iterable[Passing], texts: Texts) -> list[Step]:
    about = {
        "source": row.source,
        "destinationId": row.destination_id or None,
        "platform": row.platform or None,
        "replayId": row.replay_id,
    }
    steps = []
    if row.routed_at is not None:
        steps.append(Step(step=State.ROUTED, at=row.routed_at, **about))
    ended = [Passing.of(row)] if row.state in FINAL else []
    for told in (*passing, *ended):
        code, detail = texts.get((row.domain_id, told.text_id), (None, None))
        steps.append(
            Step(
                step=told.state,
                at=told.at,
                reason=told.reason,
                code=code,
                detail=detail,
                attempt=told.attempt,
                **about,
            )
        )
    return steps
