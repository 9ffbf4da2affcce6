"""Bytes of ``raw-events`` → RawEvent. Pure."""

from pydantic import ValidationError

from schemas.raw_event import RawEvent


class UndecodableError(Exception):
    """Bytes that are not a RawEvent; the message says why, without quoting them."""


def decode(value: bytes | None) -> RawEvent:
    """Read one record.

    Raises ``UndecodableError``.
    """
    if value is None:
        raise UndecodableError("the record has no value")
    try:
        return RawEvent.model_validate_json(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "value"
        raise UndecodableError(f"{where}: {first['msg']}") from None
