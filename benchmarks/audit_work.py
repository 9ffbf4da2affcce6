"""The work of the event log's measurement: a month of a busy system's ``audit``, and what merchants
ask of it. The same in every run."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from schemas.delivery import Delivery
from schemas.event_log import EventQuery
from schemas.outcome import OutcomeKind, Reason
from schemas.raw_event import RawEvent
from schemas.record import Record
from schemas.routing import routing_record

PLATFORMS: Final = ("meta", "tiktok", "pinterest", "snapchat", "reddit")
DOMAINS: Final = 40
DAYS: Final = 30
DAY_MS: Final = 86_400_000
ENDS_AT: Final = 1_795_564_800_000
"""2026-11-25 UTC: the month lies in two of the calendar's."""

_NAMES: Final = ("PageVisit", "ViewContent", "AddToCart", "Purchase", "Lead", "Custom")
_SHARES: Final = (50, 25, 14, 8, 2.9, 0.1)
_SKIPS: Final = (
    (Reason.NO_CONSENT, "The person did not consent to marketing."),
    (Reason.EVENT_DISABLED, "PageVisit is switched off for this destination."),
    (Reason.SAMPLED_OUT, "This destination takes a sample of 50% of events, and this is none of them."),
    (Reason.TOO_FEW_MATCH_KEYS, "The event names nobody: send an e-mail, a phone or a click id."),
)  # fmt: skip


class Fate(NamedTuple):
    """What becomes of a delivery, and how often that is."""

    share: float
    kind: OutcomeKind | None
    """None: it is under way."""


_FATES: Final = (
    Fate(84.0, OutcomeKind.DELIVERED),
    Fate(8.0, OutcomeKind.SKIPPED),
    Fate(3.0, OutcomeKind.DUPLICATE),
    Fate(3.5, OutcomeKind.REJECTED),
    Fate(0.5, OutcomeKind.EXPIRED),
    Fate(0.5, OutcomeKind.RETRYING),
    Fate(0.5, OutcomeKind.PARKED),
    Fate(0.0, None),
)


def domain_id(number: int) -> str:
    """A domain's id, as long as they are."""
    return f"dom_{number:024x}"


def destination_id(domain: int, platform: int) -> str:
    """A destination's id."""
    return f"dst_{domain:020x}{platform:04x}"


def records(outcomes: int) -> Iterator[Record]:
    """So many outcomes, five of an event, each event's after its routing. A few domains have most."""
    dice = random.Random(7)  # noqa: S311 - the same in every run
    events = outcomes // len(PLATFORMS)
    for number in range(events):
        domain = min(int(dice.expovariate(0.12)), DOMAINS - 1)
        received_at = ENDS_AT - DAYS * DAY_MS + number * DAYS * DAY_MS // events
        yield from _event(dice, number, domain, received_at)


def _event(dice: random.Random, number: int, domain: int, received_at: int) -> Iterator[Record]:
    (name,) = dice.choices(_NAMES, _SHARES)
    event = {
        "eventId": f"{number:08x}-{name}",
        "eventName": name,
        "eventTime": received_at / 1000 - 2,
        "customData": {"orderId": f"T-{number}"} if name == "Purchase" else {},
    }
    raw = RawEvent.model_validate(
        {
            "domainId": domain_id(domain),
            "door": "events",
            "requestId": f"req_{number}",
            "receivedAt": received_at,
            "event": event,
        }
    )
    source = f"raw-events-{number % 12}-{number // 12}"
    deliveries = [
        Delivery(
            raw.domain_id,
            destination_id(domain, place),
            slug,
            raw.said.event_id,
            name,
            received_at - 2000,
            received_at,
            source,
        )
        for place, slug in enumerate(PLATFORMS)
    ]
    fates = dice.choices(_FATES, [fate.share for fate in _FATES], k=len(PLATFORMS))
    routed = [
        (one.destination_id, one.platform)
        for one, fate in zip(deliveries, fates, strict=True)
        if fate.kind not in {OutcomeKind.SKIPPED, OutcomeKind.DUPLICATE}
    ]
    yield routing_record(raw, routed, source=source, at=received_at + 20)
    for delivery, fate in zip(deliveries, fates, strict=True):
        if fate.kind is not None:
            yield _outcome(dice, delivery, fate.kind)


def _outcome(dice: random.Random, delivery: Delivery, kind: OutcomeKind) -> Record:
    said: dict[str, Any] = {}
    if kind is OutcomeKind.SKIPPED:
        reason, detail = dice.choice(_SKIPS)
        said = {"reason": reason, "detail": detail}
    elif kind is OutcomeKind.DUPLICATE:
        said = {"reason": Reason.SAME_EVENT_ID, "first_source": "raw-events-0-1"}
        said["detail"] = (
            "An event with this id and name was accepted before, and is the one that counts."
        )
    elif kind is OutcomeKind.REJECTED:
        field = dice.choice(("value", "currency", "em", "ph", "content_ids"))
        said = {"reason": Reason.REFUSED_BY_PLATFORM, "code": str(100 + dice.randrange(40))}
        said["detail"] = f"Invalid parameter: {field} of data[{dice.randrange(1000)}]"
    elif kind is not OutcomeKind.DELIVERED:
        said = {"reason": Reason.PLATFORM_UNAVAILABLE, "code": "HTTP 503", "detail": "Try again."}
    attempt = 0 if kind.is_final else 1
    at = delivery.received_at + dice.randrange(300, 3000)
    return delivery._replace(attempt=attempt).outcome_record(kind, at=at, **said)


class Asked(NamedTuple):
    """One question of an organisation."""

    domain_ids: Sequence[str]
    query: EventQuery


def questions(count: int, events: int) -> list[Asked]:
    """All filters alone and together, of organisations with one domain to many, what is common and
    what is rare or not there at all."""
    dice = random.Random(11)  # noqa: S311 - the same in every run
    return [_question(dice, events) for _ in range(count)]


def _question(dice: random.Random, events: int) -> Asked:
    domains = dice.sample(range(DOMAINS), dice.choice((1, 1, 2, 3, 5, 10, 25)))
    domain = dice.choice(domains)
    number = dice.randrange(events)
    since = ENDS_AT - dice.randrange(DAYS * DAY_MS)
    may_be: dict[str, Any] = {
        "domainId": domain_id(domain),
        "destinationId": destination_id(domain, dice.randrange(6)),
        "platform": dice.choice((*PLATFORMS, "snackvideo")),
        "eventName": dice.choice((*_NAMES, "Search")),
        "outcome": dice.choice([kind.value for kind in OutcomeKind] + ["routed"]),
        "reason": dice.choice(list(Reason)).value,
        "eventId": f"{number:08x}-{dice.choice(_NAMES)}",
        "orderId": f"T-{number}",
        "since": since,
        "until": since + dice.choice((1, 7)) * DAY_MS,
        "text": dice.choice(
            ("invalid", "data[7", "consent", "HTTP 503", "no such text", "115", "%")
        ),
    }
    names = dice.sample(list(may_be), dice.choice((0, 1, 1, 2, 2, 3, 4)))
    query = {name: may_be[name] for name in names}
    return Asked(
        [domain_id(one) for one in domains],
        EventQuery.model_validate(query | {"limit": dice.choice((50, 50, 200))}),
    )
