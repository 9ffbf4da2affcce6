"""What the sandbox shows and is told: everything under ``/_sandbox``, and a page for people."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from sandbox.exchange import Platform
from sandbox.received import Received
from sandbox.script import Order, Script


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The state of one running sandbox."""

    now: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    script: Script
    received: Received
    platforms: Sequence[Platform]


SANDBOX = web.AppKey("sandbox", Sandbox)
routes = web.RouteTableDef()


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


def _refusal(field: str, message: str) -> web.Response:
    return _json({"errors": [{"field": field, "message": message}]}, status=400)


@routes.get("/_sandbox/health")
async def health(_request: web.Request) -> web.Response:
    """Say that the server answers."""
    return _json({"status": "ok"})


@routes.get("/_sandbox/received")
async def show_received(request: web.Request) -> web.Response:
    """The events that came in; ``?platform=``, ``?event_id=`` and ``?limit=`` narrow them."""
    query = request.query
    limit = query.get("limit")
    if limit is not None and not limit.isdecimal():
        return _refusal("limit", "must be a whole number")
    sandbox = request.app[SANDBOX]
    platform = query.get("platform")
    if platform is not None and platform not in {known.SLUG for known in sandbox.platforms}:
        return _refusal("platform", f"there is no platform {platform!r}")
    count = None if limit is None else int(limit)
    return _json(sandbox.received.shown(platform, query.get("event_id"), count))


@routes.delete("/_sandbox/received")
async def clear_received(request: web.Request) -> web.Response:
    """Forget the events and their counts."""
    request.app[SANDBOX].received.clear()
    return web.Response(status=204)


@routes.get("/_sandbox/stats")
async def show_stats(request: web.Request) -> web.Response:
    """How much was accepted, refused and repeated, by platform."""
    return _json(request.app[SANDBOX].received.stats())


@routes.post("/_sandbox/script")
async def add_to_script(request: web.Request) -> web.Response:
    """Queue steps of misbehaviour for a platform."""
    try:
        order = Order.model_validate_json(await request.read())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        errors = [{"field": _dotted(each["loc"]), "message": each["msg"]} for each in found]
        return _json({"errors": errors}, status=400)
    request.app[SANDBOX].script.add(order)
    return _json({"queued": len(order.steps)})


def _dotted(path: tuple[str | int, ...]) -> str:
    """``steps[0].slow.seconds``; ``body`` for the body as a whole."""
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).lstrip(".") or "body"


@routes.delete("/_sandbox/script")
async def clear_script(request: web.Request) -> web.Response:
    """Drop the steps that were not played."""
    request.app[SANDBOX].script.clear()
    return web.Response(status=204)


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    """What can be called here, made from the routes themselves."""
    rows = [("POST", known.PATH, known.NAME) for known in request.app[SANDBOX].platforms]
    for route in routes:
        if isinstance(route, web.RouteDef) and route.path != "/":
            first_line = (route.handler.__doc__ or "").partition("\n")[0]
            rows.append((route.method, route.path, first_line))
    return web.Response(text=PAGE.format(rows=_table(rows)), content_type="text/html")


def _table(rows: list[tuple[str, str, str]]) -> str:
    return "\n".join(
        f"<tr><td>{method}<td><code>{escape(path)}</code><td>{escape(note)}"
        for method, path, note in rows
    )


PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>capistream sandbox</title>
<style>body{{font-family:sans-serif;margin:2rem}}td{{padding:.2rem 1rem .2rem 0}}</style>
<h1>capistream sandbox</h1>
<p>Stand-ins for the ad platforms' Conversions APIs. Any token is good, unless it starts with
<code>expired</code> or <code>forbidden</code>. An event whose id contains
<code>refuse-at-&lt;platform&gt;</code> is refused there; for SnackVideo, which has no event ids, the
click id counts.</p>
<table>
{rows}
</table>
</html>
"""
