"""Organisations: their settings, members, invites, subscription and audit log."""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from manage import actions, mail, organisations, plans, secret_tokens, sessions
from manage.auth_api import CALLBACK, OrganisationView, organisation_view, send
from manage.errors import ErrorCode, not_found
from manage.routes import Access, Answer, Body, Call, Done, Route
from manage.tables import AdminAction, Invite, Membership, Organisation, Plan, Role, User
from manage.users import Email
from platforms.registry import PLATFORMS
from schemas.config import Subscription
from schemas.wire import Wire

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


class OrganisationsAnswer(Answer):
    """The organisations of whoever is logged in."""

    organisations: tuple[OrganisationView, ...]


class OrganisationAnswer(Answer):
    """One of them."""

    organisation: OrganisationView


class PlanView(Wire):
    """A plan."""

    id: str
    name: str
    price_cents: int
    """US cents a month."""


class LimitsView(Wire):
    """What a plan allows; null: any number."""

    monthly_events: int | None
    """Events a calendar month (UTC) that go to at least one destination."""
    domains: int | None
    organisations: int | None
    """How many the owner may have."""
    log_retention_seconds: int | None
    """How long the event log keeps an event; null: as long as it keeps any."""


class FeaturesView(Wire):
    """What comes with every plan."""

    platforms: tuple[str, ...]
    """Where events can be sent to."""


class PeriodView(Wire):
    """The month that events are counted in."""

    since: int
    """Unix milliseconds."""
    until: int
    """When the next one begins."""


class SubscriptionView(Wire):
    """What an organisation pays for."""

    plan: PlanView
    status: Subscription
    """Events are refused while it is inactive."""
    limits: LimitsView
    features: FeaturesView
    period: PeriodView


class SubscriptionAnswer(Answer):
    """The subscription of the current organisation."""

    subscription: SubscriptionView


class SettingsAnswer(Answer):
    """The current organisation."""

    organisation: OrganisationView
    subscription: SubscriptionView


class MemberView(Wire):
    """Somebody who belongs to the organisation."""

    user_id: str
    email: str
    role: Role
    joined_at: int
    """Unix milliseconds."""


class InviteView(Wire):
    """Somebody who was asked to join and has not yet."""

    id: str
    email: str
    role: Role
    invited_by: str | None
    """The id of the user who asked; null: they are gone."""
    created_at: int
    """Unix milliseconds."""
    expires_at: int
    """Unix milliseconds."""


class MembersAnswer(Answer):
    """Who belongs to the current organisation."""

    members: tuple[MemberView, ...]
    invites: tuple[InviteView, ...] | None
    """Those who are asked to; null for a plain member."""


class MemberAnswer(Answer):
    """A member as they are after a change."""

    member: MemberView


class InviteBody(Body):
    """Who is to join, as what."""

    email: Email
    role: Literal["admin", "member"]


class InviteAnswer(Answer):
    """The invite that was mailed."""

    invite: InviteView


class RoleBody(Body):
    """What a member is to be. ``owner``, by the owner: their own role is handed over."""

    role: Role


class ActionsQuery(Body):
    """A page of the audit log."""

    cursor: Annotated[str, Field(pattern=_CURSOR)] | None = None
    """``nextCursor`` of the page before."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class ActionView(Wire):
    """Something that was changed."""

    id: str
    at: int
    """Unix milliseconds."""
    actor: str
    """The id of a user; ``sync``: the shop's server; ``command``: whoever runs the system."""
    actor_email: str | None
    """Of the user."""
    action: str
    """What was done to what kind of thing, such as ``domain.add``."""
    target: str | None
    """Which one."""
    request_id: str | None


class ActionsAnswer(Answer):
    """What was changed, the last first."""

    actions: tuple[ActionView, ...]
    next_cursor: str | None
    """Asks for what was done before; null at the end."""


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
        subscription=_subscription(call, found.organisation, plan),
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
    return SubscriptionAnswer(subscription=_subscription(call, found.organisation, plan))


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
        members=tuple(_member(one) for one in found),
        invites=None if invites is None else tuple(_invite(one) for one in invites),
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
    return InviteAnswer(invite=_invite(made.invite))


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
    return MemberAnswer(member=_member(changed))


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
        actions=tuple(_action(action, email) for action, email in shown),
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


def _subscription(call: Call[Any, Any], organisation: Organisation, plan: Plan) -> SubscriptionView:
    period = plans.period(call.services.clock.now_ms())
    return SubscriptionView(
        plan=PlanView(id=plan.id, name=plan.name, priceCents=plan.price_cents),
        status=Subscription(organisation.subscription),
        limits=LimitsView(
            monthlyEvents=plan.monthly_events,
            domains=plan.domains,
            organisations=plan.organisations,
            logRetentionSeconds=plan.log_retention_seconds,
        ),
        features=FeaturesView(platforms=tuple(PLATFORMS)),
        period=PeriodView(since=period.since, until=period.until),
    )


def _member(found: organisations.Member) -> MemberView:
    return MemberView(
        userId=found.user.id,
        email=found.user.email,
        role=Role(found.membership.role),
        joinedAt=found.membership.created_at,
    )


def _invite(found: Invite) -> InviteView:
    return InviteView(
        id=found.id,
        email=found.email,
        role=Role(found.role),
        invitedBy=found.invited_by,
        createdAt=found.created_at,
        expiresAt=found.expires_at,
    )


def _action(found: AdminAction, email: str | None) -> ActionView:
    return ActionView(
        id=found.id,
        at=found.at,
        actor=found.actor,
        actorEmail=email,
        action=found.action,
        target=found.target,
        requestId=found.request_id,
    )


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
