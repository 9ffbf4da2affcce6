"""The refusals of the management API: each code with its HTTP status."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError

from runtime.errors import UnavailableError
from runtime.refusals import RefusalError

UNAVAILABLE_RETRY_SECONDS: Final = 5


class ErrorCode(StrEnum):
    """What a client can act on. What the gateway refuses too has its code."""

    NOT_AUTHENTICATED = "not_authenticated"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - a code, not a token
    FORBIDDEN = "forbidden"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    PLAN_LIMIT_REACHED = "plan_limit_reached"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    INVALID_PAYLOAD = "invalid_payload"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INTERNAL_ERROR = "internal_error"


STATUS: Final[Mapping[StrEnum, HTTPStatus]] = {
    ErrorCode.NOT_AUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    ErrorCode.INVALID_TOKEN: HTTPStatus.UNAUTHORIZED,
    ErrorCode.FORBIDDEN: HTTPStatus.FORBIDDEN,
    ErrorCode.ORIGIN_NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    ErrorCode.PLAN_LIMIT_REACHED: HTTPStatus.FORBIDDEN,
    ErrorCode.CONFLICT: HTTPStatus.CONFLICT,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.INVALID_PAYLOAD: HTTPStatus.BAD_REQUEST,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class RefusedError(RefusalError):
    """Ends a request of the management API with an error answer."""

    statuses = STATUS


def not_found(what: str) -> RefusedError:
    """404: there is none, or it is somebody else's."""
    return RefusedError(ErrorCode.NOT_FOUND, f"there is no such {what}")


def invalid(message: str, field: str | None = None) -> RefusedError:
    """400: the body, or the query, is to be mended."""
    return RefusedError(ErrorCode.INVALID_PAYLOAD, message, field)


def unavailable(message: str) -> RefusedError:
    """503: it is to be tried again."""
    return RefusedError(
        ErrorCode.UNAVAILABLE, message, retry_after_seconds=UNAVAILABLE_RETRY_SECONDS
    )


def from_validation(error: ValidationError) -> RefusedError:
    """The first thing that is wrong with a body, without the value, which may be a token."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return invalid(first["msg"].removeprefix("Value error, "), path or None)


def as_refusal(error: Exception) -> RefusedError | None:
    """The refusal that an error of ours or of aiohttp's stands for; None when it is unexpected."""
    match error:
        case RefusedError():
            return error
        case UnavailableError() | OperationalError() | InterfaceError() | OSError():
            return unavailable("something that this needs does not answer; try again")
        case _:
            return RefusedError.of_http(error, too_large="the body is too large")
