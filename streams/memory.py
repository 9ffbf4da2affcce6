"""The memory of the enrich step, in Redis: what earlier events say about this one.

One script call per batch, in the round trip in which the batch's claims are made. Everything is
kept by whoever comes first in the log, and finds its own again when it is worked again.
"""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final

import redis.asyncio

from runtime.clock import Clock
from schemas.topics import DAY_SECONDS
from streams.claims import Claims, Wanted, until_redis_answers
from streams.remember import Answer, Question, contact_keys
from streams.touches import REMEMBERED_MS, Touch, read_touch

MAX_TOUCHES: Final = 20
"""Of one contact: the first one and the latest."""

_ORDER_MS: Final = 400 * DAY_SECONDS * 1000
"""Longer than a year, so that the renewal of a yearly order still finds its consent."""

_SCRIPT: Final = files("streams").joinpath("memory.lua").read_text()
_LIMITS: Final = (_ORDER_MS, REMEMBERED_MS, MAX_TOUCHES)


class Memory:
    """What is kept of contacts, clicks and orders, for all domains."""

    def __init__(self, client: redis.asyncio.Redis, clock: Clock, prefix: str = "") -> None:
        """``client`` is one whose answers are text (``runtime.redis``)."""
        self._client = client
        self._clock = clock
        self._prefix = prefix

    async def recall(
        self, claims: Claims, wanted: Sequence[Wanted], questions: Sequence[Question]
    ) -> tuple[list[str | None], dict[str, Answer]]:
        """Make the claims of a batch and answer its questions, in one round trip.

        Answers the claims' holders, as ``Claims.take`` does, and by source what is remembered; a
        record whose event was claimed by another is not in there. Waits for Redis as long as it
        takes.
        """
        if not questions:
            return await claims.take(wanted), {}
        keys, arguments = self._script_input(questions)

        async def both() -> Any:
            # The texts go along each time, so that a Redis that was restarted needs no second trip.
            async with self._client.pipeline(transaction=False) as pipe:
                claims.add_to(pipe, wanted)
                pipe.eval(_SCRIPT, len(keys), *keys, *arguments)
                return await pipe.execute()

        holders, answers = await until_redis_answers(self._clock, both)
        return [holder or None for holder in holders], {
            question.token: Answer(question, consent, int(click_seen_at), touches)
            for question, (consent, click_seen_at, touches) in zip(questions, answers, strict=True)
            if consent
        }

    async def touches(self, domain_id: str, contacts: Iterable[str]) -> dict[str, list[Touch]]:
        """What is kept of a contact, by each of its names (``remember.contacts_of``).

        Follows the touches from one name to the others, for whoever asks may know one of them.
        Raises ``redis.exceptions.RedisError``.
        """
        found: dict[str, list[Touch]] = {}
        due = list(contacts)
        while due:
            contact = due.pop()
            if contact not in found:
                values = await self._client.hvals(self._contact(domain_id, contact))
                found[contact] = [read_touch(str(value)) for value in values]
                due += [name for touch in found[contact] for name in touch.contacts]
        return {contact: touches for contact, touches in found.items() if touches}

    async def forget(self, domain_id: str, contacts: Iterable[str]) -> int:
        """Delete what ``touches`` finds; answers how many touches that were.

        Raises ``redis.exceptions.RedisError``.
        """
        found = await self.touches(domain_id, contacts)
        if found:
            await self._client.delete(*(self._contact(domain_id, contact) for contact in found))
        return len({touch.source for touches in found.values() for touch in touches})

    def _contact(self, domain_id: str, contact: str) -> str:
        (key,) = contact_keys(domain_id, [contact])
        return self._prefix + key

    def _script_input(self, questions: Sequence[Question]) -> tuple[list[str], list[str | int]]:
        """Few and short texts: writing them to Redis is most of what a question costs."""
        keys: list[str] = []
        arguments: list[str | int] = [*_LIMITS]
        for asked in questions:
            own = (asked.claim, asked.order, asked.click)
            keys += [self._prefix + key for key in (*own, *asked.contacts) if key]
            shape = "".join("1" if key else "0" for key in own) + str(len(asked.contacts))
            told = " ".join(asked.touch or ("-", ""))
            arguments.append(
                f"{asked.token} {asked.consent} {asked.event_time} {asked.received_at} "
                f"{shape}{asked.recalls:d} {told}"
            )
        return keys, arguments
