"""One event and one destination → the payload to send, or why not. Pure.

Age is measured against the moment of receipt, never against the clock, so that a replay of the
log decides as the first run did.
"""

import hashlib
from functools import lru_cache
from typing import Any, Final

from platforms import identity
from platforms.base import Limits, Platform
from platforms.commerce import apply_value_rule
from schemas.config import Destination
from schemas.event import Event
from schemas.outcome import Reason, Skip
from schemas.raw_event import Blocks, RawEvent

_DRAW_BYTES: Final = 8


def route(
    raw: RawEvent,
    event: Event,
    destination: Destination,
    platform: Platform | None,
    *,
    default_currency: str | None = None,
) -> dict[str, Any] | Skip:
    """Decide on a canonical event for one destination; ``event`` is the enriched one of ``raw``.

    The first of these that speaks against it is the reason that the merchant reads. The cheap ones
    come first, and a rule that is not set costs one look at the destination:

    1. the platform is one that we know;
    2. the destination is switched on;
    3. the event's name is not switched off for it;
    4. the event's channel is not excluded;
    5. the person consents, and said so where that is demanded;
    6. the event is neither too old nor ahead of its time, as the platform sees it;
    7. the person's country is not excluded;
    8. the event is in the sample;
    9. the destination's rule of value leaves a purchase a value (``platforms.commerce``);
    10. what the platform itself demands (its ``payload``).

    ``default_currency`` is the domain's, for a fixed value.
    """
    if platform is None:
        return _unknown(destination)
    return (
        _judge_switch(destination)
        or _judge_name(raw, destination)
        or _judge_source(event, destination)
        or _judge_consent(event, destination)
        or _judge_age(event.event_time, raw.received_at, platform.LIMITS)
        or _judge_country(event, destination)
        or _judge_sample(event.event_id, destination)
        or _payload(event, destination, platform, default_currency)
    )


def route_block(
    raw: RawEvent, blocks: Blocks, destination: Destination, platform: Platform | None
) -> dict[str, Any] | Skip:
    """Decide on an event in the platforms' own words; ``blocks`` is that of ``raw``.

    The platform's block goes out as it is. Who writes in a platform's words answers for them:
    consent, hashing and match keys, limited data use and a destination's names for events are in
    the sender's hands. So are the rules of a destination that would have to look into the block:
    value, excluded countries and channels, consent required. What the merchant switched off stays
    off, a sample is the same for both sorts of events, and what a platform is known to refuse for
    its age is not sent.
    """
    if platform is None:
        return _unknown(destination)
    return (
        _judge_switch(destination)
        or _judge_name(raw, destination)
        or _judge_age(blocks.event_time, raw.received_at, platform.LIMITS)
        or _judge_sample(blocks.event_id, destination)
        or _block(blocks, platform)
    )


def _unknown(destination: Destination) -> Skip:
    return Skip(Reason.UNKNOWN_PLATFORM, f"There is no platform {destination.platform!r} here.")


def _judge_switch(destination: Destination) -> Skip | None:
    if destination.enabled:
        return None
    return Skip(Reason.DESTINATION_DISABLED, "The destination is switched off.")


def _judge_name(raw: RawEvent, destination: Destination) -> Skip | None:
    """A custom event's own switch goes before that of all custom events."""
    canonical, own = raw.names
    wanted = destination.events.get(canonical, True)
    if own is not None:
        wanted = destination.events.get(own, wanted)
    if wanted:
        return None
    return Skip(Reason.EVENT_DISABLED, f"{canonical} is switched off for this destination.")


def _judge_source(event: Event, destination: Destination) -> Skip | None:
    if event.action_source not in destination.excluded_sources:
        return None
    return Skip(
        Reason.SOURCE_EXCLUDED,
        f"Events of the channel {event.action_source.value} are excluded for this destination.",
    )


def _judge_consent(event: Event, destination: Destination) -> Skip | None:
    """An order's consent stands for its later events, stated or not as it was."""
    if not event.consent.marketing:
        return Skip(Reason.NO_CONSENT, "The person did not consent to marketing.")
    if not destination.consent_required:
        return None
    if "marketing" in event.consent.model_fields_set:
        return None
    return Skip(
        Reason.NO_CONSENT,
        "This destination requires consent, and it was not stated: send consent.marketing.",
    )


def _judge_age(event_time: int, received_at: int, limits: Limits) -> Skip | None:
    age_seconds = (received_at - event_time) / 1000
    if age_seconds > limits.max_age_seconds:
        days = limits.max_age_seconds / 86_400
        return Skip(
            Reason.TOO_OLD,
            f"The event was {age_seconds / 86_400:.1f} days old when it came; "
            f"this platform takes {days:g} days.",
        )
    if -age_seconds > limits.max_ahead_seconds:
        return Skip(
            Reason.IN_THE_FUTURE,
            f"The event's time was {-age_seconds:.0f} s ahead when it came; "
            "check the clock of the shop's server.",
        )
    return None


def _judge_country(event: Event, destination: Destination) -> Skip | None:
    """An event without a country, or with one that nobody can read, is of none that is excluded."""
    told = event.user_data.country
    if not destination.excluded_countries or told is None:
        return None
    written = identity.country(told) or told.lower()
    if written not in _codes_and_hashes(destination.excluded_countries):
        return None
    return Skip(
        Reason.COUNTRY_EXCLUDED, "Events of the person's country are excluded for this destination."
    )


@lru_cache(maxsize=1024)
def _codes_and_hashes(countries: tuple[str, ...]) -> frozenset[str]:
    """The codes as the platforms want them, and as they are when the shop has hashed them."""
    codes = {code.lower() for code in countries}
    return frozenset(codes | {hashlib.sha256(code.encode()).hexdigest() for code in codes})


def _judge_sample(event_id: str, destination: Destination) -> Skip | None:
    """Drawn from the ids, so that copies, replays and both sorts of events are decided alike.

    Who is in at some percentage is in at every higher one.
    """
    percent = destination.sample_percent
    if percent == 100:
        return None
    ids = f"{destination.id}:{event_id}".encode()
    drawn = hashlib.blake2b(ids, digest_size=_DRAW_BYTES).digest()
    if int.from_bytes(drawn, "big") * 100 < percent * 256**_DRAW_BYTES:
        return None
    return Skip(
        Reason.SAMPLED_OUT,
        f"This destination takes a sample of {percent:g}% of events, and this is none of them.",
    )


def _payload(
    event: Event, destination: Destination, platform: Platform, default_currency: str | None
) -> dict[str, Any] | Skip:
    told = apply_value_rule(event, destination, default_currency)
    return told if isinstance(told, Skip) else platform.payload(told, destination)


def _block(blocks: Blocks, platform: Platform) -> dict[str, Any] | Skip:
    found = blocks.by_platform.get(platform.SLUG)
    if found is not None:
        return found
    return Skip(
        Reason.NO_BLOCK,
        f"The event came in the platforms' own words, and none of them for {platform.NAME}: "
        f"add a block for {platform.SLUG!r}, or send it as a canonical event.",
    )
