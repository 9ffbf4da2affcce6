"""The gateway's process: routes, guards, and the wait for Kafka's acknowledgement."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from ingest.errors import ErrorCode, RefusedError
from ingest.validate import AcceptedRequest, InvalidPayloadError, read_request
from runtime import ids, metrics
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.http_server import serving
from runtime.lifecycle import Heartbeat, Shutdown
from runtime.logs import get_logger
from runtime.producer import DeliveryFailedError, ProducerFullError, RecordProducer
from runtime.settings import Settings
from runtime.vault import DomainTokens
from schemas.config import DomainConfig, Subscription
from schemas.limits import MAX_BODY_BYTES
from schemas.raw_event import Door, RawEvent
from schemas.record import Record
from schemas.topics import RAW_EVENTS
from schemas.wire import SCHEMA_VERSION

log = get_logger(__name__)

SETTINGS: Final = web.AppKey("settings", Settings)
CLOCK: Final = web.AppKey("clock", Clock)
FEED: Final = web.AppKey("feed", ConfigFeed)
TOKENS: Final = web.AppKey("tokens", DomainTokens)
PRODUCER: Final = web.AppKey("producer", RecordProducer)
REQUEST_ID: Final = web.RequestKey("request_id", str)

TOKEN_HEADER: Final = "X-SSP-Token"  # noqa: S105 - a header's name
RETRY_AFTER_SECONDS: Final = 2

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(settings: Settings, clock: Clock) -> web.Application:
    """The gateway as an aiohttp application.

    Raises ``ConfigError`` when the token secret is missing.
    """
    # One byte above the limit is let in, so that the refusal can be ours and say what to do.
    app = web.Application(middlewares=[_answer_errors], client_max_size=MAX_BODY_BYTES + 1)
    app[SETTINGS] = settings
    app[CLOCK] = clock
    app[TOKENS] = DomainTokens(settings.tokens)
    app.cleanup_ctx.append(_kafka)
    app.router.add_post("/v1/events", post_events)
    app.router.add_get("/health", get_health)
    app.router.add_get("/metrics", get_metrics)
    return app


async def _kafka(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[FEED] = ConfigFeed(settings)
    app[FEED].start()
    app[PRODUCER] = RecordProducer(
        settings.kafka, delivery_timeout_seconds=settings.gateway.delivery_timeout_seconds
    )
    yield
    await app[FEED].stop()
    left = await app[PRODUCER].close(settings.gateway.delivery_timeout_seconds)
    if left:
        log.warning("Stopped with records unacknowledged; their senders got no 2xx.", records=left)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer carries a request id; every failure is a JSON body with a code."""
    request[REQUEST_ID] = ids.request_id()
    code = "ok"
    try:
        response = await handler(request)
    except Exception as error:  # noqa: BLE001 - turned into an answer, and logged if unexpected
        refusal = _as_refusal(error, request[REQUEST_ID])
        code, response = refusal.code, refusal.response(request[REQUEST_ID])
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = error.headers["Allow"]
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    resource = request.match_info.route.resource
    metrics.HTTP_REQUESTS.labels(resource.canonical if resource else "none", code).inc()
    return response


def _as_refusal(error: Exception, request_id: str) -> RefusedError:
    match error:
        case RefusedError():
            return error
        case web.HTTPNotFound():
            return RefusedError(ErrorCode.NOT_FOUND, "there is no such route")
        case web.HTTPMethodNotAllowed():
            return RefusedError(ErrorCode.METHOD_NOT_ALLOWED, "this route has other methods")
        case web.HTTPRequestEntityTooLarge():
            return RefusedError(
                ErrorCode.INVALID_PAYLOAD,
                f"the body exceeds {MAX_BODY_BYTES // 1024} KB: send fewer events in one request",
            )
        case web.RequestPayloadError():
            return RefusedError(
                ErrorCode.INVALID_PAYLOAD, "the body is not what its Content-Encoding says"
            )
        case web.HTTPException():
            return RefusedError(ErrorCode.INVALID_PAYLOAD, error.reason)
        case _:
            log.error("A request failed.", request_id=request_id, exc_info=error)
            return RefusedError(ErrorCode.INTERNAL_ERROR, "the request failed on our side")


async def post_events(request: web.Request) -> web.Response:
    """``POST /v1/events``: 2xx once Kafka has acknowledged every event of the body."""
    domain = _find_domain(request)
    _check_token(request, domain)
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


def _find_domain(request: web.Request) -> DomainConfig:
    feed = request.app[FEED]
    host = host_of(request.host)
    domain = feed.by_host(host)
    if domain is None:
        if not feed.is_caught_up:
            raise _unavailable("the configuration has not been read yet")
        raise RefusedError(
            ErrorCode.DOMAIN_NOT_CONFIGURED,
            f"no domain is configured for the host {host[:253]!r}",
        )
    if domain.subscription is not Subscription.ACTIVE:
        raise RefusedError(ErrorCode.SUBSCRIPTION_INACTIVE, "this domain's plan is not active")
    return domain


def host_of(header: str) -> str:
    """The host of a ``Host`` header: lower case, without port and trailing dot."""
    host = header.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def _check_token(request: web.Request, domain: DomainConfig) -> None:
    token = request.headers.get(TOKEN_HEADER)
    if token is None:
        raise RefusedError(ErrorCode.INVALID_TOKEN, f"the header {TOKEN_HEADER} is missing")
    if not request.app[TOKENS].matches(token, domain.domain_id, domain.token_generation):
        raise RefusedError(ErrorCode.INVALID_TOKEN, f"the {TOKEN_HEADER} is not this domain's")


async def _read_body(request: web.Request, domain: DomainConfig) -> AcceptedRequest:
    if request.content_type != "application/json":
        raise RefusedError(
            ErrorCode.INVALID_PAYLOAD,
            f"Content-Type is {request.content_type[:100]!r}; send application/json",
            "Content-Type",
        )
    body = await request.read()
    try:
        return read_request(
            body,
            strict=domain.strict,
            ip_address=request.remote,
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
        raise _unavailable("the event could not be stored; send it again") from None
    metrics.PRODUCE_SECONDS.observe(app[CLOCK].monotonic() - started)


def _unavailable(message: str) -> RefusedError:
    return RefusedError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS)


async def get_health(_request: web.Request) -> web.Response:
    """``GET /health``: the process serves."""
    return web.json_response({"status": "ok"})


async def get_metrics(_request: web.Request) -> web.Response:
    """``GET /metrics`` in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run_gateway(settings: Settings, shutdown: Shutdown) -> None:
    """Serve until a shutdown is asked for, then answer what is under way and stop."""
    clock = SystemClock()
    address = settings.gateway.host, settings.gateway.port
    async with serving(create_app(settings, clock), *address, reuse_port=True):
        beat = asyncio.create_task(Heartbeat(settings.data_dir, "gateway").keep_beating(clock))
        await shutdown.wait()
        beat.cancel()
