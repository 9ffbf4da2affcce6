"""What the OpenAPI documents of our HTTP doors share: https://spec.openapis.org/oas/v3.1.0. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import override

from schemas.lenient import NOT_BLANK

Schema = dict[str, Any]

JSON: Final = "application/json"
REQUEST_ID: Final = "bd2ee81fcfba4ae7aed1564edabefeab"
"""Of the examples."""
REF_TEMPLATE: Final = "#/components/schemas/{model}"

LICENSE: Final = {"name": "Apache-2.0", "identifier": "Apache-2.0"}

RATE_LIMIT_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-Id": {
        "description": "Names the request in the log.",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "X-RateLimit-Limit": {
        "description": "Requests that one client may send in a minute; absent where none are counted.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-RateLimit-Remaining": {
        "description": "How many of them are left.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "X-RateLimit-Reset": {
        "description": "Seconds until one more may come.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "Retry-After": {
        "description": "Seconds to wait before the same request is sent again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "ETag": {
        "description": "Changes with the document.",
        "required": True,
        "schema": {"type": "string"},
    },
}
_WAITING: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class PlainSchema(GenerateJsonSchema):
    """Without titles that repeat a field's name, and without defaults that say "absent".

    Where blanks are taken off, a text that may not be empty may not be blank. In what is answered,
    every field is there.
    """

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    @override
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), str | bool | int):
            return super().default_schema(schema)
        return self.generate_inner(schema["schema"])

    @override
    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        told = super().str_schema(schema)
        strips = schema.get("strip_whitespace", self._config.str_strip_whitespace)
        if not (strips and schema.get("min_length")):
            return told
        is_free = "pattern" not in told
        return told | ({"pattern": NOT_BLANK} if is_free else {"allOf": [{"pattern": NOT_BLANK}]})

    @override
    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)


def in_words_of_json(schema: Any) -> Any:
    """The same schema, its descriptions, which were written for readers of Python, in the words of JSON
    and with the marks of CommonMark."""
    if isinstance(schema, Mapping):
        return {
            key: _in_words(told)
            if key == "description" and isinstance(told, str)
            else in_words_of_json(told)
            for key, told in schema.items()
        }
    return [in_words_of_json(one) for one in schema] if isinstance(schema, list) else schema


def _in_words(text: str) -> str:
    return re.sub(r"\bNone\b", "null", text.replace("``", "`"))


def ref(name: str) -> Schema:
    """A reference to a schema of the document."""
    return {"$ref": REF_TEMPLATE.format(model=name)}


def object_of(properties: Mapping[str, Any], *optional: str, **more: Any) -> Schema:
    """An object that must have all of its properties but the ``optional`` ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": dict(properties), **more}


