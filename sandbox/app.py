"""The server: six platforms at their real paths, and the controls under ``/_sandbox``.

By agreement, tokens that start with ``expired`` have run out, those that start with ``forbidden``
have no permission for the account, and any other one is good. An event whose id contains
``refuse-at-<platform>`` is refused there, as a bad event is; SnackVideo's events have no id, and
its click id stands for it.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from sandbox import control, meta, pinterest, reddit, snackvideo, snapchat, tiktok
from sandbox.control import SANDBOX, Sandbox
from sandbox.exchange import Answer, Call, Platform
from sandbox.received import DEFAULT_KEPT_EVENTS, Received
from sandbox.script import Reset, Script, Slow, Truncated, play

PLATFORMS: Final[tuple[Platform, ...]] = (meta, tiktok, pinterest, snapchat, reddit, snackvideo)
MAX_BODY_BYTES = 32 * 1024 * 1024
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def create_app(
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
    *,
    kept_events: int = DEFAULT_KEPT_EVENTS,
) -> web.Application:
    """The sandbox as an application.

    ``now`` gives Unix time in seconds, by which the age of events is judged; ``sleep`` lets
    seconds pass, for the scripted slowness. Run it without an access log: Snapchat's token is
    part of its URLs.
    """
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[SANDBOX] = Sandbox(now, sleep, Script(), Received(kept_events), PLATFORMS)
    app.add_routes(control.routes)
    for platform in PLATFORMS:
        app.router.add_post(platform.PATH, _receiver(platform))
    return app


def _receiver(platform: Platform) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def receive(request: web.Request) -> web.StreamResponse:
        sandbox = request.app[SANDBOX]
        body = await request.read()
        account = request.match_info.get("account", "")
        call = Call(account, request.headers, request.query, body, sandbox.now(), request.path)
        batch = platform.read(call)
        step = sandbox.script.take(platform.SLUG, batch.account)
        if isinstance(step, Slow):
            await sandbox.sleep(step.seconds)
        answer = play(step, platform, call, batch)
        sandbox.received.add(platform, batch, answer, call.now)
        match step:
            case Reset():
                return _reset(request)
            case Truncated():
                return await _break_off(request, answer)
            case _:
                return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    return receive


def _reset(request: web.Request) -> web.Response:
    """Close with a TCP reset; the response that is returned finds nobody to go to."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


async def _break_off(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Promise the whole answer, send half of it and hang up."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    response.force_close()
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
