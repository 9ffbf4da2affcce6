"""What goes over the wire, as JSON Schema: made of the models that read it. Pure."""

from typing import Final

from ingest.pmw import SLUGS
from platforms.blocks import block_schema
from platforms.registry import PLATFORMS
from runtime.openapi import REF_TEMPLATE, PlainSchema, Schema, object_of, ref
from schemas.event import Event
from schemas.lenient import NOT_BLANK
from schemas.limits import MAX_DISPATCH_KEY_CHARS, MAX_EVENTS_PER_REQUEST, MAX_NAME_CHARS
from schemas.outcome import OutcomeKind, Reason

_TEXT: Final[Schema] = {"type": "string"}
_MILLISECONDS: Final[Schema] = {"type": "integer", "minimum": 0}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def schemas() -> dict[str, Schema]:
    """What is sent and what is answered, by name."""
    return _requests() | _blocks() | _answers()


def _requests() -> dict[str, Schema]:
    event = Event.model_json_schema(ref_template=REF_TEMPLATE, schema_generator=PlainSchema)
    parts: dict[str, Schema] = event.pop("$defs")
    # The gateway gives an event without an id one (ingest.validate); the log has no such event.
    event["required"].remove("eventId")
    events = {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS_PER_REQUEST}
    key = {
        "type": "string",
        "pattern": NOT_BLANK,
        "maxLength": MAX_DISPATCH_KEY_CHARS,
        "description": "The shop's own name for what it sends.",
    }
    listed = events | {"items": ref("Event")}
    return parts | {
        "Event": event,
        "Events": object_of({"events": listed}),
        "Dispatch": object_of({"dispatchKey": key, "events": listed}),
        "DispatchKey": object_of({"dispatchKey": key}),
    }


def _blocks() -> dict[str, Schema]:
    """The body of ``/v1/pmw-events``: a block at least, and not two of one platform."""
    blocks = {
        f"{platform.NAME.replace(' ', '')}Block": {
            **block_schema(platform.BLOCK),
            "description": f"The event as {platform.NAME} takes it. Other keys go there as they are.",
        }
        for platform in PLATFORMS.values()
    }
    names = dict(zip(PLATFORMS, blocks, strict=True))
    name = {"type": "string", "pattern": NOT_BLANK, "maxLength": MAX_NAME_CHARS}
    twice = [key for key, slug in SLUGS.items() if slug == "meta"]
    body = {
        "type": "object",
        "properties": {
            "event": _or_null(name) | {"description": "The sender's name of the action."},
            "product": {"description": "Not looked at."},
            **{key: _or_null(ref(names[slug])) for key, slug in SLUGS.items()},
        },
        "anyOf": [{"required": [key], "properties": {key: {"type": "object"}}} for key in SLUGS],
        "not": {"required": twice, "properties": {key: {"type": "object"} for key in twice}},
    }
    return blocks | {"Blocks": body}


def _answers() -> dict[str, Schema]:
    ids = {"type": "array", "items": _TEXT}
    accepted = {
        "success": {"const": True},
        "requestId": _TEXT,
        "eventIds": ids | {"description": "In the order of the events."},
        "warnings": ids | {"description": "What was left out of them."},
    }
    outcome = {
        "eventId": _TEXT,
        "destinationId": {"type": ["string", "null"]},
        "platform": {"enum": [*PLATFORMS, None]},
        "outcome": {"enum": list(OutcomeKind)},
        "reason": {"enum": [*Reason, None]},
        "code": {"type": ["string", "null"], "description": "The platform's own."},
        "at": _MILLISECONDS,
    }
    return {
        "Accepted": object_of(accepted, "warnings"),
        "AcceptedDispatch": object_of(
            accepted
            | {
                "alreadyAccepted": {
                    "type": "boolean",
                    "description": "Whether the key was taken before; then nothing was done now.",
                }
            },
            "warnings",
        ),
        "DispatchStatus": object_of(
            {
                "success": {"const": True},
                "requestId": _TEXT,
                "dispatchKey": _TEXT,
                "dispatched": {"type": "boolean"},
                "acceptedAt": {"anyOf": [_MILLISECONDS, {"type": "null"}]},
                "eventIds": ids,
                "outcomes": {"type": "array", "items": ref("Outcome")},
            }
        ),
        "Outcome": object_of(outcome),
    }
