"""What earlier events say about this one: what is asked of the memory, and what its answer means.
Pure.

A shop that opts in has its contacts remembered: a touch is a click or a campaign that led a contact
to the shop. A purchase that comes from the shop's server knows its customer and no click id; it is
given those of the customer's touches. For every shop, a click keeps the time at which it was first
seen, and an order the consent with which it was made (docs/adr/0008).

What is kept names nobody: contacts, clicks and orders are SHA-256 in the keys, and a touch holds
click ids, campaign parameters and addresses without anything personal.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from platforms import identity
from platforms.meta import undated_click
from schemas.config import DomainConfig
from schemas.event import Consent, UserData
from schemas.raw_event import RawEvent
from streams.dedupe import claim_key
from streams.touches import CLICK_IDS, latest_clicks, read_touch, touch_of

_WHO: Final[identity.Identifiers] = (
    ("external_id", "external_id", identity.verbatim),
    ("email", "email", identity.email),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What the memory is asked, and told, for one record. Keys are whole but for the prefix."""

    token: str
    """The record's source."""
    claim: str | None
    """The key of its event's claim: only the copy that counts is answered, and leaves anything.
    None: a replay, which is answered and leaves nothing."""
    received_at: int
    event_time: int
    consent: str
    """The event's own, as ``consent_text`` writes it."""
    order: str | None = None
    """The key of the order's consent."""
    click: str | None = None
    """The key of the click whose first time is wanted."""
    contacts: tuple[str, ...] = ()
    """The keys of its contact, if the shop remembers contacts."""
    touch: tuple[str, str] | None = None
    """A digest by which the same touch is known again, and the touch, to be left."""
    recalls: bool = False
    """Whether the contact's touches are wanted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the memory holds for one question."""

    question: Question
    consent: str
    """That of the order; the event's own, if it has none."""
    click_seen_at: int
    touches: Sequence[str]
    """Each as ``read_touch`` takes it; a contact with two names may have one twice."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """What earlier events say about one event."""

    consent: Consent | None = None
    """That of its order, if it is another one than the event's own."""
    click_seen_at: int | None = None
    """When its ``fbclid`` was first seen, Unix milliseconds."""
    clicks: Mapping[str, str] = field(default_factory=dict)
    """Attribute of ``UserData`` → click id, of its contact."""


NOTHING: Final = Recalled()


def ask(
    raw: RawEvent, domain: DomainConfig, token: str, *, is_replay: bool = False
) -> Question | None:
    """What the memory is asked for the record of ``token``; for most events of most shops, nothing.

    An event in the platforms' own words goes out as it is, and one that is withheld goes nowhere.
    For a replay, ``token`` is the source of the record that is driven again: it is told what that
    one was told. Without consent nothing is kept of a person, and nothing looked up; the order keeps the refusal.
    """
    event = raw.event
    if event is None or raw.withheld is not None:
        return None
    user, consents = event.user_data, event.consent.marketing
    order = _key("consent", raw.domain_id, event.custom_data.order_id)
    click = _key("click", raw.domain_id, undated_click(user)) if consents else None
    known = contacts_of(user) if domain.remember_contacts and consents else ()
    if not (order or click or known):
        return None
    return Question(
        token=token,
        claim=None if is_replay else claim_key(raw),
        received_at=raw.received_at,
        event_time=event.event_time,
        consent=consent_text(event.consent),
        order=order,
        click=click,
        contacts=contact_keys(raw.domain_id, known),
        touch=touch_of(event, known) if known else None,
        recalls=bool(known) and not any(getattr(user, name) for name in CLICK_IDS),
    )


def recalled(answer: Answer) -> Recalled:
    """What the memory's answer means for the event."""
    asked = answer.question
    consent = _that_holds(asked.consent, answer.consent)
    return Recalled(
        consent=read_consent(consent) if consent != asked.consent else None,
        click_seen_at=answer.click_seen_at if asked.click else None,
        clicks=latest_clicks(map(read_touch, answer.touches), asked.received_at, asked.token),
    )


def contacts_of(user: UserData) -> tuple[str, ...]:
    """The names of a contact: ``external_id:`` and ``email:`` with the SHA-256 of either.

    A shop that sends an identifier hashed and one that sends it plain mean the same contact.
    """
    return tuple(f"{name}:{digest}" for name, digest in identity.hashes(user, _WHO).items())


def contact_keys(domain_id: str, contacts: Iterable[str]) -> tuple[str, ...]:
    """Where the touches of each contact are kept."""
    return tuple(f"contact:{domain_id}:{contact}" for contact in contacts)


def consent_text(consent: Consent) -> str:
    """A consent in two characters: marketing, ``-`` when nothing was said of it, and limited data
    use."""
    stated = "marketing" in consent.model_fields_set
    return f"{f'{consent.marketing:d}' if stated else '-'}{consent.limited_data_use:d}"


def read_consent(text: str) -> Consent:
    """What ``consent_text`` wrote."""
    stated = {} if text[0] == "-" else {"marketing": text[0] == "1"}
    return Consent.model_validate(stated | {"limitedDataUse": text[1] == "1"})


def _that_holds(own: str, order: str) -> str:
    """The order's consent, except that what an event itself refuses or limits holds for that event:
    nobody who says no is to be told that they had said yes. Both as ``consent_text`` writes them."""
    stated = own[0] if own[0] == "0" or order[0] == "-" else order[0]
    return stated + max(own[1], order[1])


def _key(kind: str, domain_id: str, text: str | None) -> str | None:
    return f"{kind}:{domain_id}:{_sha256(text)}" if text else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
