"""Reads an object that a sender wrote in a platform's own words. Pure.

What the platform thinks of the rest of it, only the platform will say: it is forwarded as it came.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic import TypeAdapter, ValidationError

from platforms.base import Block
from schemas.lenient import NOT_BLANK, IdNumber, LooseEventTime, id_from_json
from schemas.limits import MAX_BODY_BYTES, MAX_EVENT_ID_CHARS, MAX_NAME_CHARS

MAX_DEPTH: Final = 32
"""Objects and lists inside one another: far more than any platform has words for, and far less
than the 200 at which a record of ours that is written could not be read again."""

_EVENT_TIME: Final = TypeAdapter[int | None](LooseEventTime)
_NAME_SCHEMA: Final = {"type": "string", "pattern": NOT_BLANK, "maxLength": MAX_NAME_CHARS}
_ID_SCHEMA: Final = {"type": "string", "maxLength": MAX_EVENT_ID_CHARS}
_ID_NUMBER_SCHEMA: Final = TypeAdapter(IdNumber).json_schema()


class BlockError(Exception):
    """A block that cannot be taken: where (a dotted path, None for all of it), and how to mend it."""

    def __init__(self, field: str | None, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block that is ready for the platform's batch, and what we must know of it."""

    payload: dict[str, Any]
    event_name: str
    event_id: str | None
    event_time: int
    """Unix milliseconds, no finer than the platform is told."""


def read_block(block: Mapping[str, Any], spec: Block, received_at: int) -> ReadBlock:
    """Complete a block with what its platform demands and its sender may leave out.

    Those are the defaults, and the time, which is then ``received_at`` (Unix ms). What is null or
    blank counts as left out. An id that is a number becomes text and a time becomes an integer in
    the platform's unit, as no platform takes them otherwise; the rest comes out as it came in. The
    input is not changed, but inner objects may be shared with it.

    Raises ``BlockError``.
    """
    _check_json(dict(block))
    if taken := sorted(spec.reserved & block.keys()):
        raise BlockError(taken[0], "must be left out: the destination's own is sent")
    left_out = {key: value for key, value in spec.defaults.items() if _is_blank(block.get(key))}
    payload = {**block, **left_out}
    event_id, event_time = _event_id(block, spec), _event_time(block, spec, received_at)
    if spec.id and event_id is not None:
        payload = _with(payload, spec.id, event_id)
    if spec.time:
        payload = _with(payload, spec.time, event_time // spec.time_unit_ms)
    return ReadBlock(payload, _event_name(block, spec), event_id, event_time)


def _check_json(block: dict[str, Any]) -> None:
    if not _is_within(block, MAX_DEPTH):
        raise BlockError(None, f"is nested too deeply: at most {MAX_DEPTH} levels")
    try:
        size = len(orjson.dumps(block))
    except orjson.JSONEncodeError as error:
        raise BlockError(None, f"cannot be written as JSON: {error}") from None
    if size > MAX_BODY_BYTES:
        raise BlockError(None, f"exceeds {MAX_BODY_BYTES // 1024} KB: send less in it")


def _is_within(value: Any, depth: int) -> bool:
    """Whether no more than ``depth`` objects and lists lie inside one another."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_within(each, depth - 1) for each in inner)


def _event_name(block: Mapping[str, Any], spec: Block) -> str:
    name = _at(block, spec.name)
    if isinstance(name, str) and name.strip() and len(name) <= MAX_NAME_CHARS:
        return name
    raise BlockError(
        ".".join(spec.name),
        f"must be the platform's name of the event: a text of 1 to {MAX_NAME_CHARS} characters",
    )


def _event_id(block: Mapping[str, Any], spec: Block) -> str | None:
    if spec.id is None:
        return None
    value = _at(block, spec.id)
    if _is_blank(value):
        if spec.demands_id:
            told = "must be given: the platform takes no event without it"
            raise BlockError(".".join(spec.id), told)
        return None
    event_id = id_from_json(value)
    if isinstance(event_id, str) and len(event_id) <= MAX_EVENT_ID_CHARS:
        return event_id
    raise BlockError(
        ".".join(spec.id),
        f"must be a text of at most {MAX_EVENT_ID_CHARS} characters, or an integer",
    )


def _event_time(block: Mapping[str, Any], spec: Block, received_at: int) -> int:
    if spec.time is None:
        return received_at
    value = _at(block, spec.time)
    try:
        told = _EVENT_TIME.validate_python(value)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise BlockError(".".join(spec.time), message.removeprefix("Value error, ")) from None
    time = received_at if told is None else told
    return time - time % spec.time_unit_ms


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _at(block: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """What lies at a path: None when it, or an object on the way to it, is not there."""
    value: Any = block
    for depth, key in enumerate(path):
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BlockError(".".join(path[:depth]), "must be an object")
        value = value.get(key)
    return value


def _with(block: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with ``value`` at a path; objects on the way to it are copied or made."""
    key, *rest = path
    return {**block, key: _with(block.get(key) or {}, tuple(rest), value) if rest else value}


def block_schema(spec: Block) -> dict[str, Any]:
    """What ``read_block`` takes, as JSON Schema: all but the limits of depth and size."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            **{key: {"default": value} for key, value in spec.defaults.items()},
            **dict.fromkeys(sorted(spec.reserved), False),
        },
    }
    _describe(schema, spec.name, _NAME_SCHEMA, is_demanded=True)
    if spec.id and spec.demands_id:
        told = {**_ID_SCHEMA, "pattern": NOT_BLANK}
        _describe(schema, spec.id, {"anyOf": [told, _ID_NUMBER_SCHEMA]}, is_demanded=True)
    elif spec.id:
        _describe(schema, spec.id, {"anyOf": [_ID_SCHEMA, _ID_NUMBER_SCHEMA, {"type": "null"}]})
    if spec.time:
        _describe(schema, spec.time, _EVENT_TIME.json_schema())
    return schema


def _describe(
    schema: dict[str, Any], path: tuple[str, ...], told: Any, *, is_demanded: bool = False
) -> None:
    """Write into an object's schema what may lie at a path."""
    key, *rest = path
    if is_demanded:
        schema["required"] = sorted({key, *schema.get("required", ())})
    properties = schema.setdefault("properties", {})
    if not rest:
        properties[key] = told
        return
    inner = properties.setdefault(key, {"type": ["object", "null"]})
    if is_demanded:
        inner["type"] = "object"
    _describe(inner, tuple(rest), told, is_demanded=is_demanded)
