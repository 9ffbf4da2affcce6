"""Who is logged in: a random token in a cookie, kept as its SHA-256."""

from http.cookies import Morsel, SimpleCookie
from typing import Final, NamedTuple

from aiohttp import web
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from manage import secret_tokens
from manage.routes import Who
from manage.services import Services
from manage.tables import LoginLink, Membership, Role, Session, User

COOKIE: Final = "sc_session"
LIFETIME_SECONDS: Final = 30 * 24 * 3600
"""Since it was last used, give or take the hour below."""
_TOUCH_SECONDS: Final = 3600
"""A session that is in use is written at most so often."""

SLID: Final = web.RequestKey("slid", str)
"""The token of a session that lives longer since this request: the answer renews its cookie."""


class _Found(NamedTuple):
    session: Session
    email: str
    role: str | None


async def who(services: Services, request: web.Request) -> Who | None:
    """Whoever the cookie of the request proves; None: nobody.

    A session that is used lives on.
    """
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    async with services.database.reading() as session:
        found = await _find(session, secret_tokens.hashed(token), services.clock.now_ms())
    if found is None:
        return None
    await _slide(services, request, found.session, token)
    return Who(
        user_id=found.session.user_id,
        email=found.email,
        session_sha256=found.session.token_sha256,
        organisation_id=found.session.organisation_id if found.role else None,
        role=Role(found.role) if found.role else None,
    )


async def start(
    session: AsyncSession, user_id: str, organisation_id: str | None, now_ms: int
) -> str:
    """Log somebody in; answers the token, which nobody can read again."""
    token = secret_tokens.new()
    session.add(
        Session(
            token_sha256=token.sha256,
            user_id=user_id,
            organisation_id=organisation_id,
            created_at=now_ms,
            expires_at=now_ms + LIFETIME_SECONDS * 1000,
        )
    )
    await session.flush()
    return token.text


async def end(session: AsyncSession, token: str | None) -> None:
    """Log out whoever this token proves, if anybody."""
    if token:
        known = Session.token_sha256 == secret_tokens.hashed(token)
        await session.execute(delete(Session).where(known))


async def leave(session: AsyncSession, user_id: str, organisation_id: str) -> None:
    """Take an organisation off a user's sessions."""
    await session.execute(
        update(Session)
        .where(Session.user_id == user_id, Session.organisation_id == organisation_id)
        .values(organisation_id=None)
    )


async def switch(session: AsyncSession, caller: Who, organisation_id: str) -> None:
    """Make an organisation the current one of the caller's session."""
    await session.execute(
        update(Session)
        .where(Session.token_sha256 == caller.session_sha256)
        .values(organisation_id=organisation_id)
    )


async def sweep(services: Services) -> None:
    """Delete the sessions and the login links whose time is over."""
    now = services.clock.now_ms()
    async with services.database.changing.begin() as session:
        await session.execute(delete(Session).where(Session.expires_at <= now))
        await session.execute(delete(LoginLink).where(LoginLink.expires_at <= now))


def cookie(services: Services, token: str) -> str:
    """The ``Set-Cookie`` that has the browser keep a token. Pages cannot read it, and other sites'
    forms do not send it."""
    return _set_cookie(services, token, LIFETIME_SECONDS)


def no_cookie(services: Services) -> str:
    """The ``Set-Cookie`` that has the browser forget it."""
    return _set_cookie(services, "", 0)


def _set_cookie(services: Services, value: str, seconds: int) -> str:
    morsel: Morsel[str] = SimpleCookie({COOKIE: value})[COOKIE]
    morsel.update({"path": "/", "max-age": str(seconds), "samesite": "Lax"})
    morsel["httponly"] = True
    morsel["secure"] = not services.settings.manage.development
    return morsel.OutputString()


async def _find(session: AsyncSession, sha256: str, now_ms: int) -> _Found | None:
    row = (
        await session.execute(
            select(Session, User.email, Membership.role)
            .join(User, User.id == Session.user_id)
            .outerjoin(
                Membership,
                (Membership.user_id == Session.user_id)
                & (Membership.organisation_id == Session.organisation_id),
            )
            .where(Session.token_sha256 == sha256, Session.expires_at > now_ms)
        )
    ).one_or_none()
    return _Found(*row) if row else None


async def _slide(services: Services, request: web.Request, known: Session, token: str) -> None:
    until = services.clock.now_ms() + LIFETIME_SECONDS * 1000
    if until - known.expires_at < _TOUCH_SECONDS * 1000:
        return
    async with services.database.changing.begin() as session:
        await session.execute(
            update(Session)
            .where(Session.token_sha256 == known.token_sha256)
            .values(expires_at=until)
        )
    request[SLID] = token
