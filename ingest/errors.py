"""The gateway's refusals: each code with its HTTP status."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from ingest.validate import TOO_LARGE, InvalidPayloadError
from runtime.refusals import RefusalError


class ErrorCode(StrEnum):
    """What a client can act on. The names are the replaced API's where it has one."""

    DOMAIN_NOT_CONFIGURED = "domain_not_configured"
    SUBSCRIPTION_INACTIVE = "subscription_inactive"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a token
    RATE_LIMITED = "rate_limited"
    REQUEST_LIMIT_EXCEEDED = "request_limit_exceeded"
    INVALID_PAYLOAD = "invalid_payload"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INTERNAL_ERROR = "internal_error"


STATUS: Final[Mapping[StrEnum, HTTPStatus]] = {
    ErrorCode.DOMAIN_NOT_CONFIGURED: HTTPStatus.NOT_FOUND,
    ErrorCode.SUBSCRIPTION_INACTIVE: HTTPStatus.FORBIDDEN,
    ErrorCode.INVALID_TOKEN: HTTPStatus.UNAUTHORIZED,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.REQUEST_LIMIT_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.INVALID_PAYLOAD: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class RefusedError(RefusalError):
    """Ends a request of the gateway's with an error answer."""

    statuses = STATUS


RETRY_AFTER_SECONDS: Final = 2


def unavailable(message: str) -> RefusedError:
    """503: nothing is wrong with the request; send it again."""
    return RefusedError(ErrorCode.UNAVAILABLE, message, retry_after_seconds=RETRY_AFTER_SECONDS)


def as_refusal(error: Exception) -> RefusedError | None:
    """The refusal that an error of ours or of aiohttp's stands for; None when it is unexpected."""
    match error:
        case RefusedError():
            return error
        case InvalidPayloadError():
            return RefusedError(ErrorCode.INVALID_PAYLOAD, error.message, error.field)
        case _:
            return RefusedError.of_http(error, too_large=TOO_LARGE)
