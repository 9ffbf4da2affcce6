"""One event and one destination → the payload to send, or why not. Pure."""

from typing import Any

from platforms.base import Limits, Platform
from schemas.config import Destination
from schemas.event import Event, EventName
from schemas.outcome import Reason, Skip
from schemas.raw_event import RawEvent


def route(
    raw: RawEvent, event: Event, destination: Destination, platform: Platform | None
) -> dict[str, Any] | Skip:
    """Decide for one destination; ``event`` is the enriched event of ``raw``.

    Age is measured against the moment of receipt, never against the clock, so that a replay of
    the log decides as the first run did.
    """
    if platform is None:
        return Skip(Reason.UNKNOWN_PLATFORM, f"There is no platform {destination.platform!r} here.")
    if not destination.enabled:
        return Skip(Reason.DESTINATION_DISABLED, "The destination is switched off.")
    if not event.consent.marketing:
        return Skip(Reason.NO_CONSENT, "The person did not consent to marketing.")
    if not _is_wanted(event, destination):
        return Skip(
            Reason.EVENT_DISABLED, f"{event.event_name} is switched off for this destination."
        )
    stale = _judge_age(event.event_time, raw.received_at, platform.LIMITS)
    if stale is not None:
        return stale
    return platform.payload(event, destination)


def _is_wanted(event: Event, destination: Destination) -> bool:
    if event.event_name is EventName.CUSTOM and event.custom_event_name:
        named = destination.events.get(event.custom_event_name)
        if named is not None:
            return named
    return destination.events.get(event.event_name, True)


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
