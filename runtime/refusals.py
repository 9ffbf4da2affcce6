"""The refusals of our HTTP doors: one body for all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar, Self

import orjson
from aiohttp import web


@dataclass
class RefusalError(Exception):
    """Ends a request with an error answer. Each door has its own codes, and a class of its own that
    gives each code its status."""

    statuses: ClassVar[Mapping[StrEnum, HTTPStatus]]

    code: StrEnum
    message: str
    field: str | None = None
    retry_after_seconds: int | None = None
    headers: dict[str, str] = dataclass_field(default_factory=dict)

    @classmethod
    def of_http(cls, error: Exception, *, too_large: str) -> Self | None:
        """The refusal that an error of aiohttp's stands for; None when it is no such error.

        Every door has the codes ``not_found``, ``method_not_allowed`` and ``invalid_payload``.
        """
        code = {str(known): known for known in cls.statuses}
        match error:
            case web.HTTPNotFound():
                return cls(code["not_found"], "there is no such route")
            case web.HTTPMethodNotAllowed():
                return cls(
                    code["method_not_allowed"],
                    "this route has other methods",
                    headers={"Allow": error.headers["Allow"]},
                )
            case web.HTTPRequestEntityTooLarge():
                return cls(code["invalid_payload"], too_large)
            case web.RequestPayloadError():
                return cls(
                    code["invalid_payload"], "the body is not what its Content-Encoding says"
                )
            case web.HTTPException():
                return cls(code["invalid_payload"], error.reason)
            case _:
                return None

    @property
    def status(self) -> HTTPStatus:
        """Of the answer."""
        return self.statuses[self.code]

    def response(self, request_id: str) -> web.Response:
        """``{"success":false,"error":{"code","message","field"?},"requestId"}``."""
        error: dict[str, str] = {"code": self.code, "message": self.message}
        if self.field is not None:
            error["field"] = self.field
        body = {"success": False, "error": error, "requestId": request_id}
        response = web.Response(
            status=self.status,
            body=orjson.dumps(body),
            content_type="application/json",
            headers=self.headers,
        )
        if self.retry_after_seconds is not None:
            response.headers["Retry-After"] = str(self.retry_after_seconds)
        return response
