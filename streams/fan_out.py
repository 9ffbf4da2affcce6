"""One accepted event → the records that come of it, one or more per destination. Pure."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import orjson

from platforms.base import Platform
from schemas.config import Destination, DomainConfig
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind, Reason, Skip, outcome_id
from schemas.raw_event import Blocks, RawEvent
from schemas.record import Record
from streams.enrich import enrich
from streams.route import route, route_block

_Route: TypeAlias = Callable[[Destination, Platform | None], dict[str, Any] | Skip]

_WITHHELD: Final = {
    Reason.BOT: "The user agent is a program's, not a person's. A server that sends for its "
    "customer says the customer's own in userData.userAgent.",
    Reason.EXCLUDED: "The domain's exclusions name this client, by its address or its user agent.",
}


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

    An event that is withheld from all of them has one outcome, for the whole of it. ``source`` is
    where the event's record lies; ``first``, when this is a repeat, where the copy that counts
    lies.
    """
    if raw.withheld is not None:
        return [_withheld(raw, raw.withheld, source, now_ms)]
    deliveries = [_delivery(raw, destination, source) for destination in domain.destinations]
    if first is not None:
        return [_duplicate(delivery, first, now_ms) for delivery in deliveries]
    decide = _route(raw, domain)
    records = []
    for destination, delivery in zip(domain.destinations, deliveries, strict=True):
        decision = _encode(decide, destination, platforms.get(destination.platform))
        if isinstance(decision, Skip):
            records.append(_skipped(delivery, decision, now_ms))
        else:
            records.append(delivery.to_record(decision))
    return records


def _route(raw: RawEvent, domain: DomainConfig) -> _Route:
    said = raw.said
    if isinstance(said, Blocks):
        return partial(route_block, raw, said)
    return partial(route, raw, enrich(said, domain))


def _encode(decide: _Route, destination: Destination, platform: Platform | None) -> bytes | Skip:
    """The payload's JSON, unless it alone is more than a request may hold."""
    decision = decide(destination, platform)
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


def _delivery(raw: RawEvent, destination: Destination, source: str) -> Delivery:
    return Delivery(
        domain_id=raw.domain_id,
        destination_id=destination.id,
        platform=destination.platform,
        event_id=raw.said.event_id,
        event_name=raw.event_name,
        event_time=raw.said.event_time,
        received_at=raw.received_at,
        source=source,
        dispatch_key=raw.dispatch_key,
    )


def _withheld(raw: RawEvent, reason: Reason, source: str, now_ms: int) -> Record:
    return Outcome(
        outcomeId=outcome_id(source, raw.received_at, None),
        domainId=raw.domain_id,
        eventId=raw.said.event_id,
        eventName=raw.event_name,
        eventTime=raw.said.event_time,
        outcome=OutcomeKind.SKIPPED,
        reason=reason,
        detail=_WITHHELD.get(reason),
        source=source,
        dispatchKey=raw.dispatch_key,
        receivedAt=raw.received_at,
        at=now_ms,
    ).to_record()


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
