"""The OpenAPI document of the management API: https://spec.openapis.org/oas/v3.1.0. Pure.

It is made of the table of routes and of their models, and says nothing that does not stand there.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from manage.errors import STATUS, ErrorCode
from manage.openapi_examples import Examples
from manage.routes import Access, Route
from manage.sessions import COOKIE
from runtime.openapi import (
    HEADERS,
    JSON,
    LICENSE,
    RATE_LIMIT_HEADERS,
    REF_TEMPLATE,
    REQUEST_ID,
    Operations,
    PlainSchema,
    Refusals,
    Schema,
    in_words_of_json,
    object_of,
    ref,
    response,
)

_ADVICE: Final[Mapping[StrEnum, str]] = {
    ErrorCode.NOT_AUTHENTICATED: "Log in with POST /v1/auth/login.",
    ErrorCode.INVALID_TOKEN: "The token is missing, unknown, used or too old.",
    ErrorCode.FORBIDDEN: "Ask somebody of the organisation who may.",
    ErrorCode.ORIGIN_NOT_ALLOWED: "Send it from a page of the API's own origin, or from no page.",
    ErrorCode.PLAN_LIMIT_REACHED: "The plan allows no more of these.",
    ErrorCode.CONFLICT: "It does not fit what is there; look at that first.",
    ErrorCode.RATE_LIMITED: "Wait as long as Retry-After says.",
    ErrorCode.INVALID_PAYLOAD: "Mend what message and field say. Do not repeat the same request.",
    ErrorCode.UNAVAILABLE: "Send the same request again after Retry-After.",
    ErrorCode.NOT_FOUND: "There is no such thing, or it is somebody else's.",
    ErrorCode.METHOD_NOT_ALLOWED: "The route has other methods; Allow names them.",
    ErrorCode.INTERNAL_ERROR: "Look for the request id in the log.",
}
REFUSALS: Final = Refusals(
    STATUS,
    _ADVICE,
    {ErrorCode.INVALID_PAYLOAD: {"message": "String should have at least 1 character", "field": "name"}},
)  # fmt: skip
_ANYWHERE: Final = (ErrorCode.INTERNAL_ERROR, ErrorCode.UNAVAILABLE)
OPERATIONS: Final = Operations(
    REFUSALS,
    _ANYWHERE,
    "all is there that the API needs",
    dict.fromkeys(("database", "kafka", "redis"), "unreachable"),
)

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FOR: Final[Mapping[Access, str]] = {
    Access.ANYBODY: "For anybody.",
    Access.USER: "For whoever is logged in.",
    Access.MEMBER: "For the members of the session's current organisation.",
    Access.ADMIN: "For the admins and the owner of the session's current organisation.",
    Access.OWNER: "For the owner of the session's current organisation.",
}
_ANSWERED: Final = "Answered"


@cache
def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """The whole document of these routes; not to be changed."""
    models = _Models(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "capistream management",
            "version": version("capistream"),
            "description": (
                "Organisations, domains, destinations, and what became of their events. A session "
                "comes with the link that POST /v1/auth/login mails; it has one current "
                "organisation at a time. What belongs to another one is not found. Moments are Unix "
                "milliseconds, days are UTC. No text holds the character U+0000."
            ),
            "license": LICENSE,
        },
        "servers": [{"url": "/"}],
        "tags": [
            *({"name": tag, "description": tag.capitalize()} for tag in _tags(routes)),
            {"name": "operations", "description": "For whoever runs the API."},
        ],
        "paths": paths | OPERATIONS.paths(),
        "components": {
            "schemas": models.schemas | REFUSALS.schemas() | OPERATIONS.schemas(),
            "headers": HEADERS,
            "responses": {
                "NotFound": REFUSALS.response([ErrorCode.NOT_FOUND]),
                "MethodNotAllowed": REFUSALS.response([ErrorCode.METHOD_NOT_ALLOWED]),
            },
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "Set by GET /v1/auth/callback, to which the mailed link leads.",
                },
                "syncToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The domain's sync token, which only the shop's server has.",
                },
            },
        },
    }


def _tags(routes: tuple[Route, ...]) -> list[str]:
    return list(dict.fromkeys(route.tag for route in routes))


class _Models:
    """The schemas of all that is sent and answered."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        inputs: dict[tuple[type[BaseModel], Literal["validation", "serialization"]], None] = {}
        for route in routes:
            for model in (route.body, route.query):
                if model is not None:
                    inputs[model, "validation"] = None
            if route.answer is not None:
                inputs[route.answer, "serialization"] = None
        references, told = models_json_schema(
            list(inputs), ref_template=REF_TEMPLATE, schema_generator=PlainSchema
        )
        self._references = references
        self.schemas: dict[str, Schema] = in_words_of_json(told.get("$defs", {}))
        queries = {route.query for route in routes if route.query is not None}
        self._queries = {
            query: self.schemas.pop(self._name(query, "validation")) for query in queries
        }
        answered = {"success": {"const": True}, "requestId": {"type": "string"}}
        self.schemas[_ANSWERED] = object_of(answered)
        self._examples = Examples(self.schemas)

    def body(self, model: type[BaseModel]) -> Schema:
        """Of a request: its schema and an example."""
        told = ref(self._name(model, "validation"))
        return {"schema": told, "example": self._examples.of(told)}

    def answer(self, model: type[BaseModel]) -> Schema:
        """Of what is answered: its schema and an example."""
        told = ref(self._name(model, "serialization"))
        example = {"success": True, **self._examples.of(told), "requestId": REQUEST_ID}
        return {"schema": {"allOf": [ref(_ANSWERED), told]}, "example": example}

    def parameters(self, model: type[BaseModel]) -> list[Schema]:
        """Of a query. In an address, what is absent is not written as null."""
        told = self._queries[model]
        required = told.get("required", ())
        found = []
        for name, field in told.get("properties", {}).items():
            schema = {key: value for key, value in field.items() if key != "description"}
            kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
            schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
            parameter = {
                "name": name,
                "in": "query",
                "required": name in required,
                "schema": schema,
            }
            if "description" in field:
                parameter["description"] = field["description"]
            found.append(parameter)
        return found

    def _name(self, model: type[BaseModel], mode: Literal["validation", "serialization"]) -> str:
        return str(self._references[model, mode]["$ref"]).rpartition("/")[2]


