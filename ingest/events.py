"""``POST /v1/events``: 2xx once Kafka has acknowledged every event of the body."""

import asyncio

import orjson
from aiohttp import web

from ingest.context import CLOCK, PRODUCER, REQUEST_ID, SETTINGS
from ingest.errors import ErrorCode, RefusedError, unavailable
from ingest.guards import address_of, check_token, find_domain
from ingest.validate import AcceptedRequest, InvalidPayloadError, read_request
from runtime import metrics
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError
from schemas.config import DomainConfig
from schemas.raw_event import Door, RawEvent
from schemas.record import Record
from schemas.topics import RAW_EVENTS
from schemas.wire import SCHEMA_VERSION

log = get_logger(__name__)


async def post_events(request: web.Request) -> web.Response:
    """Take 1 to 100 canonical events."""
    domain = find_domain(request)
    check_token(request, domain)
    accepted = await _read_body(request, domain)
    await _produce(request, domain, accepted)
    metrics.EVENTS_ACCEPTED.inc(len(accepted.events))
    answer: dict[str, object] = {
        "success": True,
        "requestId": request[REQUEST_ID],
        "eventIds": [event.event_id for event in accepted.events],
    }
    if accepted.unknown_keys:
        metrics.UNKNOWN_KEYS.inc(len(accepted.unknown_keys))
        answer["warnings"] = accepted.warnings()
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


async def _read_body(request: web.Request, domain: DomainConfig) -> AcceptedRequest:
    if request.content_type != "application/json":
        raise RefusedError(
            ErrorCode.INVALID_PAYLOAD,
            f"Content-Type is {request.content_type[:100]!r}; send application/json",
            "Content-Type",
        )
    try:
        async with asyncio.timeout(request.app[SETTINGS].gateway.body_timeout_seconds):
            body = await request.read()
    except TimeoutError:
        raise RefusedError(ErrorCode.INVALID_PAYLOAD, "the body did not come in time") from None
    try:
        return read_request(
            body,
            strict=domain.strict,
            ip_address=address_of(request),
            user_agent=request.headers.get("User-Agent"),
        )
    except InvalidPayloadError as error:
        raise RefusedError(ErrorCode.INVALID_PAYLOAD, error.message, error.field) from None


async def _produce(request: web.Request, domain: DomainConfig, accepted: AcceptedRequest) -> None:
    app = request.app
    envelope = {
        "schemaVersion": SCHEMA_VERSION,
        "domainId": domain.domain_id,
        "door": Door.EVENTS,
        "requestId": request[REQUEST_ID],
        "receivedAt": app[CLOCK].now_ms(),
    }
    records = [
        Record(
            RAW_EVENTS,
            RawEvent.key(domain.domain_id, event.event_id),
            orjson.dumps(envelope | {"event": event.document}),
        )
        for event in accepted.events
    ]
    started = app[CLOCK].monotonic()
    try:
        # The producer gives up at the same time; the bound here is for a broker that holds the
        # request and answers nothing, when librdkafka waits for longer.
        async with asyncio.timeout(app[SETTINGS].gateway.delivery_timeout_seconds + 0.5):
            await app[PRODUCER].produce(records)
    except (DeliveryFailedError, ProducerFullError, TimeoutError) as error:
        log.warning("Kafka did not acknowledge.", request_id=request[REQUEST_ID], error=str(error))
        raise unavailable("the event could not be stored; send it again") from None
    metrics.PRODUCE_SECONDS.observe(app[CLOCK].monotonic() - started)
