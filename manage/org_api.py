"""Organisations: their settings, members, invites, subscription and audit log."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from manage import actions, mail, organisations, plans, secret_tokens, sessions
from manage.auth_api import CALLBACK, send
from manage.errors import ErrorCode, not_found
from manage.org_answers import (
    ActionsAnswer,
    InviteAnswer,
    MemberAnswer,
    MembersAnswer,
    OrganisationAnswer,
    OrganisationsAnswer,
    SettingsAnswer,
    SubscriptionAnswer,
    action_view,
    invite_view,
    member_view,
    organisation_view,
    subscription_view,
)
from manage.routes import Access, Body, Call, Done, Route
from manage.tables import AdminAction, Membership, Organisation, Role, User
from manage.users import Email

_HOUR_SECONDS: Final = 3600
_CURSOR: Final = r"^[0-9]{1,15}-act_[0-9a-f]{16}$"

Name = Annotated[
    str,
    # One line: it stands in the subjects of mails.
    StringConstraints(
        min_length=1, max_length=organisations.MAX_NAME, pattern=r"^[^\x00-\x1f\x7f]+$"
    ),
]


class NameBody(Body):
    """How an organisation is called."""

    name: Name


class InviteBody(Body):
    """Who is to join, as what."""

    email: Email
    role: Literal["admin", "member"]


class RoleBody(Body):
    """What a member is to be. ``owner``, by the owner: their own role is handed over."""

    role: Role


class ActionsQuery(Body):
    """A page of the audit log."""

    cursor: Annotated[str, Field(pattern=_CURSOR)] | None = None
    """``nextCursor`` of the page before."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


async def list_organisations(call: Call[None, None]) -> OrganisationsAnswer:
    """The organisations that the caller belongs to."""
    async with call.services.database.reading() as session:
        found = await organisations.of_user(session, call.user.user_id)
    return OrganisationsAnswer(organisations=tuple(organisation_view(one) for one in found))


async def create_organisation(call: Call[NameBody, None]) -> OrganisationAnswer:
    """Make an organisation, which the caller owns, their current one."""
    services, user_id = call.services, call.user.user_id
    plan_id, now = services.settings.manage.default_plan, services.clock.now_ms()
    async with services.database.changing.begin() as session:
        made = await organisations.create(session, call.body.name, user_id, plan_id, now)
        await sessions.switch(session, call.user, made.id)
        _record(session, call, "organisation.create", made.id, organisation_id=made.id)
    return _organisation(made, Role.OWNER)


async def switch_organisation(call: Call[None, None]) -> OrganisationAnswer:
    """Make another organisation of the caller's the current one."""
    wanted = call.path("org_id")
    async with call.services.database.changing.begin() as session:
        found = await organisations.of_user(session, call.user.user_id)
        chosen = next((one for one in found if one.organisation.id == wanted), None)
        if chosen is None:
            raise not_found("organisation")
        await sessions.switch(session, call.user, wanted)
    return _organisation(chosen.organisation, chosen.role)


async def get_settings(call: Call[None, None]) -> SettingsAnswer:
    """The current organisation, with its subscription."""
    async with call.services.database.reading() as session:
        found = await _current(session, call)
        plan = await plans.limits_of(session, found.organisation.id)
    return SettingsAnswer(
        organisation=organisation_view(found),
        subscription=subscription_view(found.organisation, plan, call.services.clock.now_ms()),
    )


async def rename_organisation(call: Call[NameBody, None]) -> OrganisationAnswer:
    """Give the current organisation another name."""
    async with call.services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, Access.ADMIN)
        found = await _current(session, call)
        found.organisation.name = call.body.name
        _record(session, call, "organisation.rename", organisation_id)
    return _organisation(found.organisation, found.role)


async def delete_organisation(call: Call[None, None]) -> Done:
    """Delete the current organisation, once it has no domains."""
    async with call.services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, Access.OWNER)
        await organisations.delete_organisation(session, organisation_id)
        _record(session, call, "organisation.delete", organisation_id)
    return Done()


