"""Records of ``audit`` → what changes in the event log. Pure.

A batch is folded first by itself (``fold``), then against the rows that are there (``change``). What
comes out is the same in whatever batches the records come, and when they come again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from audit.tables import HOUR_MS
from schemas.audit import Told, read_told
from schemas.event_log import State
from schemas.limits import MAX_EVENT_TIME_SECONDS
from schemas.outcome import Outcome, OutcomeKind, outcome_id
from schemas.routing import Routing, routing_id

ACCEPTED: Final = "accepted"
UNDER_WAY: Final = "under_way"

FINAL: Final = frozenset(kind for kind in OutcomeKind if kind.is_final)
_MAX_MOMENT: Final = MAX_EVENT_TIME_SECONDS * 1000
_MAX_ATTEMPT: Final = 2**31 - 1

_SMALL: Final = 2000
"""A record of so many bytes holds no text that an index of PostgreSQL cannot take."""
_MAX_CHARS: Final = {
    "domain_id": 100,
    "destination_id": 100,
    "platform": 100,
    "event_name": 100,
    "event_id": 300,
    "order_id": 300,
}
"""Where the texts of larger ones are cut."""

Key: TypeAlias = tuple[int, bytes]
"""``received_at`` and a hash: what rows are named by."""


class Text(NamedTuple):
    """A code and a sentence that a domain's outcomes have been given."""

    domain_id: str
    text_id: int
    code: str | None
    detail: str | None
    folded: str
    """Both, as they are looked for whatever the case of letters."""


class Attempt(NamedTuple):
    """A passing outcome: a row of ``log_attempts``."""

    received_at: int
    delivery_id: bytes
    attempt: int
    state: str
    domain_id: str
    reason: str | None
    text_id: int | None
    at: int


class Event(NamedTuple):
    """An accepted event: a row of ``log_events``."""

    received_at: int
    event_key: bytes
    domain_id: str
    event_id: str
    event_name: str
    event_time: int
    order_id: str | None
    door: str
    source: str
    first_source: str | None
    replay_id: str | None

    @property
    def key(self) -> Key:
        """Its name."""
        return self.received_at, self.event_key


class Standing(NamedTuple):
    """How far a delivery is. The first final outcome stays; before it, the last of the others."""

    state: str
    at: int = 0
    attempt: int = 0
    reason: str | None = None
    text_id: int | None = None
    first_source: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in FINAL

    def gives_way_to(self, other: "Standing") -> bool:
        """Whether the other one is what the delivery has come to by now."""
        if self.is_final or other.is_final:
            return not self.is_final
        return _order(self) < _order(other)


def _order(passing: Standing) -> tuple[bool, int, int, str]:
    return passing.state != State.ROUTED, passing.at, passing.attempt, passing.state


@dataclass(slots=True)
class Delivery:
    """A delivery as a batch tells of it."""

    received_at: int
    delivery_id: bytes
    event_key: bytes
    domain_id: str
    destination_id: str
    platform: str
    event_id: str
    event_name: str
    event_time: int
    source: str
    dispatch_key: str | None
    replay_id: str | None
    standing: Standing
    routed_at: int | None = None

    def row(self) -> tuple[Any, ...]:
        """As it lies in ``log_deliveries``; the columns are ``DELIVERY_COLUMNS``."""
        return (*_own_of(self), *self.standing)


_OWN: Final = tuple(one.name for one in fields(Delivery) if one.name != "standing")
_own_of: Final = attrgetter(*_OWN)
DELIVERY_COLUMNS: Final = (*_OWN, *Standing._fields)


@dataclass(frozen=True, slots=True)
class Batch:
    """All that some records tell, each thing once."""

    events: dict[Key, Event] = field(default_factory=dict)
    billable: set[Key] = field(default_factory=set)
    """Of those, the events that went to at least one destination for the first time."""
    deliveries: dict[Key, Delivery] = field(default_factory=dict)
    attempts: dict[tuple[Key, int, str], Attempt] = field(default_factory=dict)
    texts: dict[Text, int] = field(default_factory=dict)
    """Text → the hour of the newest event of which it was said."""


