"""What was received: the value of ``raw-events``."""

from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from schemas.event import Event, EventName
from schemas.limits import MAX_EVENT_TIME_SECONDS
from schemas.outcome import Reason
from schemas.wire import SCHEMA_VERSION, Wire


class Door(StrEnum):
    """Through which HTTP route an event came."""

    EVENTS = "events"
    PMW_EVENTS = "pmw-events"
    PURCHASE_EVENTS = "purchase-events"


class Blocks(Wire):
    """An event that came in the platforms' own words: what each of them is to get."""

    event_id: str
    event_name: str
    """The canonical name where there is one, else the sender's own."""
    event_time: int
    """Unix milliseconds."""
    by_platform: dict[str, dict[str, Any]]
    """Platform slug → the object that goes into its batch."""


class RawEvent(Wire):
    """What was received, by whom, when, through which door. The value of ``raw-events``.

    It holds either a canonical ``event`` or ``blocks``.
    """

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    domain_id: str
    door: Door
    request_id: str
    received_at: int = Field(ge=0, le=MAX_EVENT_TIME_SECONDS * 1000)
    """Unix milliseconds at the gateway: the clock by which age is judged, so that a replay of the
    log decides as the first run did."""
    event: Event | None = None
    blocks: Blocks | None = None
    withheld: Reason | None = None
    """Why it goes to nobody, when the gateway knew that already."""
    counted: bool = False
    """Whether the gateway counted it towards the month's quota."""
    dispatch_key: str | None = None
    """The name by which the shop's server asks what became of it."""

    @model_validator(mode="after")
    def _one_of_both(self) -> "RawEvent":
        if (self.event is None) is (self.blocks is None):
            raise ValueError("must hold either event or blocks")
        return self

    @property
    def said(self) -> Event | Blocks:
        """The event, in whose words it came."""
        said = self.event or self.blocks
        if said is None:  # pragma: no cover - the validator above refuses it
            raise AssertionError
        return said

    @property
    def names(self) -> tuple[EventName, str | None]:
        """What sort of event it is: the canonical name, and a custom event's own.

        The same for the same action, in whose words it came: a block that the canonical names
        have no word for is a custom event of its own name.
        """
        if self.event is not None:
            custom = self.event.event_name is EventName.CUSTOM
            return self.event.event_name, (self.event.custom_event_name if custom else None)
        try:
            return EventName(self.said.event_name), None
        except ValueError:
            return EventName.CUSTOM, self.said.event_name

    @property
    def event_name(self) -> str:
        """The name that an outcome shows: a custom event's own, as the merchant knows it."""
        canonical, own = self.names
        return own or canonical

    @staticmethod
    def key(domain_id: str, event_id: str) -> bytes:
        """Copies of one event meet in one partition, so the first is the same at every replay."""
        return f"{domain_id}:{event_id}".encode()
