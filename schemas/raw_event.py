"""What was received: the value of ``raw-events``."""

from enum import StrEnum

from pydantic import Field

from schemas.event import Event
from schemas.wire import SCHEMA_VERSION, Wire


class Door(StrEnum):
    """Through which HTTP route an event came."""

    EVENTS = "events"


class RawEvent(Wire):
    """What was received, by whom, when, through which door. The value of ``raw-events``."""

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    domain_id: str
    door: Door
    request_id: str
    received_at: int
    """Unix milliseconds at the gateway: the clock by which age is judged, so that a replay of the
    log decides as the first run did."""
    event: Event

    @staticmethod
    def key(domain_id: str, event_id: str) -> bytes:
        """Copies of one event meet in one partition, so the first is the same at every replay."""
        return f"{domain_id}:{event_id}".encode()