async def get_subscription(call: Call[None, None]) -> SubscriptionAnswer:
    """The plan of the current organisation, and what it allows."""
    async with call.services.database.reading() as session:
        found = await _current(session, call)
        plan = await plans.limits_of(session, found.organisation.id)
    return SubscriptionAnswer(
        subscription=subscription_view(found.organisation, plan, call.services.clock.now_ms())
    )


async def list_members(call: Call[None, None]) -> MembersAnswer:
    """Who belongs to the current organisation, and for admins, who is asked to."""
    invites = None
    async with call.services.database.reading() as session:
        found = await organisations.members(session, call.organisation_id)
        if call.user.may(Access.ADMIN):
            invites = await organisations.pending_invites(
                session, call.organisation_id, call.services.clock.now_ms()
            )
    return MembersAnswer(
        members=tuple(member_view(one) for one in found),
        invites=None if invites is None else tuple(invite_view(one) for one in invites),
    )


async def invite_member(call: Call[InviteBody, None]) -> InviteAnswer:
    """Ask somebody to join, by a mail whose link logs them in too."""
    services, email = call.services, call.body.email
    await services.limits.check(
        "invite",
        secret_tokens.hashed(email),
        most=services.settings.manage.logins_per_hour,
        seconds=_HOUR_SECONDS,
    )
    async with services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, Access.ADMIN)
        found = await _current(session, call)
        made = await organisations.invite(
            session,
            organisation_id,
            email=email,
            role=Role(call.body.role),
            invited_by=call.user.user_id,
            now_ms=services.clock.now_ms(),
        )
        _record(session, call, "invite.create", made.invite.id)
    link = f"{services.public_url}{CALLBACK}?invite={made.token}"
    name, days = found.organisation.name, organisations.INVITE_DAYS
    await send(call, mail.invite(email, link, name, call.user.email, days))
    return InviteAnswer(invite=invite_view(made.invite))


async def withdraw_invite(call: Call[None, None]) -> Done:
    """Make an invite worthless."""
    async with call.services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, Access.ADMIN)
        gone = await organisations.withdraw(session, organisation_id, call.path("invite_id"))
        _record(session, call, "invite.withdraw", gone.id)
    return Done()


async def change_role(call: Call[RoleBody, None]) -> MemberAnswer:
    """Give a member another role; the owner's is handed over by the owner alone."""
    role = call.body.role
    access = Access.OWNER if role is Role.OWNER else Access.ADMIN
    async with call.services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, access)
        changed = await organisations.member(session, organisation_id, call.path("user_id"))
        if role is Role.OWNER:
            await organisations.hand_over(session, organisation_id, call.user.user_id, changed)
        else:
            await organisations.set_role(session, changed, role)
        _record(session, call, f"member.make_{role}", changed.user.id)
    return MemberAnswer(member=member_view(changed))


async def remove_member(call: Call[None, None]) -> Done:
    """Take somebody out of the current organisation: admins anybody, everybody themselves."""
    user_id = call.path("user_id")
    access = Access.MEMBER if user_id == call.user.user_id else Access.ADMIN
    async with call.services.database.changing.begin() as session:
        organisation_id = await organisations.lock(session, call.user, access)
        removed = await organisations.member(session, organisation_id, user_id)
        await organisations.remove(session, organisation_id, removed)
        _record(session, call, "member.remove", user_id)
    return Done()


async def list_actions(call: Call[None, ActionsQuery]) -> ActionsAnswer:
    """What people, the shop's server and the command line changed."""
    wanted = (
        select(AdminAction, User.email)
        .outerjoin(User, User.id == AdminAction.actor)
        .where(AdminAction.organisation_id == call.organisation_id)
        .order_by(AdminAction.at.desc(), AdminAction.id.desc())
        .limit(call.query.limit + 1)
    )
    if call.query.cursor is not None:
        at, _, last_id = call.query.cursor.partition("-")
        wanted = wanted.where(
            or_(
                AdminAction.at < int(at),
                and_(AdminAction.at == int(at), AdminAction.id < last_id),
            )
        )
    async with call.services.database.reading() as session:
        rows = (await session.execute(wanted)).all()
    shown = rows[: call.query.limit]
    last = shown[-1][0] if len(rows) > len(shown) else None
    return ActionsAnswer(
        actions=tuple(action_view(action, email) for action, email in shown),
        nextCursor=f"{last.at}-{last.id}" if last else None,
    )


