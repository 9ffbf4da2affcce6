"""What the gateway is measured against: an aiohttp handler that reads the body and answers.

With ``--validate`` it also validates the body, as the gateway does. ``python -m benchmarks.bare``.
"""

import argparse
from typing import Final

from aiohttp import web

from benchmarks.load import AGENT
from ingest.validate import AcceptedRequest, read_request
from runtime.http_server import serving
from runtime.lifecycle import Shutdown, run_until_shutdown

ANSWER: Final = (
    b'{"success":true,"requestId":"01JD0000000000000000000000",'
    b'"eventIds":["bench-1889f2d4a1b3c5e7-000000000000"]}'
)
"""As long as the gateway's own for one event."""


def validate(body: bytes) -> AcceptedRequest:
    """The gateway's whole validation of one body."""
    return read_request(body, strict=False, ip_address="127.0.0.1", user_agent=AGENT)


async def answer(request: web.Request) -> web.Response:
    """Read, and answer the same bytes every time."""
    await request.read()
    return web.Response(body=ANSWER, content_type="application/json")


async def validate_and_answer(request: web.Request) -> web.Response:
    """Read, validate, and answer the same bytes every time."""
    validate(await request.read())
    return web.Response(body=ANSWER, content_type="application/json")


def main() -> None:
    """Serve on a port until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--validate", action="store_true")
    options = parser.parse_args()
    application = web.Application()
    handler = validate_and_answer if options.validate else answer
    application.router.add_post("/v1/events", handler)

    async def serve(shutdown: Shutdown) -> None:
        async with serving(application, "127.0.0.1", options.port):
            await shutdown.wait()

    run_until_shutdown(serve)


if __name__ == "__main__":
    main()
