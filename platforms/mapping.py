"""What every platform file does alike when it turns an event into a payload."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.config import Destination
from schemas.event import Event, EventName


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that have a value: ``None``, ``""`` and empty containers are left out, 0 is kept.

    Platforms read an empty value as a wrong one.
    """
    return {key: value for key, value in fields.items() if value or value == 0}


def renamed(event: Event, destination: Destination) -> str | None:
    """The name that the merchant chose for this event at this destination, if any.

    The name of a custom event is looked up before ``Custom``, which stands for all of them.
    """
    names = destination.event_names
    if not names:
        return None
    if event.event_name is EventName.CUSTOM and event.custom_event_name in names:
        return names[event.custom_event_name]
    return names.get(event.event_name)


def is_limited(event: Event, destination: Destination) -> bool:
    """Whether the platform is to be told to use this event in the limited way the law asks for."""
    return event.consent.limited_data_use or destination.limited_data_use


def array(batch: Sequence[bytes]) -> bytes:
    """Payloads that are already JSON as one JSON array, without parsing them again."""
    return b"[" + b",".join(batch) + b"]"
