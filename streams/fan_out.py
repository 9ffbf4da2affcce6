"""One accepted event → the records that come of it: where it goes, and one per destination. Pure."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import orjson

from platforms.base import Platform
from schemas.config import Destination, DomainConfig
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind, Reason, Skip, outcome_id
from schemas.raw_event import Blocks, RawEvent
from schemas.record import Record
from schemas.replay import Replay
from schemas.routing import routing_record
from streams.enrich import enrich
from streams.remember import NOTHING, Recalled
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
    recalled: Recalled = NOTHING,
    replay: Replay | None = None,
) -> list[Record]:
    """A delivery for each destination that is to get the event, an outcome for each that is not, and
    first of all the routing, which names those that are to get it.

    An event that is withheld from all of them has one outcome, for the whole of it. ``source`` is
    where the event's record lies; ``first``, when this is a repeat, where the copy that counts
    lies; ``recalled``, what earlier events say about this one; ``replay``, when it is driven again,
    to which of the destinations.
    """
    replay_id = replay.id if replay else None
    tell = partial(
        routing_record, raw, source=source, at=now_ms, first_source=first, replay_id=replay_id
    )
    if raw.withheld is not None:
        detail = _WITHHELD.get(raw.withheld)
        return [tell(()), _nowhere(raw, source, now_ms, raw.withheld, detail, replay_id)]
    destinations = [one for one in domain.destinations if replay is None or replay.wants(one.id)]
    deliveries = _deliveries(raw, destinations, source, replay_id)
    if first is not None:
        return [tell(()), *(_duplicate(delivery, first, now_ms) for delivery in deliveries)]
    decide = _route(raw, domain, recalled)
    records = [_removed(raw, source, now_ms, gone, replay_id) for gone in _gone(domain, replay)]
    routed = []
    for destination, delivery in zip(destinations, deliveries, strict=True):
        decision = _encode(decide, destination, platforms.get(destination.platform))
        if isinstance(decision, Skip):
            records.append(_skipped(delivery, decision, now_ms))
        else:
            records.append(delivery.to_record(decision))
            routed.append((destination.id, destination.platform))
    return [tell(routed), *records]


def _route(raw: RawEvent, domain: DomainConfig, recalled: Recalled) -> _Route:
    said = raw.said
    if isinstance(said, Blocks):
        return partial(route_block, raw, said)
    enriched = enrich(said, domain, recalled)
    return partial(route, raw, enriched, default_currency=domain.default_currency)


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


def _gone(domain: DomainConfig, replay: Replay | None) -> list[str]:
    """Destinations that a replay names and the domain has no more."""
    named = replay.destination_ids if replay else ()
    return [one for one in named if domain.destination(one) is None]


def _deliveries(
    raw: RawEvent, destinations: Iterable[Destination], source: str, replay_id: str | None
) -> list[Delivery]:
    own_code = raw.event.test_event_code if raw.event else None
    of_event = partial(
        Delivery,
        domain_id=raw.domain_id,
        event_id=raw.said.event_id,
        event_name=raw.event_name,
        event_time=raw.said.event_time,
        received_at=raw.received_at,
        source=source,
        dispatch_key=raw.dispatch_key,
        replay=replay_id,
    )
    return [
        of_event(
            destination_id=one.id,
            platform=one.platform,
            test_event_code=own_code or one.test_event_code,
        )
        for one in destinations
    ]


def _removed(
    raw: RawEvent, source: str, now_ms: int, destination_id: str, replay_id: str | None
) -> Record:
    detail = "The replay names a destination that the domain does not have any more."
    reason = Reason.DESTINATION_REMOVED
    return _nowhere(raw, source, now_ms, reason, detail, replay_id, destination_id)


def _nowhere(
    raw: RawEvent,
    source: str,
    now_ms: int,
    reason: Reason,
    detail: str | None,
    replay_id: str | None,
    destination_id: str | None = None,
) -> Record:
    """Skipped where there is no destination to make a delivery for."""
    return Outcome(
        outcomeId=outcome_id(source, raw.received_at, destination_id),
        domainId=raw.domain_id,
        destinationId=destination_id,
        eventId=raw.said.event_id,
        eventName=raw.event_name,
        eventTime=raw.said.event_time,
        outcome=OutcomeKind.SKIPPED,
        reason=reason,
        detail=detail,
        source=source,
        dispatchKey=raw.dispatch_key,
        replayId=replay_id,
        receivedAt=raw.received_at,
        at=now_ms,
    ).to_record()


def _duplicate(delivery: Delivery, first: str, now_ms: int) -> Record:
    return delivery.outcome_record(
        OutcomeKind.DUPLICATE,
        at=now_ms,
        reason=Reason.SAME_EVENT_ID,
        detail="An event with this id and name was accepted before, and is the one that counts.",
        first_source=first,
    )


def _skipped(delivery: Delivery, skip: Skip, now_ms: int) -> Record:
    return delivery.outcome_record(
        OutcomeKind.SKIPPED, at=now_ms, reason=skip.reason, detail=skip.detail
    )
