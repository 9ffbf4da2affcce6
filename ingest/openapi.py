"""The OpenAPI document of the gateway: https://spec.openapis.org/oas/v3.1.0. Pure.

It is exact: what it allows is taken and what it forbids is refused, but for what no schema can say
(the size of a body, and the depth of a block).
"""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from itertools import groupby
from typing import Any, Final

from ingest import examples
from ingest.body import CONTENT_TYPES
from ingest.errors import STATUS, ErrorCode
from ingest.guards import TOKEN_HEADER, TOKEN_PARAMETER
from ingest.openapi_schemas import ref, schemas
from schemas.limits import MAX_BODY_BYTES

JSON: Final = "application/json"

ADVICE: Final[Mapping[ErrorCode, str]] = {
    ErrorCode.DOMAIN_NOT_CONFIGURED: "No domain is configured for this host.",
    ErrorCode.SUBSCRIPTION_INACTIVE: "The domain's plan does not let events through.",
    ErrorCode.INVALID_TOKEN: "The token is missing, or not this domain's.",
    ErrorCode.RATE_LIMITED: "Wait as long as Retry-After says; put several events in one request.",
    ErrorCode.REQUEST_LIMIT_EXCEEDED: "The month's events are used up.",
    ErrorCode.INVALID_PAYLOAD: "Mend what message and field say. Do not repeat the same body.",
    ErrorCode.UNAVAILABLE: "Send the same body again after Retry-After.",
    ErrorCode.NOT_FOUND: "There is no such route.",
    ErrorCode.METHOD_NOT_ALLOWED: "The route has other methods; Allow names them.",
    ErrorCode.INTERNAL_ERROR: "Send the same body again; the gateway's log has the request id.",
}
_ANYWHERE: Final = (ErrorCode.INTERNAL_ERROR, ErrorCode.UNAVAILABLE)
_GUARDED: Final = (
    ErrorCode.DOMAIN_NOT_CONFIGURED,
    ErrorCode.SUBSCRIPTION_INACTIVE,
    ErrorCode.INVALID_TOKEN,
    ErrorCode.INVALID_PAYLOAD,
    *_ANYWHERE,
)
_LIMITED: Final = (*_GUARDED, ErrorCode.RATE_LIMITED, ErrorCode.REQUEST_LIMIT_EXCEEDED)

_HEADERS: Final = {
    "X-Request-Id": {
        "description": "Names the request in the gateway's log.",
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
        "description": "Seconds to wait before the same body is sent again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "ETag": {
        "description": "Changes with the document.",
        "required": True,
        "schema": {"type": "string"},
    },
}
_RATE_LIMIT: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_WAITING: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}

_PAGE: Final[list[dict[str, list[str]]]] = [{"domainToken": []}, {"domainTokenInAddress": []}]
_SERVER: Final[list[dict[str, list[str]]]] = [{"syncToken": []}]


