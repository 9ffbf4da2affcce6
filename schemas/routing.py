"""Where an accepted event goes: said on ``audit`` once, when the streams have decided it."""

from collections.abc import Iterable
from typing import Any, Literal

import orjson
from pydantic import Field

from schemas.outcome import outcome_id
from schemas.raw_event import Blocks, Door, RawEvent
from schemas.record import Record
from schemas.topics import AUDIT
from schemas.wire import SCHEMA_VERSION, Wire


class Routed(Wire):
    """A destination that a delivery was made for."""

    destination_id: str
    platform: str


class Routing(Wire):
    """One accepted event, and the destinations that it is on its way to. The value of ``audit``, as
    ``schemas.outcome.Outcome`` is.

    The destinations that do not get it have an outcome at once and do not stand here.
    """

    kind: Literal["routing"] = "routing"
    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    routing_id: str
    domain_id: str
    event_id: str
    event_name: str
    event_time: int
    """Unix milliseconds."""
    order_id: str | None = None
    door: Door
    source: str
    """Where the accepted event lies, as in an outcome."""
    first_source: str | None = None
    """Of a duplicate: where the copy that counts lies."""
    dispatch_key: str | None = None
    replay_id: str | None = None
    received_at: int
    at: int
    """Unix milliseconds of the decision."""
    destinations: tuple[Routed, ...] = ()

    @property
    def name(self) -> str:
        """What no other one is called."""
        return self.routing_id


def routing_id(source: str, received_at: int, replay_id: str | None) -> str:
    """Name a routing so that working a record again names it the same."""
    return outcome_id(source, received_at, None, "routing", replay_id=replay_id)


def routing_record(
    raw: RawEvent,
    destinations: Iterable[tuple[str, str]],
    *,
    source: str,
    at: int,
    first_source: str | None = None,
    replay_id: str | None = None,
) -> Record:
    """The ``Routing`` of an event as it goes onto ``audit``, printed without its model, which takes
    most of the time of it.

    ``destinations`` are pairs of destination id and platform; ``at`` is Unix milliseconds.
    """
    event = raw.said
    said: dict[str, Any] = {
        "kind": "routing",
        "schemaVersion": SCHEMA_VERSION,
        "routingId": routing_id(source, raw.received_at, replay_id),
        "domainId": raw.domain_id,
        "eventId": event.event_id,
        "eventName": raw.event_name,
        "eventTime": event.event_time,
        "door": raw.door,
        "source": source,
        "receivedAt": raw.received_at,
        "at": at,
        "destinations": [{"destinationId": one, "platform": slug} for one, slug in destinations],
    }
    extra = (
        ("orderId", _order_id(raw)),
        ("firstSource", first_source),
        ("dispatchKey", raw.dispatch_key),
        ("replayId", replay_id),
    )
    said |= {key: value for key, value in extra if value is not None}
    return Record(AUDIT, raw.domain_id.encode(), orjson.dumps(said))


def _order_id(raw: RawEvent) -> str | None:
    if raw.event is not None:
        return raw.event.custom_data.order_id
    return _order_in_blocks(raw.blocks) if raw.blocks is not None else None


def _order_in_blocks(blocks: Blocks) -> str | None:
    """The first that a platform is told; most of them have it in one of these places."""
    for block in blocks.by_platform.values():
        for place in ("custom_data", "properties"):
            holder = block.get(place)
            found = holder.get("order_id") if isinstance(holder, dict) else None
            if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
                return str(found)
    return None
