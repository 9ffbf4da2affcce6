"""What a shop's server asks for by a key of its own: was it accepted, and what became of it.

The gateway marks what it accepted, the audit process notes the outcomes, the gateway answers from
both. They meet in Redis, one hash per domain and key; this module alone knows its fields:

- ``accepted`` and ``events``: when, in Unix milliseconds, and which event ids, as a JSON list;
- ``<destination id>:<event id>``: a digit, the weight of the outcome, and the outcome as JSON.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import redis.asyncio
from pydantic import TypeAdapter

from schemas.outcome import Outcome, OutcomeKind, Reason
from schemas.topics import DAY_SECONDS

KEPT_SECONDS: Final = 7 * DAY_SECONDS
"""After the last write: as long as ``raw-events`` is kept (``schemas/topics.py``), and with it the
possibility that what was accepted is worked again."""

_ACCEPTED: Final = "accepted"
_EVENTS: Final = "events"

_DUPLICATE: Final = "0"
_PASSING: Final = "1"
_FINAL: Final = "2"

_NOTE_SCRIPT: Final = """
for i, key in ipairs(KEYS) do
  local field, told = ARGV[2 * i], ARGV[2 * i + 1]
  local weight = string.sub(told, 1, 1)
  local known = redis.call('HGET', key, field)
  if not known or (weight ~= '0' and weight >= string.sub(known, 1, 1)) then
    redis.call('HSET', key, field, told)
    redis.call('EXPIRE', key, ARGV[1])
  end
end
"""


@dataclass(frozen=True, slots=True)
class DispatchOutcome:
    """What became of one event at one destination, as far as is known."""

    event_id: str
    destination_id: str | None
    """None: of the event as a whole, which went to no destination."""
    platform: str | None
    outcome: OutcomeKind
    reason: Reason | None
    code: str | None
    at: int
    """Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """All that is known of a dispatch key."""

    accepted_at: int | None
    """Unix milliseconds. None: the gateway ended between Kafka's acknowledgement and its mark;
    that there are outcomes says that it was accepted all the same."""
    event_ids: tuple[str, ...]
    """As they were accepted; without the gateway's mark, those that have an outcome."""
    outcomes: tuple[DispatchOutcome, ...]
    """In the order of event ids and destinations."""


_OUTCOMES: Final = TypeAdapter(DispatchOutcome)


class Dispatches:
    """The dispatch keys of every domain. Each method is one round trip, and raises
    ``redis.exceptions.RedisError`` when Redis does not do it."""

    def __init__(self, client: redis.asyncio.Redis, prefix: str = "") -> None:
        """``client`` is one whose answers are text (``runtime.redis``)."""
        self._client = client
        self._prefix = prefix
        self._note = client.register_script(_NOTE_SCRIPT)

    async def accept(
        self, domain_id: str, dispatch_key: str, received_at: int, event_ids: Sequence[str]
    ) -> None:
        """Mark a key as accepted at ``received_at`` (Unix milliseconds); the first mark stays."""
        key = self._key(domain_id, dispatch_key)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, _ACCEPTED, str(received_at))
            pipe.hsetnx(key, _EVENTS, orjson.dumps(list(event_ids)).decode())
            pipe.expire(key, KEPT_SECONDS)
            await pipe.execute()

    async def note(self, outcomes: Sequence[Outcome]) -> None:
        """Keep what became of deliveries; outcomes without a dispatch key are passed over.

        For each event and destination the last outcome stays, but a passing one never replaces a
        final one (the audit topic may be read again), and a duplicate, which tells of another
        copy, replaces nothing and is replaced by anything.
        """
        keys: list[str] = []
        arguments: list[str | int] = [KEPT_SECONDS]
        for outcome in outcomes:
            if outcome.dispatch_key is not None:
                keys.append(self._key(outcome.domain_id, outcome.dispatch_key))
                arguments += (_field(outcome), _weight(outcome.outcome) + _told(outcome))
        if keys:
            await self._note(keys=keys, args=arguments)

    async def status(self, domain_id: str, dispatch_key: str) -> Dispatch | None:
        """What is known of a key, or None when nothing is."""
        found = await self._client.hgetall(self._key(domain_id, dispatch_key))
        if not found:
            return None
        accepted_at, events = found.pop(_ACCEPTED, None), found.pop(_EVENTS, None)
        outcomes = [_OUTCOMES.validate_json(told[1:]) for told in found.values()]
        outcomes.sort(key=lambda outcome: (outcome.event_id, outcome.destination_id or ""))
        known = dict.fromkeys(outcome.event_id for outcome in outcomes)
        return Dispatch(
            accepted_at=None if accepted_at is None else int(accepted_at),
            event_ids=tuple(known if events is None else orjson.loads(events)),
            outcomes=tuple(outcomes),
        )

    def _key(self, domain_id: str, dispatch_key: str) -> str:
        # The shop's text comes last and our ids hold no colon, so no two pairs share a key; the
        # same goes for the fields.
        return f"{self._prefix}dispatch:{domain_id}:{dispatch_key}"


def _field(outcome: Outcome) -> str:
    return f"{outcome.destination_id or ''}:{outcome.event_id}"


def _weight(kind: OutcomeKind) -> str:
    if kind is OutcomeKind.DUPLICATE:
        return _DUPLICATE
    return _FINAL if kind.is_final else _PASSING


def _told(outcome: Outcome) -> str:
    told = DispatchOutcome(
        event_id=outcome.event_id,
        destination_id=outcome.destination_id,
        platform=outcome.platform,
        outcome=outcome.outcome,
        reason=outcome.reason,
        code=outcome.code,
        at=outcome.at,
    )
    return _OUTCOMES.dump_json(told).decode()
