"""Shops that post all the time, send again what is not taken, and note what they are owed."""

import asyncio
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from tests.chaos.oracle import DELIVERED, Obligation
from tests.integration.system import PLATFORMS, Shop, purchase

PER_SECOND: Final = 200
MAX_EVENTS: Final = 5
"""In one request."""
CONNECTIONS: Final = 32
POISONED: Final = 0.003
WITHOUT_CLICK: Final = 0.5
REPEATED: Final = 0.05

_PATIENCE_SECONDS: Final = 8.0
_AGAIN_SECONDS: Final = 0.5
_BEHIND_SECONDS: Final = 2.0
"""So much of what an outage held back is posted as fast as it goes; the rest was never written."""

_REMEMBERED: Final = 500


@dataclass(frozen=True, slots=True)
class Post:
    """One request, and what is owed for each event in it."""

    shop: Shop
    body: bytes
    owed: Sequence[Obligation]


@dataclass(slots=True)
class Storefront:
    """What one shop has sent lately, for some of it is sent again."""

    shop: Shop
    recent: deque[tuple[Obligation, dict[str, Any]]] = field(
        default_factory=lambda: deque(maxlen=_REMEMBERED)
    )

    @property
    def account(self) -> str:
        """What the platforms know it by."""
        return f"pixel{self.shop.host.partition('.')[0]}"


@dataclass(slots=True)
class Counts:
    """What the shops went through."""

    requests: int = 0
    """Those that were taken."""
    refused: int = 0
    """Answered 503."""
    unanswered: int = 0


class Load:
    """Requests at a steady pace until it is told to stop."""

    def __init__(self, shops: Sequence[Shop], dice: random.Random) -> None:
        self.obligations: list[Obligation] = []
        self.counts = Counts()
        self._storefronts = [Storefront(shop) for shop in shops]
        self._dice = dice
        self._posts: asyncio.Queue[Post | None] = asyncio.Queue(maxsize=CONNECTIONS)
        self._is_over = False

    async def run(self) -> None:
        """Post until ``stop``; returns when everything has been answered 2xx."""
        async with _session() as session, asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._send(session))
            group.create_task(self._write())

    def stop(self) -> None:
        """Write no more."""
        self._is_over = True

    async def post_fresh(self) -> list[Obligation]:
        """Send one event for each shop, without a flaw; answers what is owed for them."""
        fresh = [self._event(front, f"fresh-{front.account}") for front in self._storefronts]
        async with _session() as session:
            for front, event in zip(self._storefronts, fresh, strict=True):
                await self._until_taken(session, _post(front, [event]))
        return [obligation for obligation, _ in fresh]

    async def _write(self) -> None:
        now = asyncio.get_running_loop().time
        due_at = now()
        while not self._is_over:
            post = self._next()
            await self._posts.put(post)
            due_at = max(due_at + len(post.owed) / PER_SECOND, now() - _BEHIND_SECONDS)
            await asyncio.sleep(max(0.0, due_at - now()))
        for _ in range(CONNECTIONS):
            await self._posts.put(None)

    def _next(self) -> Post:
        dice, front = self._dice, self._dice.choice(self._storefronts)
        events = []
        for _ in range(dice.randint(1, MAX_EVENTS)):
            if front.recent and dice.random() < REPEATED:
                events.append(dice.choice(front.recent))
            else:
                events.append(self._new_event(front))
        front.recent.extend(events)
        return _post(front, events)

    def _new_event(self, front: Storefront) -> tuple[Obligation, dict[str, Any]]:
        event_id, dice = f"e-{len(self.obligations)}", self._dice
        poisoned = dice.choice(PLATFORMS) if dice.random() < POISONED else None
        if poisoned is not None:
            event_id += f"-refuse-at-{poisoned}"
        obligation, event = self._event(front, event_id)
        fates = dict(obligation.fates)
        if poisoned is not None:
            fates[poisoned] = "rejected"
        elif dice.random() < WITHOUT_CLICK:
            del event["userData"]["kwaiClickId"]
            fates["snackvideo"] = "skipped"
        obligation.fates = fates
        return obligation, event

    def _event(self, front: Storefront, event_id: str) -> tuple[Obligation, dict[str, Any]]:
        fates = dict.fromkeys(PLATFORMS, DELIVERED)
        obligation = Obligation(front.shop.domain_id, front.account, event_id, fates)
        self.obligations.append(obligation)
        return obligation, purchase(event_id)

    async def _send(self, session: aiohttp.ClientSession) -> None:
        while (post := await self._posts.get()) is not None:
            await self._until_taken(session, post)

    async def _until_taken(self, session: aiohttp.ClientSession, post: Post) -> None:
        """Send it, and again after a while when it was not taken, or nobody knows."""
        wait: float | None = 0.0
        while wait is not None:
            await asyncio.sleep(wait)
            for obligation in post.owed:
                obligation.tries += 1
            wait = await self._try(session, post)
        self.counts.requests += 1
        for obligation in post.owed:
            obligation.taken += 1

    async def _try(self, session: aiohttp.ClientSession, post: Post) -> float | None:
        """In how many seconds to try again; None when it was taken."""
        url = f"{post.shop.system.description['gateway']}/v1/events"
        try:
            async with session.post(url, data=post.body, headers=post.shop.headers()) as answer:
                said = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            self.counts.unanswered += 1
            return _AGAIN_SECONDS
        if answer.status == 200:
            return None
        assert answer.status == 503, f"{answer.status} for a good request: {said!r}"
        self.counts.refused += 1
        return float(answer.headers["Retry-After"])


def _post(front: Storefront, events: Sequence[tuple[Obligation, dict[str, Any]]]) -> Post:
    body = json.dumps({"events": [event for _, event in events]}).encode()
    return Post(front.shop, body, [obligation for obligation, _ in events])


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS))
