"""The OpenAPI document of the gateway: https://spec.openapis.org/oas/v3.1.0. Pure.

It is exact: what it allows is taken and what it forbids is refused, but for what no schema can say
(the size of a body, and the depth of a block).
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from ingest import examples
from ingest.body import CONTENT_TYPES
from ingest.errors import STATUS, ErrorCode
from ingest.guards import TOKEN_HEADER, TOKEN_PARAMETER
from ingest.openapi_schemas import schemas
from runtime.openapi import (
    HEADERS,
    JSON,
    LICENSE,
    RATE_LIMIT_HEADERS,
    Operations,
    Refusals,
    in_words_of_json,
    ref,
    response,
)
from schemas.limits import MAX_BODY_BYTES

_ADVICE: Final[Mapping[StrEnum, str]] = {
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
REFUSALS: Final = Refusals(
    STATUS,
    _ADVICE,
    {
        ErrorCode.INVALID_PAYLOAD: {
            "message": "must be Unix time in seconds, after 2001",
            "field": "events[0].eventTime",
        }
    },
)
_ANYWHERE: Final = (ErrorCode.INTERNAL_ERROR, ErrorCode.UNAVAILABLE)
_GUARDED: Final = (
    ErrorCode.DOMAIN_NOT_CONFIGURED,
    ErrorCode.SUBSCRIPTION_INACTIVE,
    ErrorCode.INVALID_TOKEN,
    ErrorCode.INVALID_PAYLOAD,
    *_ANYWHERE,
)
OPERATIONS: Final = Operations(
    REFUSALS,
    _ANYWHERE,
    "events can be taken",
    {"kafka": "unreachable", "redis": "unreachable", "configFeed": "reading"},
)
_LIMITED: Final = (*_GUARDED, ErrorCode.RATE_LIMITED, ErrorCode.REQUEST_LIMIT_EXCEEDED)

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
            "license": LICENSE,
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "pages", "description": "For the pages of a shop, and for its server."},
            {"name": "server", "description": "For the server of a shop alone."},
            {"name": "operations", "description": "For whoever runs the gateway."},
        ],
        "paths": _paths(),
        "components": {
            "schemas": in_words_of_json(schemas()) | REFUSALS.schemas() | OPERATIONS.schemas(),
            "headers": HEADERS,
            "responses": {
                "NotFound": REFUSALS.response([ErrorCode.NOT_FOUND]),
                "MethodNotAllowed": REFUSALS.response([ErrorCode.METHOD_NOT_ALLOWED]),
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
        headers=RATE_LIMIT_HEADERS,
    )
    blocks = _post(
        "postPmwEvents",
        "Send one event in the platforms' own words.",
        body=("Blocks", examples.BLOCKS),
        answer=("Accepted", examples.ACCEPTED_BLOCKS),
        codes=_LIMITED,
        headers=RATE_LIMIT_HEADERS,
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
        **OPERATIONS.paths(),
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
            "200": response("Taken." if headers else "Done.", {JSON: told}, *headers),
            **REFUSALS.by_status(codes, *headers),
        },
    }
