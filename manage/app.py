"""The management API as an aiohttp application: how a request is read, allowed and answered."""

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError
from yarl import URL

from manage import sessions, shops
from manage.documents import add_documents
from manage.errors import ErrorCode, RefusedError, as_refusal, from_validation, invalid, not_found
from manage.limits import too_many
from manage.routes import Access, Answer, Call, Route, Who
from manage.services import Services
from runtime import ids, metrics
from runtime.logs import get_logger

log = get_logger(__name__)

MAX_BODY_BYTES: Final = 256 * 1024
REQUEST_ID: Final = web.RequestKey("request_id", str)
_SERVICES: Final = web.AppKey("services", Services)
_HEADERS: Final = web.RequestKey("headers", dict[str, str])
"""Of the answer, whatever it turns out to be."""
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # A magic link is in the address.
    "Referrer-Policy": "no-referrer",
}

M = TypeVar("M", bound=BaseModel)


def create_app(services: Services, routes: Iterable[Route]) -> web.Application:
    """The API of these routes, and its documents."""
    routes = tuple(routes)
    app = web.Application(middlewares=[_answering], client_max_size=MAX_BODY_BYTES)
    app[_SERVICES] = services
    for route in routes:
        app.router.add_route(route.method, route.path, _handler(services, route))
    app.router.add_get("/health", get_health)
    add_documents(app, routes)
    app.on_response_prepare.append(_add_headers)
    # Streams that stay open would hold up the end.
    app.on_shutdown.append(lambda _app: services.live.close())
    return app


async def get_health(_request: web.Request) -> web.Response:
    """``GET /health``: the process serves."""
    return web.json_response({"status": "ok"})


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer carries a request id, and every failure is a JSON body with a code."""
    request[REQUEST_ID] = ids.request_id()
    request[_HEADERS] = {"X-Request-Id": request[REQUEST_ID], **_ALWAYS}
    code = "ok"
    try:
        response = await handler(request)
    except Exception as error:
        refusal = as_refusal(error)
        if refusal is None:
            log.exception("A request failed.", request_id=request[REQUEST_ID])
            refusal = RefusedError(ErrorCode.INTERNAL_ERROR, "the request failed on our side")
        elif refusal.status >= 500:
            kind = type(error).__name__
            log.warning(
                "A request could not be served.", request_id=request[REQUEST_ID], error=kind
            )
        response, code = refusal.response(request[REQUEST_ID]), str(refusal.code)
    resource = request.match_info.route.resource
    metrics.HTTP_REQUESTS.labels(resource.canonical if resource else "none", code).inc()
    return response


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer has; that of a stream too, which begins before its handler is done."""
    for name, value in request.get(_HEADERS, _ALWAYS).items():
        response.headers.setdefault(name, value)
    slid = request.get(sessions.SLID)
    if slid is not None:
        response.headers[hdrs.SET_COOKIE] = sessions.cookie(request.app[_SERVICES], slid)


def _handler(services: Services, route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        who, shop = None, None
        if route.bearer:
            shop = await shops.authenticate(services, request)
        else:
            who = await _allowed(services, route, request)
        # PostgreSQL keeps no text with it, so there is nothing of such a name.
        if any("\0" in part for part in request.match_info.values()):
            raise not_found("thing")
        call = Call(
            services=services,
            request=request,
            request_id=request[REQUEST_ID],
            body=await _read_body(request, route.body) if route.body else None,
            query=_read_query(request, route.query) if route.query else None,
            who=who,
            shop=shop,
        )
        answer = await route.handler(call)
        return _response(route, call, answer) if isinstance(answer, Answer) else answer

    return handle


async def _allowed(services: Services, route: Route, request: web.Request) -> Who | None:
    """Whoever is logged in, if the route is open to them.

    Raises ``RefusedError``.
    """
    if request.method not in _SAFE_METHODS:
        _check_origin(services, request)
    if route.access is Access.ANYBODY:
        return None
    who = await sessions.who(services, request)
    if who is None:
        raise RefusedError(ErrorCode.NOT_AUTHENTICATED, "log in with POST /v1/auth/login")
    await _count(services, request, who)
    who.check(route.access)
    return who


def _check_origin(services: Services, request: web.Request) -> None:
    """A page of somebody else's must not change anything with the cookie of whoever looks at it.

    Browsers name the origin of whatever changes something. Programs, which have no pages, name none.

    Raises ``RefusedError``.
    """
    origin = request.headers.get(hdrs.ORIGIN)
    is_ours = origin is None or origin == str(URL(services.public_url).origin())
    if not is_ours or request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise RefusedError(
            ErrorCode.ORIGIN_NOT_ALLOWED, f"changes are taken from {services.public_url} only"
        )


async def _count(services: Services, request: web.Request, who: Who) -> None:
    """Count the request towards what one session may ask in a minute.

    Raises ``RefusedError``.
    """
    most = services.settings.manage.requests_per_minute
    if not most:
        return
    allowance = await services.limits.take("session", who.session_sha256, most=most, seconds=60)
    request[_HEADERS].update(allowance.headers)
    if not allowance.allowed:
        raise too_many(allowance)


async def _read_body(request: web.Request, model: type[M]) -> M:
    if request.content_type != "application/json":
        raise invalid("the Content-Type must be application/json")
    raw = await request.read()
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise invalid("the body is not JSON") from None
    if not isinstance(found, dict):
        raise invalid("the body must be a JSON object")
    _refuse_null(found)
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as error:
        raise from_validation(error) from None


def _read_query(request: web.Request, model: type[M]) -> M:
    query = request.query
    for name in query:
        if len(query.getall(name)) > 1:
            raise invalid("this is given more than once", name)
    values = dict(query)
    _refuse_null(values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_validation(error) from None


def _refuse_null(values: dict[str, Any]) -> None:
    """PostgreSQL keeps no text with the character NUL."""
    if any("\0" in text for text in _texts(values)):
        raise invalid("a text holds the character U+0000")


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)
        case _:
            return


def _response(route: Route, call: Call[Any, Any], answer: Answer) -> web.Response:
    body = {"success": True, **answer.model_dump(mode="json"), "requestId": call.request_id}
    return web.Response(
        status=route.status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers=call.headers,
    )
