"""One accepted event → the records that come of it, one or more per destination. Pure."""

from collections.abc import Mapping

import orjson

from platforms.base import Platform
from schemas.config import Destination, DomainConfig
from schemas.delivery import Delivery
from schemas.event import Event, EventName
from schemas.outcome import OutcomeKind, Reason, Skip
from schemas.raw_event import RawEvent
from schemas.record import Record
from streams.enrich import enrich
from streams.route import route


def fan_out(
    raw: RawEvent,
    domain: DomainConfig,
    platforms: Mapping[str, Platform],
    *,
    source: str,
    first: str | None,
    now_ms: int,
) -> list[Record]:
    """A delivery for each destination that is to get the event, an outcome for each that is not.

    ``source`` is where the event's record lies; ``first``, when this is a repeat, where the copy
    that counts lies.
    """
    event = enrich(raw.event, domain) if first is None else raw.event
    records = []
    for destination in domain.destinations:
        delivery = Delivery(
            domain_id=domain.domain_id,
            destination_id=destination.id,
            platform=destination.platform,
            event_id=event.event_id,
            event_name=_told_name(event),
            event_time=event.event_time,
            received_at=raw.received_at,
            source=source,
        )
        if first is not None:
            records.append(_duplicate(delivery, first, now_ms))
            continue
        decision = _encode(raw, event, destination, platforms.get(destination.platform))
        if isinstance(decision, Skip):
            records.append(_skipped(delivery, decision, now_ms))
        else:
            records.append(delivery.to_record(decision))
    return records


def _encode(
    raw: RawEvent, event: Event, destination: Destination, platform: Platform | None
) -> bytes | Skip:
    """The payload's JSON, unless it alone is more than a request may hold."""
    decision = route(raw, event, destination, platform)
    if isinstance(decision, Skip):
        return decision
    payload = orjson.dumps(decision)
    if platform is not None and len(payload) > platform.LIMITS.max_payload_bytes:
        return Skip(
            Reason.OVERSIZE,
            f"The event takes {len(payload)} bytes at {platform.NAME}, which takes "
            f"{platform.LIMITS.max_payload_bytes}.",
        )
    return payload


def _told_name(event: Event) -> str:
    """The name that an outcome shows: a custom event's own, as the merchant knows it."""
    if event.event_name is EventName.CUSTOM and event.custom_event_name:
        return event.custom_event_name
    return event.event_name


def _duplicate(delivery: Delivery, first: str, now_ms: int) -> Record:
    return delivery.outcome(
        OutcomeKind.DUPLICATE,
        at=now_ms,
        reason=Reason.SAME_EVENT_ID,
        detail="An event with this id and name was accepted before, and is the one that counts.",
        first_source=first,
    ).to_record()


def _skipped(delivery: Delivery, skip: Skip, now_ms: int) -> Record:
    return delivery.outcome(
        OutcomeKind.SKIPPED, at=now_ms, reason=skip.reason, detail=skip.detail
    ).to_record()
