"""What the event log answers: bodies of the management API, and what its store is asked."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import Field, StringConstraints

from schemas.outcome import OutcomeKind, Reason
from schemas.raw_event import Door
from schemas.wire import Wire

MAX_PAGE: int = 200


class State(StrEnum):
    """How far a delivery is: on its way, or one of its outcomes."""

    ROUTED = "routed"
    DELIVERED = OutcomeKind.DELIVERED.value
    REJECTED = OutcomeKind.REJECTED.value
    EXPIRED = OutcomeKind.EXPIRED.value
    SKIPPED = OutcomeKind.SKIPPED.value
    DUPLICATE = OutcomeKind.DUPLICATE.value
    RETRYING = OutcomeKind.RETRYING.value
    PARKED = OutcomeKind.PARKED.value


_Text = Annotated[str, StringConstraints(min_length=1, max_length=300)]
_Cursor = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{32}$")]
_Moment = Annotated[int, Field(ge=0, le=10**15)]


class EventQuery(Wire):
    """Which deliveries are asked for. What is absent does not narrow them."""

    domain_id: _Text | None = None
    destination_id: _Text | None = None
    platform: _Text | None = None
    event_name: _Text | None = None
    outcome: State | None = None
    reason: Reason | None = None
    event_id: _Text | None = None
    order_id: _Text | None = None
    since: _Moment | None = None
    """Received at this moment or later; Unix milliseconds."""
    until: _Moment | None = None
    """Received before this moment; Unix milliseconds."""
    text: _Text | None = None
    """Part of the error's code or sentence, in any case of letters."""
    cursor: _Cursor | None = None
    """``nextCursor`` of the page before."""
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50


class LoggedDelivery(Wire):
    """One event for one destination, as it stands now."""

    delivery_id: str
    domain_id: str
    destination_id: str | None
    """None: the event as a whole, which went to no destination."""
    platform: str | None
    event_id: str
    event_name: str
    event_time: int
    """Unix milliseconds."""
    order_id: str | None
    received_at: int
    """Unix milliseconds."""
    outcome: State
    reason: Reason | None
    code: str | None
    """The platform's own code."""
    detail: str | None
    attempt: int
    at: int
    """Unix milliseconds of the outcome."""
    source: str
    first_source: str | None
    dispatch_key: str | None
    replay_id: str | None


class EventPage(Wire):
    """Deliveries, the last received first."""

    events: tuple[LoggedDelivery, ...]
    next_cursor: str | None
    """Asks for what was received before; None at the end."""


class Step(Wire):
    """One thing that happened to an event."""

    step: str
    """``accepted``, or a ``State``."""
    at: int
    """Unix milliseconds."""
    source: str
    """Of which copy of the event."""
    destination_id: str | None = None
    platform: str | None = None
    reason: Reason | None = None
    code: str | None = None
    detail: str | None = None
    attempt: int | None = None
    door: Door | None = None
    replay_id: str | None = None


class Timeline(Wire):
    """All that happened to an event, in the order of time; copies of it and replays too."""

    domain_id: str
    event_id: str
    event_name: str
    event_time: int
    order_id: str | None
    steps: tuple[Step, ...]


class AccuracyRow(Wire):
    """What became of a day's events at one destination.

    ``accepted`` is ``delivered``, all that was ``skipped`` and ``failed``, and ``underWay``. Replays
    do not count.
    """

    day: str
    """UTC, ``2026-11-25``, by the moment of receipt."""
    domain_id: str
    destination_id: str | None
    """None: events that went to no destination as a whole."""
    platform: str | None
    accepted: int
    delivered: int
    skipped: dict[Reason, int]
    """By reason; a duplicate is ``same_event_id``."""
    failed: dict[Reason, int]
    """Rejected and expired, by reason."""
    under_way: int


class UsageDay(Wire):
    """A day's events of one organisation."""

    day: str
    """UTC, ``2026-11-25``, by the moment of receipt."""
    accepted: int
    """Events that the gateway took."""
    billable: int
    """Those of them that went to at least one destination."""


class EventLog(Protocol):
    """The one door through which the audit store is read. Moments are Unix milliseconds;
    ``domain_ids`` are those of the organisation that asks, and nothing of others is answered."""

    async def events(self, domain_ids: Sequence[str], query: EventQuery) -> EventPage:
        """A page. Raises ``ValueError`` for a cursor that is not ours."""
        ...

    async def timeline(self, domain_ids: Sequence[str], event_id: str) -> Sequence[Timeline]:
        """The event of this id, of each domain that has one."""
        ...

    async def accuracy(
        self, domain_ids: Sequence[str], since: int, until: int
    ) -> Sequence[AccuracyRow]:
        """By day, domain and destination, of the days that ``since`` to ``until`` touch."""
        ...

    async def usage(self, domain_ids: Sequence[str], since: int, until: int) -> Sequence[UsageDay]:
        """By day, of the days that ``since`` to ``until`` touch, the first one first."""
        ...
