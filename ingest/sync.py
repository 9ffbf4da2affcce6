"""The doors of a shop's own server, which proves itself with the sync token.

The server names what it sends with a dispatch key. After a lost answer it asks what became of
that key, before it sends the same purchase to the platforms by itself.
"""

from functools import partial
from typing import Any

import orjson
from aiohttp import web
from redis.exceptions import RedisError

from ingest.body import read_body
from ingest.context import ADMISSIONS, DISPATCHES, REQUEST_ID
from ingest.errors import unavailable
from ingest.guards import find_shop
from ingest.intake import admit, answer, store
from ingest.validate import AcceptedRequest, read_dispatch_key, read_object, read_request
from runtime.dispatches import Dispatch
from runtime.logs import get_logger
from schemas.config import DomainConfig
from schemas.raw_event import Door

log = get_logger(__name__)


async def post_purchase_events(request: web.Request) -> web.Response:
    """Take 1 to 100 canonical events under one dispatch key; a key that was accepted before is
    not taken again."""
    domain = find_shop(request)
    accepted = await admit(request, domain, partial(_read, request, domain), is_limited=False)
    key = str(accepted.dispatch_key)
    dispatches = request.app[DISPATCHES]
    try:
        known = await dispatches.status(domain.domain_id, key)
    except RedisError:
        known = None  # sent twice at worst, which the dedupe step is for
    # Outcomes without the mark may be those of a part of the events.
    if known is not None and known.accepted_at is not None:
        await request.app[ADMISSIONS].give_back(domain, accepted.counted_events)
        return answer(request, accepted, eventIds=list(known.event_ids), alreadyAccepted=True)
    received_at = await store(request, domain, Door.PURCHASE_EVENTS, accepted)
    event_ids = [event.event_id for event in accepted.events]
    try:
        await dispatches.accept(domain.domain_id, key, received_at, event_ids)
    except RedisError as error:
        # Its outcomes will tell as much, in a second or two.
        log.warning("A dispatch was not marked.", request_id=request[REQUEST_ID], error=str(error))
    return answer(request, accepted, alreadyAccepted=False)


async def _read(request: web.Request, domain: DomainConfig) -> AcceptedRequest:
    return read_request(
        await read_body(request),
        strict=domain.strict,
        # The shop's server is not the customer: its address stands for nobody.
        ip_address=None,
        user_agent=None,
        is_dispatch=True,
    )


async def post_dispatch_status(request: web.Request) -> web.Response:
    """Tell whether a dispatch key was accepted, and what became of its events so far."""
    domain = find_shop(request)
    key = read_dispatch_key(read_object(await read_body(request)))
    try:
        known = await request.app[DISPATCHES].status(domain.domain_id, key)
    except RedisError:
        raise unavailable("what was dispatched cannot be looked up now; ask again") from None
    body = {
        "success": True,
        "requestId": request[REQUEST_ID],
        "dispatchKey": key,
        **_told(known),
    }
    return web.Response(body=orjson.dumps(body), content_type="application/json")


def _told(known: Dispatch | None) -> dict[str, Any]:
    if known is None:
        return {"dispatched": False, "acceptedAt": None, "eventIds": [], "outcomes": []}
    return {
        "dispatched": True,
        "acceptedAt": known.accepted_at,
        "eventIds": list(known.event_ids),
        "outcomes": [
            {
                "eventId": fate.event_id,
                "destinationId": fate.destination_id,
                "platform": fate.platform,
                "outcome": fate.outcome,
                "reason": fate.reason,
                "code": fate.code,
                "at": fate.at,
            }
            for fate in known.outcomes
        ],
    }