def _operation(route: Route, models: _Models) -> Schema:
    told: Schema = {
        "operationId": to_camel(route.handler.__name__),
        "summary": route.summary,
        "description": _for(route),
        "tags": [route.tag],
        "security": _security(route),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _path_names(route.path)
    ]
    if route.query is not None:
        parameters += models.parameters(route.query)
    if parameters:
        told["parameters"] = parameters
    if route.body is not None:
        told["requestBody"] = {"required": True, "content": {JSON: models.body(route.body)}}
    headers = RATE_LIMIT_HEADERS if _has_session(route) else ()
    told["responses"] = {
        str(route.status): _success(route, models, headers),
        **REFUSALS.by_status(dict.fromkeys(_codes(route)), *headers),
    }
    return told


def _success(route: Route, models: _Models, headers: tuple[str, ...]) -> Schema:
    if route.answer is None:
        stream = {"schema": {"type": "string"}}
        return response("Server-sent events.", {"text/event-stream": stream}, *headers)
    return response("Done.", {JSON: models.answer(route.answer)}, *headers)


def _codes(route: Route) -> Iterator[ErrorCode]:
    """What the route may be refused for: the rules of ``manage.app``, and its own."""
    if route.bearer:
        yield ErrorCode.INVALID_TOKEN
    elif route.method not in _SAFE_METHODS:
        yield ErrorCode.ORIGIN_NOT_ALLOWED
    if _has_session(route):
        yield ErrorCode.NOT_AUTHENTICATED
        yield ErrorCode.RATE_LIMITED
    if route.access > Access.USER:
        yield ErrorCode.FORBIDDEN
    if route.body is not None or route.query is not None:
        yield ErrorCode.INVALID_PAYLOAD
    if "{" in route.path:
        yield ErrorCode.NOT_FOUND
    yield from route.codes
    yield from _ANYWHERE


def _has_session(route: Route) -> bool:
    return not route.bearer and route.access > Access.ANYBODY


def _for(route: Route) -> str:
    return "For the shop's server." if route.bearer else _FOR[route.access]


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.bearer:
        return [{"syncToken": []}]
    return [{"session": []}] if _has_session(route) else []


def _path_names(path: str) -> Iterator[str]:
    for part in path.split("/"):
        if part.startswith("{"):
            yield part[1:-1]
