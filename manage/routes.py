"""What a route of the management API is. The tables of them make both the router and the OpenAPI
document."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from manage.errors import ErrorCode, RefusedError
from manage.services import Services
from manage.shops import Shop
from manage.tables import Role
from schemas.wire import Wire


class Body(Wire):
    """The base of every body and query that is taken: a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Answer(Wire):
    """The base of every answer; ``success`` and ``requestId`` are put around it."""


class Done(Answer):
    """It is done, and there is nothing more to say."""


class Access(IntEnum):
    """Who may call a route; each may do what those before may."""

    ANYBODY = 0
    USER = 1
    """Whoever is logged in."""
    MEMBER = 2
    """Of the current organisation."""
    ADMIN = 3
    OWNER = 4


_NO_ORGANISATION: Final = "there is no current organisation; create one, or switch to one"
_RANKS: Final = {Role.MEMBER: Access.MEMBER, Role.ADMIN: Access.ADMIN, Role.OWNER: Access.OWNER}


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever is logged in."""

    user_id: str
    email: str
    session_sha256: str
    organisation_id: str | None = None
    """The current one."""
    role: Role | None = None
    """In it."""

    def may(self, access: Access) -> bool:
        """Whether a route of this access is open to them."""
        rank = _RANKS[self.role] if self.role else Access.USER
        return rank >= access

    def check(self, access: Access) -> None:
        """Raises ``RefusedError`` unless a route of this access is open to them."""
        if self.may(access):
            return
        if self.role is None:
            raise RefusedError(ErrorCode.FORBIDDEN, _NO_ORGANISATION)
        raise RefusedError(ErrorCode.FORBIDDEN, f"this needs the role {access.name.lower()}")


B = TypeVar("B", bound=BaseModel | None)
Q = TypeVar("Q", bound=BaseModel | None)


@dataclass(slots=True)
class Call(Generic[B, Q]):
    """One request, read and allowed."""

    services: Services
    request: web.Request
    request_id: str
    body: B
    query: Q
    who: Who | None = None
    shop: Shop | None = None
    """Whose server calls a route of theirs."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the answer."""

    @property
    def user(self) -> Who:
        """Whoever calls a route that needs a login."""
        if self.who is None:
            raise AssertionError("the route is open to anybody")
        return self.who

    @property
    def organisation_id(self) -> str:
        """The current organisation of whoever calls a route of members."""
        if self.user.organisation_id is None:
            raise RefusedError(ErrorCode.FORBIDDEN, _NO_ORGANISATION)
        return self.user.organisation_id

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]


Handler: TypeAlias = Callable[[Call[Any, Any]], Awaitable[Answer | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    """As aiohttp and OpenAPI both write it: ``/v1/domains/{domain_id}``."""
    summary: str
    handler: Handler
    access: Access
    answer: type[Answer] | None
    """None: a stream, which the handler makes itself."""
    body: type[Body] | None = None
    query: type[BaseModel] | None = None
    status: int = 200
    codes: tuple[ErrorCode, ...] = ()
    """What it may be refused for, besides what follows from the rest."""
    bearer: bool = False
    """Whether the shop's server proves itself with its sync token, instead of a session."""
    tag: str = "organisation"
