"""``POST /v1/events`` and ``POST /v1/pmw-events``: 2xx once Kafka has acknowledged every event."""

from functools import partial

from aiohttp import web

from ingest.body import read_body
from ingest.context import CLOCK
from ingest.guards import address_of, check_token, find_domain
from ingest.intake import admit, answer, store
from ingest.pmw import read_blocks
from ingest.validate import AcceptedRequest, read_request
from schemas.config import DomainConfig
from schemas.raw_event import Door


async def post_events(request: web.Request) -> web.Response:
    """Take 1 to 100 canonical events."""
    return await _take(request, Door.EVENTS)


async def post_pmw_events(request: web.Request) -> web.Response:
    """Take one event that is in the platforms' own words already."""
    return await _take(request, Door.PMW_EVENTS)


async def _take(request: web.Request, door: Door) -> web.Response:
    domain = find_domain(request)
    check_token(request, domain)
    accepted = await admit(request, domain, partial(_READERS[door], request, domain))
    await store(request, domain, door, accepted)
    return answer(request, accepted)


async def _read_events(request: web.Request, domain: DomainConfig) -> AcceptedRequest:
    return read_request(
        await read_body(request),
        strict=domain.strict,
        ip_address=address_of(request),
        user_agent=request.headers.get("User-Agent"),
    )


async def _read_blocks(request: web.Request, domain: DomainConfig) -> AcceptedRequest:
    return read_blocks(
        await read_body(request),
        strict=domain.strict,
        received_at=request.app[CLOCK].now_ms(),
        ip_address=address_of(request),
        user_agent=request.headers.get("User-Agent"),
    )


_READERS = {Door.EVENTS: _read_events, Door.PMW_EVENTS: _read_blocks}
