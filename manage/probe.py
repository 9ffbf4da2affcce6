"""Whether credentials work: asked of the platform itself, with a call that counts as nothing."""

from dataclasses import dataclass
from typing import Final

from platforms.answers import without_secrets
from platforms.base import AccountCredentials, Fate, Response, Verdict
from platforms.registry import PLATFORMS
from runtime.clock import Clock
from runtime.http_client import HttpClient, UnreachableError
from runtime.settings import Settings

TIMEOUT_SECONDS: Final = 5.0
"""A shop's server waits for the answer."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a platform said of credentials."""

    ok: bool
    status: int | None
    """Of its HTTP answer; None when none came."""
    error: str | None
    """One safe sentence; None when they work."""


class Prober:
    """Tries credentials at the platforms, each at its base URL."""

    def __init__(
        self, settings: Settings, clock: Clock, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self._urls = settings.platform_urls
        self._clock = clock
        self._client = HttpClient(timeout_seconds)

    async def check(self, platform: str, credentials: AccountCredentials) -> Check:
        """Ask a platform of the registry; never raises for what it, or the way to it, does."""
        known = PLATFORMS[platform]
        probe = known.probe(credentials, self._clock.now_ms() // 1000)
        base_url = self._urls.get(platform, known.BASE_URL)
        try:
            answer = await self._client.send(base_url, probe.request)
        except UnreachableError as error:
            return Check(ok=False, status=None, error=f"{known.NAME} did not answer ({error})")
        response = without_secrets(
            Response(answer.status, answer.body, answer.headers), credentials
        )
        (verdict,) = known.read(response, 1)
        if probe.accepts(verdict):
            return Check(ok=True, status=answer.status, error=None)
        return Check(ok=False, status=answer.status, error=_sentence(known.NAME, verdict))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _sentence(name: str, verdict: Verdict) -> str:
    said = ": ".join(filter(None, (verdict.code, verdict.detail))) or "no reason given"
    match verdict.fate:
        case Fate.MISCONFIGURED:
            return f"{name} refuses these credentials: {said}"
        case Fate.THROTTLED | Fate.RETRYABLE:
            return f"{name} could not say whether they work: {said}"
        case _:
            return f"{name} refused the trial event: {said}"