@cache
def document() -> dict[str, Any]:
    """The whole document; not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "capistream gateway",
            "version": version("capistream"),
            "description": (
                "Takes a shop's events; 200 means that Kafka has acknowledged every event of the "
                "body. The Host header says which shop it is. Anything else than 200 refuses the "
                "whole body; sending it again is safe. A key that no schema knows is left out and "
                "named in warnings, but refused by a domain that is strict. A body has at most "
                f"{MAX_BODY_BYTES} bytes when it is unpacked."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "pages", "description": "For the pages of a shop, and for its server."},
            {"name": "server", "description": "For the server of a shop alone."},
            {"name": "operations", "description": "For whoever runs the gateway."},
        ],
        "paths": _paths(),
        "components": {
            "schemas": schemas(),
            "headers": _HEADERS,
            "responses": {
                "NotFound": _refusal([ErrorCode.NOT_FOUND]),
                "MethodNotAllowed": _refusal([ErrorCode.METHOD_NOT_ALLOWED]),
            },
            "securitySchemes": {
                "domainToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": TOKEN_HEADER,
                    "description": "The domain's token, which stands in the shop's pages.",
                },
                "domainTokenInAddress": {
                    "type": "apiKey",
                    "in": "query",
                    "name": TOKEN_PARAMETER,
                    "description": "The same, for navigator.sendBeacon, which sets no header.",
                },
                "syncToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The domain's sync token, which only the shop's server has.",
                },
            },
        },
    }


def _paths() -> dict[str, Any]:
    events = _post(
        "postEvents",
        "Send 1 to 100 events.",
        body=("Events", examples.EVENTS),
        answer=("Accepted", examples.ACCEPTED),
        codes=_LIMITED,
        headers=_RATE_LIMIT,
    )
    blocks = _post(
        "postPmwEvents",
        "Send one event in the platforms' own words.",
        body=("Blocks", examples.BLOCKS),
        answer=("Accepted", examples.ACCEPTED_BLOCKS),
        codes=_LIMITED,
        headers=_RATE_LIMIT,
    )
    purchases = _post(
        "postPurchaseEvents",
        "Send 1 to 100 events under a key; a key that was accepted before is not taken again.",
        body=("Dispatch", examples.DISPATCH),
        answer=("AcceptedDispatch", examples.ACCEPTED_DISPATCH),
        codes=(*_GUARDED, ErrorCode.REQUEST_LIMIT_EXCEEDED),
    )
    status = _post(
        "postDispatchStatus",
        "Ask what became of a key.",
        body=("DispatchKey", examples.DISPATCH_KEY),
        answer=("DispatchStatus", examples.DISPATCH_STATUS),
        codes=_GUARDED,
    )
    return {
        "/v1/events": {"post": events | {"tags": ["pages"], "security": _PAGE}},
        "/v1/pmw-events": {"post": blocks | {"tags": ["pages"], "security": _PAGE}},
        "/v1/sync/purchase-events": {"post": purchases | {"tags": ["server"], "security": _SERVER}},
        "/v1/sync/dispatch-status": {"post": status | {"tags": ["server"], "security": _SERVER}},
        "/health": {"get": _get("getHealth", "Whether the process serves.", _health())},
        "/ready": {"get": _get("getReady", "Whether events can be taken.", _readiness())},
        "/metrics": {
            "get": _get("getMetrics", "Measurements in Prometheus' text format.", _metrics())
        },
        "/openapi.json": {
            "get": _get("getOpenapi", "This document.", _page(JSON, {"type": "object"}))
        },
        "/docs": {
            "get": _get("getDocs", "The same for people.", _page("text/html", {"type": "string"}))
        },
    }


def _post(
    operation_id: str,
    summary: str,
    *,
    body: tuple[str, Any],
    answer: tuple[str, Any],
    codes: tuple[ErrorCode, ...],
    headers: tuple[str, ...] = (),
) -> dict[str, Any]:
    sent = {"schema": ref(body[0]), "example": body[1]}
    told = {"schema": ref(answer[0]), "example": answer[1]}
    return {
        "operationId": operation_id,
        "summary": summary,
        "requestBody": {
            "required": True,
            "description": "JSON; as text/plain, which spares a page the preflight, it is the same.",
            "content": dict.fromkeys(CONTENT_TYPES, sent),
        },
        "responses": {
            "200": _response("Taken." if headers else "Done.", {JSON: told}, *headers),
            **_refusals(codes, *headers),
        },
    }


def _get(operation_id: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["operations"],
        "security": [],
        "responses": responses
        | {k: v for k, v in _refusals(_ANYWHERE).items() if k not in responses},
    }


def _health() -> dict[str, Any]:
    content = {JSON: {"schema": ref("Health"), "example": examples.HEALTH}}
    return {"200": _response("It serves.", content)}


def _readiness() -> dict[str, Any]:
    ready = {"schema": ref("Readiness"), "example": examples.READY}
    not_ready = {
        "schema": {"anyOf": [ref("Readiness"), ref("Error")]},
        "example": examples.NOT_READY,
    }
    return {
        "200": _response("Events can be taken.", {JSON: ready}),
        "503": _response("They cannot.", {JSON: not_ready}, "Retry-After"),
    }


def _metrics() -> dict[str, Any]:
    text = {"schema": {"type": "string"}, "example": examples.METRICS}
    return {"200": _response("All measurements.", {"text/plain": text})}


def _page(content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "200": _response("The document.", {content_type: {"schema": schema}}, "ETag"),
        "304": _response("It is the one that If-None-Match names.", {}, "ETag"),
    }


def _refusals(codes: tuple[ErrorCode, ...], *headers: str) -> dict[str, Any]:
    by_status = groupby(sorted(codes, key=_status), _status)
    return {str(status.value): _refusal(list(group), *headers) for status, group in by_status}


def _status(code: ErrorCode) -> HTTPStatus:
    return STATUS[code]


def _refusal(codes: list[ErrorCode], *headers: str) -> dict[str, Any]:
    only = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    content = {
        "schema": ref("Error") | only,
        "examples": {code.value: {"value": _example(code)} for code in codes},
    }
    if _status(codes[0]) in _WAITING:
        headers = (*headers, "Retry-After")
    return _response(" ".join(ADVICE[code] for code in codes), {JSON: content}, *headers)


def _example(code: ErrorCode) -> dict[str, Any]:
    error = {"code": code, "message": ADVICE[code]}
    if code is ErrorCode.INVALID_PAYLOAD:
        error |= {
            "message": "must be Unix time in seconds, after 2001",
            "field": "events[0].eventTime",
        }
    return {"success": False, "error": error, "requestId": examples.REQUEST_ID}


def _response(description: str, content: Mapping[str, Any], *headers: str) -> dict[str, Any]:
    names = ("X-Request-Id", *headers)
    response: dict[str, Any] = {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
    }
    return response | ({"content": dict(content)} if content else {})
