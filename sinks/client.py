"""The HTTP call, and nothing about what it means."""

from collections.abc import Mapping

from platforms.base import Platform, Request, Response
from runtime.http_client import MAX_ANSWER_BYTES, HttpClient, UnreachableError

__all__ = ["MAX_ANSWER_BYTES", "PlatformClient", "UnreachableError"]


class PlatformClient:
    """Posts requests to the platforms, each at its base URL."""

    def __init__(self, base_urls: Mapping[str, str], timeout_seconds: float) -> None:
        """``base_urls`` is by platform slug; a slug that is absent is reached at its own URL."""
        self._base_urls = base_urls
        self._client = HttpClient(timeout_seconds)

    async def send(self, platform: Platform, request: Request) -> Response:
        """Make one call; redirects are not followed, for they would carry the token elsewhere.

        Raises ``UnreachableError``.
        """
        try:
            base_url = self._base_urls.get(platform.SLUG, platform.BASE_URL)
            answer = await self._client.send(base_url, request)
        except UnreachableError as error:
            raise UnreachableError(f"{platform.NAME}: {error}") from None
        return Response(answer.status, answer.body, answer.headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
