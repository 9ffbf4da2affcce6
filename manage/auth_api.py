"""Logging in by a magic link, and out."""

from collections.abc import Iterable
from typing import Annotated, Any, Final

from aiohttp import hdrs
from pydantic import Field
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from manage import actions, mail, organisations, secret_tokens, sessions, users
from manage.errors import ErrorCode, RefusedError, not_found, unavailable
from manage.org_answers import OrganisationView, organisation_view
from manage.routes import Access, Answer, Body, Call, Route
from manage.tables import LoginLink, User
from runtime.client_address import client_address, client_of
from schemas.wire import Wire

LINK_MINUTES: Final = 15
CALLBACK: Final = "/v1/auth/callback"
_HOUR_SECONDS: Final = 3600
_LINKS_OF_A_CLIENT: Final = 60
"""In an hour, to whatever addresses: an office may share one, a mailer of spam is not to be one."""

_Token = Annotated[str, Field(min_length=1, max_length=200)]


class LoginBody(Body):
    """Who wants a link."""

    email: users.Email


class LoginAnswer(Answer):
    """The same for every address: nobody is told whether it is known."""

    expires_in_seconds: int
    """For how long the link that was mailed works."""


class CallbackQuery(Body):
    """What stands in the link of a mail: one of both."""

    token: _Token | None = None
    """Of a login link."""
    invite: _Token | None = None
    """Of an invite, which logs its address in too."""


class UserView(Wire):
    """A person."""

    id: str
    email: str
    created_at: int
    """Unix milliseconds."""


class MeAnswer(Answer):
    """Whoever is logged in."""

    user: UserView
    organisation: OrganisationView | None
    """The current one: every other route is about it."""
    organisations: tuple[OrganisationView, ...]
    """All of theirs, the one they joined first before the others."""


class LogoutAnswer(Answer):
    """Nobody is logged in at this browser any more."""


async def log_in(call: Call[LoginBody, None]) -> LoginAnswer:
    """Mail a link. Whether the address is known is not even looked up: who is new is made a user by
    opening it."""
    services, email = call.services, call.body.email
    await services.limits.check(
        "login-client", _client(call), most=_LINKS_OF_A_CLIENT, seconds=_HOUR_SECONDS
    )
    await services.limits.check(
        "login",
        secret_tokens.hashed(email),
        most=services.settings.manage.logins_per_hour,
        seconds=_HOUR_SECONDS,
    )
    token, now = secret_tokens.new(), services.clock.now_ms()
    async with services.database.changing.begin() as session:
        session.add(
            LoginLink(
                token_sha256=token.sha256,
                email=email,
                created_at=now,
                expires_at=now + LINK_MINUTES * 60_000,
            )
        )
    link = f"{services.public_url}{CALLBACK}?token={token.text}"
    await send(call, mail.login(email, link, LINK_MINUTES))
    return LoginAnswer(expiresInSeconds=LINK_MINUTES * 60)


def _client(call: Call[Any, Any]) -> str:
    request = call.request
    return client_of(
        client_address(
            request.remote,
            request.headers.getall("X-Forwarded-For", ()),
            call.services.settings.manage.trusted_proxies,
        )
    )


async def send(call: Call[Any, Any], letter: mail.Mail) -> None:
    """Send a mail that somebody will wait for.

    Raises ``RefusedError``.
    """
    try:
        await call.services.mailer.send(letter)
    except mail.MailError:
        raise unavailable("the mail could not be sent; try again later") from None


async def open_link(call: Call[None, CallbackQuery]) -> MeAnswer:
    """Log in whoever opens the link of a mail, in a session of their own."""
    services, query, now = call.services, call.query, call.services.clock.now_ms()
    async with services.database.changing.begin() as session:
        if query.token is not None:
            user, joined = await _redeem_login(session, query.token, now), None
        else:
            user, joined = await _redeem_invite(session, call, query.invite or "", now)
        user.last_login_at = now
        belongings = await organisations.of_user(session, user.id)
        current = joined or next((one.organisation.id for one in belongings), None)
        # Whoever used this browser before is logged out of it.
        await sessions.end(session, call.request.cookies.get(sessions.COOKIE))
        cookie = await sessions.start(session, user.id, current, now)
    call.headers[hdrs.SET_COOKIE] = sessions.cookie(services, cookie)
    return _me(user, belongings, current)


async def log_out(call: Call[None, None]) -> LogoutAnswer:
    """End the session, if there is one."""
    async with call.services.database.changing.begin() as session:
        await sessions.end(session, call.request.cookies.get(sessions.COOKIE))
    call.headers[hdrs.SET_COOKIE] = sessions.no_cookie(call.services)
    return LogoutAnswer()


async def get_me(call: Call[None, None]) -> MeAnswer:
    """Tell who is logged in."""
    async with call.services.database.reading() as session:
        user = await session.get(User, call.user.user_id)
        if user is None:
            raise not_found("user")
        belongings = await organisations.of_user(session, user.id)
    return _me(user, belongings, call.user.organisation_id)


async def _redeem_login(session: AsyncSession, token: str, now_ms: int) -> User:
    """The user of a login link, which is used up by this.

    Raises ``RefusedError``.
    """
    email = await session.scalar(
        update(LoginLink)
        .where(
            LoginLink.token_sha256 == secret_tokens.hashed(token),
            LoginLink.used_at.is_(None),
            LoginLink.expires_at > now_ms,
        )
        .values(used_at=now_ms)
        .returning(LoginLink.email)
    )
    if email is None:
        raise _wrong_link()
    return await users.ensure(session, email, now_ms)


async def _redeem_invite(
    session: AsyncSession, call: Call[None, CallbackQuery], token: str, now_ms: int
) -> tuple[User, str]:
    """The user of an invite's address and the organisation that they belong to by it.

    Raises ``RefusedError``.
    """
    invite = await organisations.redeem(session, token, now_ms)
    if invite is None:
        raise _wrong_link()
    user = await users.ensure(session, invite.email, now_ms)
    await organisations.accept(session, invite, user.id, now_ms)
    actions.record(
        session,
        actions.Actor(user.id, call.request_id),
        "invite.accept",
        invite.id,
        organisation_id=invite.organisation_id,
        at=now_ms,
    )
    return user, invite.organisation_id


def _wrong_link() -> RefusedError:
    return RefusedError(
        ErrorCode.INVALID_TOKEN, "the link is wrong, was used or is too old; ask for a new one"
    )


def _me(user: User, belongings: Iterable[organisations.Belonging], current: str | None) -> MeAnswer:
    views = tuple(organisation_view(one) for one in belongings)
    return MeAnswer(
        user=UserView(id=user.id, email=user.email, createdAt=user.created_at),
        organisation=next((one for one in views if one.id == current), None),
        organisations=views,
    )


ROUTES: Final = (
    Route(
        "POST",
        "/v1/auth/login",
        "Ask for a login link by mail",
        log_in,
        Access.ANYBODY,
        LoginAnswer,
        body=LoginBody,
        codes=(ErrorCode.RATE_LIMITED,),
        tag="auth",
    ),
    Route(
        "GET",
        CALLBACK,
        "Log in with the link of a mail",
        open_link,
        Access.ANYBODY,
        MeAnswer,
        query=CallbackQuery,
        codes=(ErrorCode.INVALID_TOKEN,),
        tag="auth",
    ),
    Route("POST", "/v1/auth/logout", "Log out", log_out, Access.ANYBODY, LogoutAnswer, tag="auth"),
    Route("GET", "/v1/auth/me", "Who is logged in", get_me, Access.USER, MeAnswer, tag="auth"),
)
