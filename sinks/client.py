"""The HTTP call, and nothing about what it means."""

import io
from collections.abc import Mapping
from typing import Final

import aiohttp
from yarl import URL

from platforms.base import Platform, Request, Response

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""No platform's answer to a thousand events is near this; a broken proxy's may be without end."""


class UnreachableError(Exception):
    """No answer came: refused, reset, timed out. The message holds no URL, for it may hold a
    token."""


class PlatformClient:
    """Posts requests to the platforms, each at its base URL."""

    def __init__(self, base_urls: Mapping[str, str], timeout_seconds: float) -> None:
        """``base_urls`` is by platform slug; a slug that is absent is reached at its own URL."""
        self._base_urls = base_urls
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds / 2),
            connector=aiohttp.TCPConnector(limit=256, limit_per_host=64, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, platform: Platform, request: Request) -> Response:
        """Make one call; redirects are not followed, for they would carry the token elsewhere.

        Raises ``UnreachableError``.
        """
        base_url = self._base_urls.get(platform.SLUG, platform.BASE_URL)
        url = URL(base_url + request.path, encoded=True).with_query(dict(request.query) or None)
        try:
            async with self._session.request(
                request.method,
                url,
                # A stream, for aiohttp warns of large bodies that are handed over whole.
                data=io.BytesIO(request.body),
                headers=dict(request.headers),
                allow_redirects=False,
            ) as answer:
                body = await _read_body(answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, body, headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{platform.NAME}: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def _read_body(answer: aiohttp.ClientResponse) -> bytes:
    """The whole body, in as many parts as it comes in, cut where it is too long to be true."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body)
