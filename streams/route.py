"""One event and one destination → the payload to send, or why not. Pure.

Age is measured against the moment of receipt, never against the clock, so that a replay of the
log decides as the first run did.
"""

from typing import Any

from platforms.base import Limits, Platform
from schemas.config import Destination
from schemas.event import Event
from schemas.outcome import Reason, Skip
from schemas.raw_event import Blocks, RawEvent


def route(
    raw: RawEvent, event: Event, destination: Destination, platform: Platform | None
) -> dict[str, Any] | Skip:
    """Decide on a canonical event for one destination; ``event`` is the enriched one of ``raw``."""
    if platform is None:
        return _unknown(destination)
    return (
        _judge_switch(destination)
        or _judge_consent(event)
        or _judge_name(raw, destination)
        or _judge_age(event.event_time, raw.received_at, platform.LIMITS)
        or platform.payload(event, destination)
    )


def route_block(
    raw: RawEvent, blocks: Blocks, destination: Destination, platform: Platform | None
) -> dict[str, Any] | Skip:
    """Decide on an event in the platforms' own words; ``blocks`` is that of ``raw``.

    The platform's block goes out as it is. Who writes in a platform's words answers for them:
    consent, hashing and match keys, limited data use and a destination's names for events are in
    the sender's hands. What the merchant switched off stays off, and what a platform is known to
    refuse for its age is not sent.
    """
    if platform is None:
        return _unknown(destination)
    return (
        _judge_switch(destination)
        or _judge_name(raw, destination)
        or _judge_age(blocks.event_time, raw.received_at, platform.LIMITS)
        or _block(blocks, platform)
    )


def _unknown(destination: Destination) -> Skip:
    return Skip(Reason.UNKNOWN_PLATFORM, f"There is no platform {destination.platform!r} here.")


def _judge_switch(destination: Destination) -> Skip | None:
    if destination.enabled:
        return None
    return Skip(Reason.DESTINATION_DISABLED, "The destination is switched off.")


def _judge_consent(event: Event) -> Skip | None:
    if event.consent.marketing:
        return None
    return Skip(Reason.NO_CONSENT, "The person did not consent to marketing.")


def _judge_name(raw: RawEvent, destination: Destination) -> Skip | None:
    """A custom event's own switch goes before that of all custom events."""
    canonical, own = raw.names
    wanted = destination.events.get(canonical, True)
    if own is not None:
        wanted = destination.events.get(own, wanted)
    if wanted:
        return None
    return Skip(Reason.EVENT_DISABLED, f"{canonical} is switched off for this destination.")


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


def _block(blocks: Blocks, platform: Platform) -> dict[str, Any] | Skip:
    found = blocks.by_platform.get(platform.SLUG)
    if found is not None:
        return found
    return Skip(
        Reason.NO_BLOCK,
        f"The event came in the platforms' own words, and none of them for {platform.NAME}: "
        f"add a block for {platform.SLUG!r}, or send it as a canonical event.",
    )
