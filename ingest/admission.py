"""How many requests a client, and how many events an organisation, may send: counted in Redis.

One script call checks and counts for all requests that are waiting at that moment, so a request
has one round trip at most, and every gateway process sees the same counts.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

import redis.asyncio

from runtime import metrics
from runtime.client_address import client_of
from runtime.clock import Clock
from runtime.logs import get_logger
from runtime.quota import QUOTA_KEPT_SECONDS, quota_key
from schemas.config import DomainConfig

log = get_logger(__name__)

WINDOW_SECONDS: Final = 60
_AWAY_SECONDS: Final = 1.0
"""For so long nobody waits for a Redis that has just failed."""

_MAX_BATCH: Final = 256
_MAX_FLOODS: Final = 10_000

# Requests are kept as a list of their moments, the newest first, cut to the window: exact in any
# 60 seconds, where a counter per minute would let twice as many through around its turn. What all
# entries share is read and written once.
_SCRIPT: Final = """
local window, most, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local used, added, answers = {}, {}, {}

-- How many more may come, or -1, and in how many milliseconds one more than that.
local function admit(requests)
  local oldest = redis.call('LRANGE', requests, -16, -1)
  local gone = #oldest
  while gone > 0 and tonumber(oldest[#oldest - gone + 1]) > now - window do
    gone = gone - 1
  end
  if gone > 0 then
    redis.call('LTRIM', requests, 0, -gone - 1)
    if gone == 16 then
      return admit(requests)
    end
  end
  local wait = (tonumber(oldest[#oldest - gone]) or now) + window - now
  local length = redis.call('LPUSH', requests, now)
  if length > most then
    redis.call('LPOP', requests)
    return -1, wait
  end
  redis.call('PEXPIRE', requests, window)
  return most - length, wait
end

for i = 1, #KEYS / 2 do
  local requests, quota = KEYS[2 * i - 1], KEYS[2 * i]
  local events, monthly = tonumber(ARGV[2 * i + 2]), tonumber(ARGV[2 * i + 3])
  local refused, left, wait = 0, 0, 0
  if most > 0 and requests ~= '' then
    left, wait = admit(requests)
  end
  if left < 0 then
    refused, left = 1, 0
  else
    if not used[quota] then
      used[quota] = tonumber(redis.call('GET', quota) or 0)
    end
    if monthly >= 0 and events >= 0 and used[quota] + math.max(events, 1) > monthly then
      refused = 2
    elseif events ~= 0 then
      used[quota] = used[quota] + events
      added[quota] = (added[quota] or 0) + events
    end
  end
  answers[i] = {refused, left, wait}
end
for quota, events in pairs(added) do
  redis.call('INCRBY', quota, events)
  redis.call('EXPIRE', quota, kept)
end
return answers
"""


class Refusal(Enum):
    """Which limit is reached."""

    RATE = 1
    QUOTA = 2


class Admission(NamedTuple):
    """What the limits say of one request."""

    refusal: Refusal | None = None
    counted: bool = False
    """Whether the request's events are counted towards the quota."""
    limit: int = 0
    """Requests that one client may send in a minute; 0: any number, or nobody knows."""
    remaining: int = 0
    reset_seconds: int = 0
    """When one more may come than now."""


UNCHECKED: Final = Admission()


class _Asked(NamedTuple):
    requests_key: str
    """Empty: no limit of requests applies."""
    quota_key: str
    events: int
    monthly: int
    answer: asyncio.Future[Admission]


class Admissions:
    """The limits of one gateway process.

    When Redis does not answer, everything is let in: an event that was refused for our own
    failure is lost, one too many is not. The streams count it later.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        clock: Clock,
        *,
        requests_per_minute: int,
        prefix: str = "",
    ) -> None:
        self._script = client.register_script(_SCRIPT)
        self._clock = clock
        self._most = requests_per_minute
        self._prefix = prefix
        self._waiting: list[_Asked] = []
        self._asking: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._floods: dict[str, float] = {}
        """Clients that reached the limit, and until when nothing of theirs need be read."""

    def flood(self, domain: DomainConfig, address: str | None) -> Admission | None:
        """The refusal of a client that is known to be over its limit, without asking anybody."""
        until = self._floods.get(self._requests_key(domain, address))
        wait = 0.0 if until is None else until - self._clock.monotonic()
        return self._over(wait) if wait > 0 else None

    async def admit(
        self, domain: DomainConfig, address: str | None, *, events: int, is_limited: bool = True
    ) -> Admission:
        """Count one request, and its ``events`` if it is let in.

        ``is_limited`` is off for requests that no limit of requests applies to.
        """
        if self._clock.monotonic() < self._away_until:
            metrics.UNCHECKED_REQUESTS.inc()
            return UNCHECKED
        key = self._requests_key(domain, address) if is_limited else ""
        admission = await self._ask(domain, key, events)
        if admission.refusal is Refusal.RATE:
            self._remember_flood(key, admission.reset_seconds)
        return admission

    async def give_back(self, domain: DomainConfig, events: int) -> None:
        """Uncount events that were let in and then not stored."""
        if events and self._clock.monotonic() >= self._away_until:
            await self._ask(domain, "", -events)

    def _ask(self, domain: DomainConfig, key: str, events: int) -> asyncio.Future[Admission]:
        monthly = -1 if domain.monthly_events is None else domain.monthly_events
        quota = self._prefix + quota_key(domain.org_id, self._clock.now_ms())
        answer: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(key, quota, events, monthly, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return answer

    async def _ask_all(self) -> None:
        """One call after the other; what comes while one is under way shares the next."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                admissions = await self._call(batch)
            except Exception as error:  # noqa: BLE001 - whatever fails here, events must come in
                self._is_away(str(error))
                metrics.UNCHECKED_REQUESTS.inc(len(batch))
                admissions = [UNCHECKED] * len(batch)
            else:
                self._is_back()
            for asked, admission in zip(batch, admissions, strict=True):
                if not asked.answer.done():
                    asked.answer.set_result(admission)

    def _is_away(self, error: str) -> None:
        if not self._away_until:
            log.error("Redis does not answer; requests are let in unchecked.", error=error)
        self._away_until = self._clock.monotonic() + _AWAY_SECONDS

    def _is_back(self) -> None:
        if self._away_until:
            log.info("Redis answers again.")
        self._away_until = 0.0

    async def _call(self, batch: Sequence[_Asked]) -> list[Admission]:
        keys = [key for asked in batch for key in (asked.requests_key, asked.quota_key)]
        arguments: list[int] = [WINDOW_SECONDS * 1000, self._most, QUOTA_KEPT_SECONDS]
        for asked in batch:
            arguments += (asked.events, asked.monthly)
        answers = await self._script(keys=keys, args=arguments)
        return [
            Admission(
                Refusal(refused) if refused else None,
                not refused and asked.events > 0,
                self._most if asked.requests_key else 0,
                left,
                -(-wait // 1000),
            )
            for asked, (refused, left, wait) in zip(batch, answers, strict=True)
        ]

    def _over(self, wait_seconds: float) -> Admission:
        return Admission(Refusal.RATE, limit=self._most, reset_seconds=int(wait_seconds) + 1)

    def _remember_flood(self, key: str, wait_seconds: float) -> None:
        now = self._clock.monotonic()
        if len(self._floods) >= _MAX_FLOODS:
            self._floods = {k: until for k, until in self._floods.items() if until > now}
        if len(self._floods) < _MAX_FLOODS:
            # A second less than told, which was rounded up: nobody is refused for too long.
            self._floods[key] = now + wait_seconds - 1

    def _requests_key(self, domain: DomainConfig, address: str | None) -> str:
        return f"{self._prefix}rate:{domain.domain_id}:{client_of(address)}"
