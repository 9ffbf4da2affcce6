"""How often something may be asked for: moving windows, counted in Redis for all processes."""

import math
from typing import Any, Final, NamedTuple

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from manage.errors import ErrorCode, RefusedError
from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.redis import connect
from runtime.settings import Settings

log = get_logger(__name__)

_AWAY_SECONDS: Final = 5.0
"""For so long nobody waits for a Redis that has just failed."""


class Allowance(NamedTuple):
    """What a limit says of one request."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    """When one more may come than now."""

    @property
    def headers(self) -> dict[str, str]:
        """As the gateway tells it."""
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset_seconds),
        }


class Limits:
    """The limits of one process. While Redis is away it counts by itself: twice as many come
    through two processes then, which beats both nobody and everybody."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._clock = clock
        self._redis = connect(settings.redis)
        pool: Any = {"connection_pool": self._redis.connection_pool}
        self._shared = MovingWindowRateLimiter(
            RedisStorage(
                f"async+{settings.redis.url.get_secret_value()}",
                implementation="redispy",
                key_prefix=f"{settings.kafka.topic_prefix}limit",
                **pool,
            )
        )
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._away_until: float | None = None

    async def take(self, what: str, whose: str, *, most: int, seconds: int) -> Allowance:
        """Count one ``what`` of ``whose``, if there were fewer than ``most`` in the last seconds."""
        if self._away_until is None or self._clock.monotonic() >= self._away_until:
            try:
                allowance = await self._take(self._shared, what, whose, most, seconds)
            except RedisError as error:
                self._is_away(str(error))
            else:
                self._is_back()
                return allowance
        return await self._take(self._own, what, whose, most, seconds)

    async def check(self, what: str, whose: str, *, most: int, seconds: int) -> None:
        """Count one, or refuse it.

        Raises ``RefusedError``.
        """
        allowance = await self.take(what, whose, most=most, seconds=seconds)
        if not allowance.allowed:
            raise too_many(allowance)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _take(
        self, limiter: MovingWindowRateLimiter, what: str, whose: str, most: int, seconds: int
    ) -> Allowance:
        item = RateLimitItemPerSecond(most, seconds, namespace=what)
        allowed = await limiter.hit(item, whose)
        window = await limiter.get_window_stats(item, whose)
        wait = window.reset_time - self._clock.now_ms() / 1000
        return Allowance(allowed, most, window.remaining, min(max(math.ceil(wait), 1), seconds))

    def _is_away(self, error: str) -> None:
        if self._away_until is None:
            log.error("Redis does not answer; this process counts requests alone.", error=error)
        self._away_until = self._clock.monotonic() + _AWAY_SECONDS

    def _is_back(self) -> None:
        if self._away_until is not None:
            log.info("Redis answers again.")
        self._away_until = None


def too_many(allowance: Allowance) -> RefusedError:
    """The refusal of one more."""
    return RefusedError(
        ErrorCode.RATE_LIMITED,
        f"only {allowance.limit} are taken in that time; try again in {allowance.reset_seconds} s",
        retry_after_seconds=allowance.reset_seconds,
        headers=allowance.headers,
    )
