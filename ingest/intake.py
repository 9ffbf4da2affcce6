"""The way of every accepted request, whichever door it came through: limits, then Kafka."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from ingest.admission import Admission, Refusal
from ingest.context import ADMISSION, ADMISSIONS, CLOCK, PRODUCER, REQUEST_ID
from ingest.errors import ErrorCode, RefusedError, as_refusal, unavailable
from ingest.guards import address_of
from ingest.validate import AcceptedEvent, AcceptedRequest, InvalidPayloadError
from ingest.withhold import reason_to_withhold
from runtime import metrics
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError
from runtime.quota import seconds_left
from schemas.config import DomainConfig
from schemas.raw_event import Door, RawEvent
from schemas.record import Record
from schemas.topics import RAW_EVENTS
from schemas.wire import SCHEMA_VERSION

log = get_logger(__name__)

_REFUSALS: Final = (RefusedError, InvalidPayloadError, web.HTTPException, web.RequestPayloadError)
"""What may be wrong with a body."""


async def admit(
    request: web.Request,
    domain: DomainConfig,
    read: Callable[[], Awaitable[AcceptedRequest]],
    *,
    is_limited: bool = True,
) -> AcceptedRequest:
    """Read the body, ask the limits, and say which of the events go to nobody.

    The limits count what the body holds and come before what is wrong with it: so the body is
    read first and its refusal kept. ``is_limited`` is off where requests are not counted.

    Raises ``RefusedError``.
    """
    limits, address = request.app[ADMISSIONS], address_of(request)
    if is_limited and (flood := limits.flood(domain, address)) is not None:
        raise _refused(request, flood)
    refusal = None
    try:
        accepted = await read()
    except _REFUSALS as error:
        accepted, refusal = AcceptedRequest(), as_refusal(error)
    for event in accepted.events:
        event.withheld = reason_to_withhold(
            domain, event.address, event.user_agent, is_browser=event.is_browser
        )
    wanted = [event for event in accepted.events if event.withheld is None]
    admission = await limits.admit(
        domain, address, events=len(wanted) if domain.destinations else 0, is_limited=is_limited
    )
    if admission.refusal is not None:
        raise _refused(request, admission)
    request[ADMISSION] = admission
    if refusal is not None:
        raise refusal
    for event in wanted:
        event.counted = admission.counted
    return accepted


def _refused(request: web.Request, admission: Admission) -> RefusedError:
    request[ADMISSION] = admission
    if admission.refusal is Refusal.QUOTA:
        return RefusedError(
            ErrorCode.REQUEST_LIMIT_EXCEEDED,
            "the events of this month are used up; the count starts again with the next month (UTC)",
            retry_after_seconds=seconds_left(request.app[CLOCK].now_ms()),
        )
    return RefusedError(
        ErrorCode.RATE_LIMITED,
        f"more than {admission.limit} requests in a minute; put several events into one request",
        retry_after_seconds=admission.reset_seconds,
    )


async def store(
    request: web.Request, domain: DomainConfig, door: Door, accepted: AcceptedRequest
) -> int:
    """Put the events on Kafka; answers the moment of receipt, Unix milliseconds.

    Raises ``RefusedError`` when Kafka does not acknowledge all of them in time.
    """
    app = request.app
    received_at = app[CLOCK].now_ms()
    envelope = {
        "schemaVersion": SCHEMA_VERSION,
        "domainId": domain.domain_id,
        "door": door,
        "requestId": request[REQUEST_ID],
        "receivedAt": received_at,
    }
    if accepted.dispatch_key is not None:
        envelope["dispatchKey"] = accepted.dispatch_key
    records = [_record(domain, event, envelope) for event in accepted.events]
    started = app[CLOCK].monotonic()
    try:
        await app[PRODUCER].produce(records)
    except (DeliveryFailedError, ProducerFullError) as error:
        log.warning("Kafka did not acknowledge.", request_id=request[REQUEST_ID], error=str(error))
        await app[ADMISSIONS].give_back(domain, accepted.counted_events)
        raise unavailable("the event could not be stored; send it again") from None
    metrics.PRODUCE_SECONDS.observe(app[CLOCK].monotonic() - started)
    metrics.EVENTS_ACCEPTED.inc(len(accepted.events))
    return received_at


def _record(domain: DomainConfig, event: AcceptedEvent, envelope: dict[str, Any]) -> Record:
    value = envelope | {event.form: event.document}
    if event.withheld is not None:
        metrics.EVENTS_WITHHELD.labels(event.withheld).inc()
        value["withheld"] = event.withheld
    if event.counted:
        value["counted"] = True
    return Record(RAW_EVENTS, RawEvent.key(domain.domain_id, event.event_id), orjson.dumps(value))


def answer(request: web.Request, accepted: AcceptedRequest, **more: object) -> web.Response:
    """``{"success":true,"requestId","eventIds","warnings"?}``."""
    body: dict[str, object] = {
        "success": True,
        "requestId": request[REQUEST_ID],
        "eventIds": [event.event_id for event in accepted.events],
    } | more
    if accepted.unknown_keys:
        metrics.UNKNOWN_KEYS.inc(len(accepted.unknown_keys))
        body["warnings"] = accepted.warnings()
    return web.Response(body=orjson.dumps(body), content_type="application/json")
