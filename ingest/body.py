"""The bytes of a request's body, unpacked, in time and within the limit."""

import asyncio
from typing import Final

from aiohttp import web

from ingest.context import SETTINGS
from ingest.errors import ErrorCode, RefusedError

CONTENT_TYPES: Final = ("application/json", "text/plain")
"""``navigator.sendBeacon`` sends text, which spares a page the preflight; it holds JSON all the
same."""


async def read_body(request: web.Request) -> bytes:
    """The body as it was before the client packed it.

    Raises ``RefusedError``, or aiohttp's own errors for a body that is too large or does not unpack.
    """
    if request.content_type not in CONTENT_TYPES:
        raise RefusedError(
            ErrorCode.INVALID_PAYLOAD,
            f"Content-Type is {request.content_type[:100]!r}; send application/json",
            "Content-Type",
        )
    if request.content.is_eof():
        return await request.read()  # it came with the head, as nearly every body does
    try:
        async with asyncio.timeout(request.app[SETTINGS].gateway.body_timeout_seconds):
            return await request.read()
    except TimeoutError:
        raise RefusedError(ErrorCode.INVALID_PAYLOAD, "the body did not come in time") from None