def response(description: str, content: Mapping[str, Any], *headers: str) -> Schema:
    """An answer: what it means, its bodies by content type, and its headers by name."""
    names = ("X-Request-Id", *headers)
    told: Schema = {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return told | ({"content": dict(content)} if content else {})


@dataclass(frozen=True)
class Refusals:
    """How a door refuses."""

    statuses: Mapping[StrEnum, HTTPStatus]
    """Of every code."""
    advice: Mapping[StrEnum, str]
    """What a client does about each."""
    invalid: Mapping[StrEnum, Mapping[str, str]]
    """Message and field that the example of a code shows instead of the advice."""

    def by_status(self, codes: Iterable[StrEnum], *headers: str) -> Schema:
        """The answers of an operation that may be refused for these."""
        groups = groupby(sorted(codes, key=self.statuses.__getitem__), self.statuses.__getitem__)
        return {str(status.value): self.response(list(group), *headers) for status, group in groups}

    def response(self, codes: Sequence[StrEnum], *headers: str) -> Schema:
        """The answer of codes that share a status."""
        only = {"properties": {"error": {"properties": {"code": {"enum": [*codes]}}}}}
        content = {
            "schema": ref("Error") | only,
            "examples": {code.value: {"value": self.example(code)} for code in codes},
        }
        if self.statuses[codes[0]] in _WAITING:
            headers = (*headers, "Retry-After")
        return response(" ".join(self.advice[code] for code in codes), {JSON: content}, *headers)

    def example(self, code: StrEnum) -> Schema:
        """A refusal as it is answered."""
        error = {"code": code, "message": self.advice[code], **self.invalid.get(code, {})}
        return {"success": False, "error": error, "requestId": REQUEST_ID}

    def schemas(self) -> dict[str, Schema]:
        """What a refusal is."""
        text = {"type": "string"}
        error = {"code": ref("ErrorCode"), "message": text, "field": text}
        told = {"success": {"const": False}, "error": object_of(error, "field"), "requestId": text}
        return {
            "Error": object_of(told, additionalProperties=False),
            "ErrorCode": {"enum": [*self.statuses]},
        }

    def table(self) -> Iterator[tuple[StrEnum, int, str]]:
        """Code, status and advice of each."""
        for code, status in self.statuses.items():
            yield code, status.value, self.advice[code]


@dataclass(frozen=True)
class Operations:
    """The routes that every door has for whoever runs it, and its documents."""

    refusals: Refusals
    anywhere: Sequence[StrEnum]
    """The codes of every route."""
    ready: str
    """What it means to be ready."""
    parts: Mapping[str, str]
    """What it needs for that, by name, and what is said of it when it is not there."""

    def paths(self) -> Schema:
        """Each with its operation."""
        metrics = {"schema": {"type": "string"}, "example": "process_open_fds 13.0\n"}
        told = {
            "/health": ("getHealth", "Whether the process serves.", self._health()),
            "/ready": ("getReady", f"Whether {self.ready}.", self._readiness()),
            "/metrics": (
                "getMetrics",
                "Measurements in Prometheus' text format.",
                {"200": response("All measurements.", {"text/plain": metrics})},
            ),
            "/openapi.json": ("getOpenapi", "This document.", _kept(JSON, {"type": "object"})),
            "/docs": ("getDocs", "The same for people.", _kept("text/html", {"type": "string"})),
        }
        return {path: {"get": self._get(*operation)} for path, operation in told.items()}

    def schemas(self) -> dict[str, Schema]:
        """What they answer."""
        parts = object_of({name: {"enum": ["ok", other]} for name, other in self.parts.items()})
        return {
            "Health": object_of({"status": {"const": "ok"}}),
            "Readiness": object_of({"status": {"enum": ["ready", "not_ready"]}, "parts": parts}),
        }

    def _get(self, operation_id: str, summary: str, responses: Schema) -> Schema:
        refused = self.refusals.by_status(self.anywhere)
        return {
            "operationId": operation_id,
            "summary": summary,
            "tags": ["operations"],
            "security": [],
            "responses": dict(sorted((refused | responses).items())),
        }

    def _health(self) -> Schema:
        return {
            "200": response(
                "It serves.", {JSON: {"schema": ref("Health"), "example": {"status": "ok"}}}
            )
        }

    def _readiness(self) -> Schema:
        first = next(iter(self.parts))
        well = dict.fromkeys(self.parts, "ok")
        ready = {
            "schema": ref("Readiness"),
            "example": {"status": "ready", "parts": well},
        }
        not_ready = {
            "schema": {"anyOf": [ref("Readiness"), ref("Error")]},
            "example": {
                "status": "not_ready",
                "parts": well | {first: self.parts[first]},
            },
        }
        return {
            "200": response("It is.", {JSON: ready}),
            "503": response("It is not.", {JSON: not_ready}, "Retry-After"),
        }


def _kept(content_type: str, schema: Schema) -> Schema:
    """The answers of a document that a client may keep."""
    return {
        "200": response("The document.", {content_type: {"schema": schema}}, "ETag"),
        "304": response("It is the one that If-None-Match names.", {}, "ETag"),
    }