async def _current(session: AsyncSession, call: Call[Any, Any]) -> organisations.Belonging:
    row = (
        await session.execute(
            select(Organisation, Membership.role)
            .join(Membership, Membership.organisation_id == Organisation.id)
            .where(
                Organisation.id == call.organisation_id,
                Membership.user_id == call.user.user_id,
            )
        )
    ).one_or_none()
    if row is None:
        raise not_found("organisation")
    return organisations.Belonging(row[0], Role(row[1]))


def _record(
    session: AsyncSession,
    call: Call[Any, Any],
    action: str,
    target: str,
    organisation_id: str | None = None,
) -> None:
    actions.record(
        session,
        actions.actor(call),
        action,
        target,
        organisation_id=organisation_id or call.organisation_id,
        at=call.services.clock.now_ms(),
    )


def _organisation(organisation: Organisation, role: Role) -> OrganisationAnswer:
    view = organisation_view(organisations.Belonging(organisation, role))
    return OrganisationAnswer(organisation=view)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/orgs",
        "List the caller's organisations",
        list_organisations,
        Access.USER,
        OrganisationsAnswer,
    ),
    Route(
        "POST",
        "/v1/orgs",
        "Create an organisation",
        create_organisation,
        Access.USER,
        OrganisationAnswer,
        body=NameBody,
        status=201,
        codes=(ErrorCode.PLAN_LIMIT_REACHED,),
    ),
    Route(
        "POST",
        "/v1/orgs/{org_id}/switch",
        "Make an organisation the current one",
        switch_organisation,
        Access.USER,
        OrganisationAnswer,
    ),
    Route(
        "GET",
        "/v1/org/settings",
        "The current organisation and its subscription",
        get_settings,
        Access.MEMBER,
        SettingsAnswer,
    ),
    Route(
        "PATCH",
        "/v1/org/settings",
        "Rename the current organisation",
        rename_organisation,
        Access.ADMIN,
        OrganisationAnswer,
        body=NameBody,
    ),
    Route(
        "DELETE",
        "/v1/org",
        "Delete the current organisation",
        delete_organisation,
        Access.OWNER,
        Done,
        codes=(ErrorCode.CONFLICT,),
    ),
    Route(
        "GET",
        "/v1/org/subscription",
        "The plan and what it allows",
        get_subscription,
        Access.MEMBER,
        SubscriptionAnswer,
    ),
    Route(
        "GET",
        "/v1/org/members",
        "List the members, and for admins the invites",
        list_members,
        Access.MEMBER,
        MembersAnswer,
    ),
    Route(
        "POST",
        "/v1/org/members/invite",
        "Ask somebody to join",
        invite_member,
        Access.ADMIN,
        InviteAnswer,
        body=InviteBody,
        status=201,
        codes=(ErrorCode.CONFLICT,),
    ),
    Route(
        "DELETE",
        "/v1/org/invites/{invite_id}",
        "Withdraw an invite",
        withdraw_invite,
        Access.ADMIN,
        Done,
    ),
    Route(
        "PATCH",
        "/v1/org/members/{user_id}",
        "Change a member's role, or hand over the owner's",
        change_role,
        Access.ADMIN,
        MemberAnswer,
        body=RoleBody,
        codes=(ErrorCode.CONFLICT, ErrorCode.PLAN_LIMIT_REACHED),
    ),
    Route(
        "DELETE",
        "/v1/org/members/{user_id}",
        "Remove a member, or leave",
        remove_member,
        Access.MEMBER,
        Done,
        codes=(ErrorCode.CONFLICT,),
    ),
    Route(
        "GET",
        "/v1/org/actions",
        "Who changed what",
        list_actions,
        Access.ADMIN,
        ActionsAnswer,
        query=ActionsQuery,
    ),
)