class CounterKey(NamedTuple):
    """What deliveries are counted by: the key of ``log_counters``."""

    domain_id: str
    hour: int
    destination_id: str
    platform: str
    event_name: str
    outcome: str
    reason: str
    is_replay: bool


class Known(NamedTuple):
    """What is in the database of a delivery."""

    standing: Standing
    routed_at: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written for a batch, besides its attempts and texts, which may be there already."""

    events: list[Event] = field(default_factory=list)
    usage: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """Domain and hour → how many more accepted and billable events."""
    new: list[Delivery] = field(default_factory=list)
    advanced: list[tuple[Any, ...]] = field(default_factory=list)
    """``received_at`` and ``delivery_id``, then the fields of ``Standing``."""
    routed: list[tuple[int, bytes, int]] = field(default_factory=list)
    """``received_at``, ``delivery_id``, ``routed_at``."""
    counters: Counter[CounterKey] = field(default_factory=Counter)


def readable(value: bytes | None) -> Told | None:
    """What a record tells, fit for a database; None if it is nothing of ours."""
    if value is not None and b"\\u0000" in value:  # PostgreSQL's texts hold no NUL
        value = value.replace(b"\\u0000", b"\\ufffd")
    told = read_told(value)
    if not isinstance(told, Outcome | Routing):
        return told
    if not 0 <= told.received_at <= _MAX_MOMENT:
        return None
    if abs(told.at) > _MAX_MOMENT or abs(told.event_time) > _MAX_MOMENT:
        return None
    if isinstance(told, Outcome) and not 0 <= told.attempt <= _MAX_ATTEMPT:
        return None
    return told if len(value or b"") < _SMALL else _cut(told)


def _cut(told: Outcome | Routing) -> Outcome | Routing:
    changes = {
        name: found[:most]
        for name, most in _MAX_CHARS.items()
        if isinstance(found := getattr(told, name, None), str)
    }
    return told.model_copy(update=changes)


def fold(told: Iterable[Outcome | Routing]) -> Batch:
    """What records tell, in the order of the log."""
    batch = Batch()
    for one in told:
        if isinstance(one, Outcome):
            _add_outcome(batch, one)
        else:
            _add_routing(batch, one)
    return batch


def _add_outcome(batch: Batch, outcome: Outcome) -> None:
    text_id = _add_text(batch, outcome)
    standing = Standing(
        outcome.outcome.value,
        outcome.at,
        outcome.attempt,
        outcome.reason.value if outcome.reason else None,
        text_id,
        outcome.first_source,
    )
    delivery = _delivery(batch, outcome, outcome.destination_id, outcome.platform, standing)
    if not standing.is_final:
        key = delivery.received_at, delivery.delivery_id
        state, at, attempt, reason, _, _ = standing
        batch.attempts.setdefault(
            (key, attempt, state),
            Attempt(*key, attempt, state, outcome.domain_id, reason, text_id, at),
        )


def _add_routing(batch: Batch, routing: Routing) -> None:
    event = Event(
        routing.received_at,
        _event_key(routing.source, routing.received_at, routing.replay_id),
        routing.domain_id,
        routing.event_id,
        routing.event_name,
        routing.event_time,
        routing.order_id,
        routing.door.value,
        routing.source,
        routing.first_source,
        routing.replay_id,
    )
    if event.key not in batch.events:
        batch.events[event.key] = event
        if routing.destinations and routing.first_source is None:
            batch.billable.add(event.key)
    standing = Standing(State.ROUTED.value, routing.at)
    for to in routing.destinations:
        delivery = _delivery(batch, routing, to.destination_id, to.platform, standing)
        if delivery.routed_at is None:
            delivery.routed_at = routing.at


def _delivery(
    batch: Batch,
    told: Outcome | Routing,
    destination_id: str | None,
    platform: str | None,
    standing: Standing,
) -> Delivery:
    """The delivery that is told of, having come to ``standing`` if that is news."""
    name = bytes.fromhex(
        outcome_id(told.source, told.received_at, destination_id, replay_id=told.replay_id)
    )
    key = told.received_at, name
    delivery = batch.deliveries.get(key)
    if delivery is None:
        delivery = batch.deliveries[key] = Delivery(
            *key,
            _event_key(told.source, told.received_at, told.replay_id),
            told.domain_id,
            destination_id or "",
            platform or "",
            told.event_id,
            told.event_name,
            told.event_time,
            told.source,
            told.dispatch_key,
            told.replay_id,
            standing,
        )
    elif delivery.standing.gives_way_to(standing):
        delivery.standing = standing
    return delivery


@lru_cache(maxsize=4096)
def _event_key(source: str, received_at: int, replay_id: str | None) -> bytes:
    """An event's records lie close to one another."""
    return bytes.fromhex(routing_id(source, received_at, replay_id))


