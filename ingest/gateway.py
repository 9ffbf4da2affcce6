"""The gateway's process: what it holds, which routes it has, how it answers."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from redis.exceptions import RedisError

from ingest import cors
from ingest.admission import Admissions
from ingest.context import (
    ADMIN,
    ADMISSION,
    ADMISSIONS,
    CLOCK,
    DISPATCHES,
    FEED,
    PRODUCER,
    REDIS,
    REQUEST_ID,
    SETTINGS,
    TOKENS,
)
from ingest.documents import add_documents
from ingest.errors import ErrorCode, RefusedError, as_refusal, unavailable
from ingest.events import post_events, post_pmw_events
from ingest.guards import find_domain, host_of
from ingest.sync import post_dispatch_status, post_purchase_events
from runtime import ids, metrics
from runtime.clock import Clock, SystemClock
from runtime.config_feed import ConfigFeed
from runtime.dispatches import Dispatches
from runtime.errors import UnavailableError
from runtime.http_server import serving
from runtime.kafka import TopicAdmin
from runtime.lifecycle import Heartbeat, Shutdown, settle_memory
from runtime.logs import get_logger
from runtime.producer import RecordProducer
from runtime.redis import connect
from runtime.settings import Settings
from runtime.vault import DomainTokens
from schemas.limits import MAX_BODY_BYTES

log = get_logger(__name__)

READY_SECONDS: Final = 2.0
REDIS_SECONDS: Final = 0.5
LINGER_SECONDS: Final = 0.001
"""Somebody waits for each record. Under load, batches grow while others are under way."""


def create_app(settings: Settings, clock: Clock) -> web.Application:
    """The gateway as an aiohttp application.

    Raises ``ConfigError`` when the token secret is missing.
    """
    app = web.Application(
        middlewares=[_answering(settings.gateway.max_requests_in_flight)],
        # One byte above the limit is let in, so that the refusal can be ours and say what to do.
        client_max_size=MAX_BODY_BYTES + 1,
    )
    app[SETTINGS] = settings
    app[CLOCK] = clock
    app[TOKENS] = DomainTokens(settings.tokens)
    app[ADMIN] = TopicAdmin(settings.kafka)
    app.cleanup_ctx.append(_kafka)
    app.cleanup_ctx.append(_redis)
    for path, handler in (("/v1/events", post_events), ("/v1/pmw-events", post_pmw_events)):
        app.router.add_post(path, handler)
        app.router.add_options(path, preflight)
    app.router.add_post("/v1/sync/purchase-events", post_purchase_events)
    app.router.add_post("/v1/sync/dispatch-status", post_dispatch_status)
    app.router.add_get("/health", get_health)
    app.router.add_get("/ready", get_ready)
    app.router.add_get("/metrics", get_metrics)
    add_documents(app)
    return app


async def _kafka(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    app[FEED] = ConfigFeed(settings)
    app[FEED].start()
    app[PRODUCER] = RecordProducer(
        settings.kafka,
        delivery_timeout_seconds=settings.gateway.delivery_timeout_seconds,
        linger_seconds=LINGER_SECONDS,
    )
    yield
    await app[FEED].stop()
    left = await app[PRODUCER].close(settings.gateway.delivery_timeout_seconds)
    if left:
        log.warning("Stopped with records unacknowledged; their senders got no 2xx.", records=left)


async def _redis(app: web.Application) -> AsyncIterator[None]:
    settings = app[SETTINGS]
    # Nobody's answer waits long for what can be done without.
    timeout = min(REDIS_SECONDS, settings.redis.timeout_seconds)
    app[REDIS] = connect(settings.redis.model_copy(update={"timeout_seconds": timeout}))
    app[ADMISSIONS] = Admissions(
        app[REDIS],
        app[CLOCK],
        requests_per_minute=settings.gateway.requests_per_minute,
        prefix=settings.kafka.topic_prefix,
    )
    app[DISPATCHES] = Dispatches(app[REDIS], settings.kafka.topic_prefix)
    yield
    await app[REDIS].aclose()


def _answering(most: int) -> Middleware:
    """Every answer carries a request id, every failure is a JSON body with a code, and the pages
    of the storefront may read both.

    At most ``most`` requests are under way at once: memory is not what a storm of clients is held
    in.
    """
    under_way = 0

    @web.middleware
    async def answering(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal under_way
        request[REQUEST_ID] = ids.request_id()
        code = "ok"
        under_way += 1
        try:
            response = await (handler if under_way <= most else _no_room)(request)
        except Exception as error:
            refusal = as_refusal(error)
            if refusal is None:
                log.exception("A request failed.", request_id=request[REQUEST_ID])
                refusal = RefusedError(ErrorCode.INTERNAL_ERROR, "the request failed on our side")
            # A refusal that remembers where it came from holds the body until the collector comes.
            refusal.__traceback__ = None
            code, response = refusal.code, refusal.response(request[REQUEST_ID])
        finally:
            under_way -= 1
        response.headers.update(_headers(request))
        _count(request, code)
        return response

    return answering


async def _no_room(_request: web.Request) -> web.StreamResponse:
    raise unavailable("too many requests are under way; send it again")


def _headers(request: web.Request) -> dict[str, str]:
    """What every answer tells beside its body."""
    headers = {"X-Request-Id": request[REQUEST_ID]}
    if (admission := request.get(ADMISSION)) is not None and admission.limit:
        headers["X-RateLimit-Limit"] = str(admission.limit)
        headers["X-RateLimit-Remaining"] = str(admission.remaining)
        headers["X-RateLimit-Reset"] = str(admission.reset_seconds)
    if (origin := request.headers.get(hdrs.ORIGIN)) is not None:
        domain = request.app[FEED].by_host(host_of(request.host))
        if domain is not None and cors.is_allowed(origin, domain):
            headers |= cors.answer_headers(origin)
    return headers


def _count(request: web.Request, code: str) -> None:
    resource = request.match_info.route.resource
    _requests(resource.canonical if resource else "none", code).inc()


@cache
def _requests(route: str, code: str) -> Counter:
    """The counter of a route and a code; to look it up by its labels takes longer than to count."""
    return metrics.HTTP_REQUESTS.labels(route, code)


async def preflight(request: web.Request) -> web.Response:
    """``OPTIONS``: whether a page may send here at all."""
    domain = find_domain(request)
    origin = request.headers.get(hdrs.ORIGIN, "")
    headers = cors.preflight_headers(origin) if cors.is_allowed(origin, domain) else {}
    return web.Response(status=204, headers=headers)


async def get_health(_request: web.Request) -> web.Response:
    """``GET /health``: the process serves."""
    return web.json_response({"status": "ok"})


async def get_ready(request: web.Request) -> web.Response:
    """``GET /ready``: whether events can be taken, and what each part that it needs says.

    Without Redis they can: what it counts is counted later.
    """
    app = request.app
    kafka, redis = await asyncio.gather(_kafka_state(app), _redis_state(app))
    feed = "ok" if app[FEED].is_caught_up else "reading"
    ready = kafka == feed == "ok"
    body = {
        "status": "ready" if ready else "not_ready",
        "parts": {"kafka": kafka, "redis": redis, "configFeed": feed},
    }
    return web.json_response(body, status=200 if ready else 503)


async def _kafka_state(app: web.Application) -> str:
    try:
        await asyncio.to_thread(app[ADMIN].reach, READY_SECONDS)
    except UnavailableError:
        return "unreachable"
    return "ok"


async def _redis_state(app: web.Application) -> str:
    try:
        await app[REDIS].ping()
    except (RedisError, OSError):
        return "unreachable"
    return "ok"


async def get_metrics(_request: web.Request) -> web.Response:
    """``GET /metrics`` in Prometheus' text format."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def run_gateway(settings: Settings, shutdown: Shutdown) -> None:
    """Serve until a shutdown is asked for, then answer what is under way and stop."""
    clock = SystemClock()
    address = settings.gateway.host, settings.gateway.port
    application = create_app(settings, clock)
    idle_seconds = settings.gateway.idle_timeout_seconds
    async with serving(application, *address, reuse_port=True, idle_timeout_seconds=idle_seconds):
        settle_memory()
        beat = asyncio.create_task(Heartbeat(settings.data_dir, "gateway").keep_beating(clock))
        await shutdown.wait()
        beat.cancel()
