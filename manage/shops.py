"""A shop's own server, which proves itself with its sync token."""

from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from manage.errors import ErrorCode, RefusedError
from manage.rows import ById
from manage.services import Services

REQUESTS_PER_MINUTE: Final = 30
"""Of one domain: a shop pushes when somebody saves its settings, and once a day."""


@dataclass(frozen=True, slots=True)
class Shop:
    """The server of one domain."""

    which: ById


async def authenticate(services: Services, request: web.Request) -> Shop:
    """The shop that ``Authorization: Bearer <sync token>`` proves.

    Raises ``RefusedError`` when it proves none, or one that asks too often.
    """
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    which = None
    if scheme.lower() == "bearer":
        which = await services.store.by_sync_token(token.strip())
    if which is None:
        raise RefusedError(
            ErrorCode.INVALID_TOKEN,
            "send the domain's sync token as Authorization: Bearer <token>; a new one makes the old "
            "one worthless",
        )
    if services.settings.manage.requests_per_minute:  # 0 is no limit for people, nor for shops
        await services.limits.check("sync", which.domain_id, most=REQUESTS_PER_MINUTE, seconds=60)
    return Shop(which)