def _add_text(batch: Batch, outcome: Outcome) -> int | None:
    if outcome.code is None and outcome.detail is None:
        return None
    text = _text(outcome.domain_id, outcome.code, outcome.detail)
    hour = outcome.received_at // HOUR_MS
    batch.texts[text] = max(hour, batch.texts.get(text, hour))
    return text.text_id


@lru_cache(maxsize=4096)
def _text(domain_id: str, code: str | None, detail: str | None) -> Text:
    told = repr((code, detail)).encode()
    name = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big", signed=True)
    folded = "\n".join(filter(None, (code, detail))).casefold()
    return Text(domain_id, name, code, detail, folded)


def change(batch: Batch, events: Iterable[Key], deliveries: Mapping[Key, Known]) -> Change:
    """What a batch changes, given which of its events and deliveries are in the database.

    A delivery is ``accepted`` when it is first told of, by whichever record, and ``under_way`` until
    it has a final outcome: what is accepted is under way or has come to an end, at every moment.
    """
    changed = Change()
    known_events = set(events)
    for key, event in batch.events.items():
        if key not in known_events:
            _add_event(changed, event, is_billable=key in batch.billable)
    for key, delivery in batch.deliveries.items():
        known = deliveries.get(key)
        if known is None:
            _add_delivery(changed, delivery)
        else:
            _advance(changed, delivery, known)
    return changed


def _add_event(changed: Change, event: Event, *, is_billable: bool) -> None:
    changed.events.append(event)
    if event.replay_id is None:
        place = event.domain_id, event.received_at // HOUR_MS
        accepted, billable = changed.usage.get(place, (0, 0))
        changed.usage[place] = accepted + 1, billable + is_billable


def _add_delivery(changed: Change, delivery: Delivery) -> None:
    changed.new.append(delivery)
    standing = delivery.standing
    changed.counters[_counter(delivery, ACCEPTED)] += 1
    # Named even when it stays nil, so that the same rows come of the same records.
    changed.counters[_counter(delivery, UNDER_WAY)] += not standing.is_final
    if standing.is_final:
        changed.counters[_counter(delivery, standing.state, standing.reason)] += 1


def _advance(changed: Change, delivery: Delivery, known: Known) -> None:
    key = delivery.received_at, delivery.delivery_id
    standing = delivery.standing
    if delivery.routed_at is not None and known.routed_at is None:
        changed.routed.append((*key, delivery.routed_at))
    if known.standing.gives_way_to(standing):
        changed.advanced.append((*key, *standing))
        if standing.is_final:
            changed.counters[_counter(delivery, UNDER_WAY)] -= 1
            changed.counters[_counter(delivery, standing.state, standing.reason)] += 1


def _counter(delivery: Delivery, outcome: str, reason: str | None = None) -> CounterKey:
    return CounterKey(
        delivery.domain_id,
        delivery.received_at // HOUR_MS,
        delivery.destination_id,
        delivery.platform,
        delivery.event_name,
        outcome,
        reason or "",
        delivery.replay_id is not None,
    )
