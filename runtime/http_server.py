"""Serving an aiohttp application until a shutdown is asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from runtime.errors import UnavailableError
from runtime.logs import get_logger

log = get_logger(__name__)

DRAIN_SECONDS: Final = 10.0


@asynccontextmanager
async def serving(
    application: web.Application,
    host: str,
    port: int,
    *,
    reuse_port: bool = False,
    idle_timeout_seconds: float = 75.0,
) -> AsyncIterator[None]:
    """Serve while the body runs; on the way out, answer what is under way.

    A connection is closed when it brings no whole head of a request for ``idle_timeout_seconds``,
    whether it is silent or slow.

    Raises ``UnavailableError`` when the address cannot be had.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=DRAIN_SECONDS,
        keepalive_timeout=idle_timeout_seconds,
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port"
            ) from None
        log.info("Serving.", host=host, port=port)
        yield
    finally:
        await runner.cleanup()
