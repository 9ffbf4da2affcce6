"""HTTP calls to the ad platforms: what both who deliver and who try credentials have of them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from yarl import URL

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""No platform's answer to a thousand events is near this; a broken proxy's may be without end."""


class UnreachableError(Exception):
    """No answer came: refused, reset, timed out. The message holds no URL, for it may hold a
    token."""


class HttpCall(Protocol):
    """One call, but for the base URL; ``platforms.base.Request`` is one."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back. ``headers`` has lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class HttpClient:
    """Calls that end in time, follow no redirect, keep no cookie, and read no more than is sane."""

    def __init__(self, timeout_seconds: float) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds / 2),
            connector=aiohttp.TCPConnector(limit=256, limit_per_host=64, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, base_url: str, call: HttpCall) -> HttpAnswer:
        """Make one call; redirects are not followed, for they would carry the token elsewhere.

        Raises ``UnreachableError``.
        """
        url = URL(base_url + call.path, encoded=True).with_query(dict(call.query) or None)
        try:
            async with self._session.request(
                call.method,
                url,
                # A stream, for aiohttp warns of large bodies that are handed over whole.
                data=io.BytesIO(call.body),
                headers=dict(call.headers),
                allow_redirects=False,
            ) as answer:
                whole = await read_up_to(answer, MAX_ANSWER_BYTES)
                told = {name.lower(): value for name, value in answer.headers.items()}
                return HttpAnswer(answer.status, whole, told)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(type(error).__name__) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


async def read_up_to(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The whole body, in as many parts as it comes in, cut where it is too long to be true."""
    body = bytearray()
    async for part in answer.content.iter_any():
        body += part
        if len(body) > most_bytes:
            break
    return bytes(body)
