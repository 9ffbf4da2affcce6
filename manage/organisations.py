"""Organisations, their members and invites: the rules, in the transaction of whoever changes them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from manage import plans, secret_tokens, sessions
from manage.errors import ErrorCode, not_found
from manage.routes import Access, Who
from manage.rows import RefusedChangeError
from manage.tables import Domain, Invite, Membership, Organisation, Role, User
from runtime import ids
from schemas.config import Subscription

INVITE_DAYS: Final = 7
MAX_NAME: Final = 100
_DAY_MS: Final = 24 * 3600 * 1000


class Member(NamedTuple):
    """Somebody who belongs to an organisation."""

    user: User
    membership: Membership


class Belonging(NamedTuple):
    """An organisation that somebody belongs to."""

    organisation: Organisation
    role: Role


async def create(
    session: AsyncSession, name: str, owner_id: str, plan_id: str, now_ms: int
) -> Organisation:
    """Make an organisation with its owner.

    Raises ``RefusedChangeError`` for an unknown plan, or when they may own no more.
    """
    await plans.check_owner(session, owner_id, plan_id)
    made = await create_unowned(session, name, plan_id, now_ms)
    await join(session, made.id, owner_id, Role.OWNER, now_ms)
    return made


async def create_unowned(
    session: AsyncSession, name: str, plan_id: str, now_ms: int
) -> Organisation:
    """Make an organisation that nobody belongs to yet.

    Raises ``RefusedChangeError`` for an unknown plan.
    """
    made = Organisation(
        id=ids.new_id("org"),
        name=name,
        plan=await plans.get(session, plan_id),
        subscription=Subscription.ACTIVE,
        created_at=now_ms,
    )
    session.add(made)
    await session.flush()
    return made


async def named(session: AsyncSession, name: str, *, locks: bool = False) -> Organisation | None:
    """The organisation of this id, or else of this name; None when there is none. What ``locks`` it
    follows, and is followed by, others that do.

    Raises ``RefusedChangeError`` when several have the name.
    """
    for known in (Organisation.id == name, Organisation.name == name):
        query = select(Organisation).where(known).order_by(Organisation.id)
        if locks:
            query = query.with_for_update(of=Organisation)
        found = (await session.scalars(query)).all()
        if len(found) > 1:
            several = ", ".join(one.id for one in found)
            raise RefusedChangeError(
                ErrorCode.CONFLICT,
                f"several are called {name}; name one by its id: {several}",
                "org",
            )
        if found:
            return found[0]
    return None


async def lock(session: AsyncSession, caller: Who, access: Access) -> str:
    """Begin a change of the caller's current organisation; answers its id.

    Changes of one organisation follow one another, and what the caller may do is looked up again:
    it may have been taken away a moment ago.

    Raises ``RefusedError``.
    """
    organisation_id = caller.organisation_id or ""
    await session.execute(
        select(Organisation.id).where(Organisation.id == organisation_id).with_for_update()
    )
    known = await session.get(Membership, (organisation_id, caller.user_id))
    replace(caller, role=Role(known.role) if known else None).check(access)
    return organisation_id


async def of_user(session: AsyncSession, user_id: str) -> list[Belonging]:
    """The organisations that somebody belongs to, the one they joined first before the others."""
    rows = await session.execute(
        select(Organisation, Membership.role)
        .join(Membership, Membership.organisation_id == Organisation.id)
        .where(Membership.user_id == user_id)
        .order_by(Membership.created_at, Organisation.id)
    )
    return [Belonging(organisation, Role(role)) for organisation, role in rows]


async def members(session: AsyncSession, organisation_id: str) -> list[Member]:
    """The members, the first one first."""
    rows = await session.execute(
        select(User, Membership)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.organisation_id == organisation_id)
        .order_by(Membership.created_at, User.id)
    )
    return [Member(*row) for row in rows]


async def member(session: AsyncSession, organisation_id: str, user_id: str) -> Member:
    """One of the members.

    Raises ``RefusedError``.
    """
    row = (
        await session.execute(
            select(User, Membership)
            .join(Membership, Membership.user_id == User.id)
            .where(Membership.organisation_id == organisation_id, User.id == user_id)
        )
    ).one_or_none()
    if row is None:
        raise not_found("member")
    return Member(*row)


async def set_role(session: AsyncSession, changed: Member, role: Role) -> None:
    """Give a member another role, not the owner's, nor the owner another.

    Raises ``RefusedChangeError``.
    """
    if changed.membership.role == Role.OWNER:
        raise RefusedChangeError(
            ErrorCode.CONFLICT, "an organisation has an owner; make somebody else the owner instead"
        )
    changed.membership.role = role
    await session.flush()


async def hand_over(session: AsyncSession, organisation_id: str, owner_id: str, to: Member) -> None:
    """Make another member the owner; who was it is an admin from then on.

    Raises ``RefusedChangeError`` when the other may own no more.
    """
    if to.user.id == owner_id:
        return
    plan = await plans.limits_of(session, organisation_id)
    await plans.check_owner(session, to.user.id, plan.id)
    owner = await session.get_one(Membership, (organisation_id, owner_id))
    owner.role = Role.ADMIN
    await session.flush()  # at no moment are there two
    to.membership.role = Role.OWNER
    await session.flush()


async def remove(session: AsyncSession, organisation_id: str, removed: Member) -> None:
    """Take a member out, also of the sessions that they have open.

    Raises ``RefusedChangeError`` for the owner.
    """
    if removed.membership.role == Role.OWNER:
        raise RefusedChangeError(
            ErrorCode.CONFLICT, "the owner cannot leave; make somebody else the owner first"
        )
    await session.delete(removed.membership)
    await sessions.leave(session, removed.user.id, organisation_id)


async def delete_organisation(session: AsyncSession, organisation_id: str) -> None:
    """Delete an organisation with its memberships and invites.

    Raises ``RefusedChangeError`` while it has domains.
    """
    is_used = await session.scalar(
        select(Domain.id).where(Domain.organisation_id == organisation_id).limit(1)
    )
    if is_used is not None:
        raise RefusedChangeError(ErrorCode.CONFLICT, "delete its domains first")
    await session.execute(delete(Organisation).where(Organisation.id == organisation_id))


class NewInvite(NamedTuple):
    """An invite and its token, which nobody can read again."""

    invite: Invite
    token: str


async def invite(
    session: AsyncSession,
    organisation_id: str,
    *,
    email: str,
    role: Role,
    invited_by: str,
    now_ms: int,
) -> NewInvite:
    """Ask somebody to join, instead of what the address was asked before.

    Raises ``RefusedChangeError`` for somebody who is a member.
    """
    is_member = await session.scalar(
        select(User.id)
        .join(Membership, Membership.user_id == User.id)
        .where(Membership.organisation_id == organisation_id, User.email == email)
    )
    if is_member is not None:
        raise RefusedChangeError(ErrorCode.CONFLICT, "this person is a member already", "email")
    await session.execute(
        delete(Invite).where(
            Invite.organisation_id == organisation_id,
            Invite.email == email,
            Invite.accepted_at.is_(None),
        )
    )
    token = secret_tokens.new()
    made = Invite(
        id=ids.new_id("inv"),
        organisation_id=organisation_id,
        email=email,
        role=role,
        token_sha256=token.sha256,
        invited_by=invited_by,
        created_at=now_ms,
        expires_at=now_ms + INVITE_DAYS * _DAY_MS,
    )
    session.add(made)
    await session.flush()
    return NewInvite(made, token.text)


async def pending_invites(
    session: AsyncSession, organisation_id: str, now_ms: int
) -> Sequence[Invite]:
    """The invites that can still be accepted, the first one first."""
    found = await session.scalars(
        select(Invite)
        .where(
            Invite.organisation_id == organisation_id,
            Invite.accepted_at.is_(None),
            Invite.expires_at > now_ms,
        )
        .order_by(Invite.created_at, Invite.id)
    )
    return found.all()


async def withdraw(session: AsyncSession, organisation_id: str, invite_id: str) -> Invite:
    """Make an invite worthless that was not accepted yet.

    Raises ``RefusedError``.
    """
    found = await session.scalar(
        select(Invite).where(
            Invite.id == invite_id,
            Invite.organisation_id == organisation_id,
            Invite.accepted_at.is_(None),
        )
    )
    if found is None:
        raise not_found("invite")
    await session.delete(found)
    return found


async def redeem(session: AsyncSession, token: str, now_ms: int) -> Invite | None:
    """The invite of this token, used up by this; None when there is none, or no more."""
    found: Invite | None = await session.scalar(
        update(Invite)
        .where(
            Invite.token_sha256 == secret_tokens.hashed(token),
            Invite.accepted_at.is_(None),
            Invite.expires_at > now_ms,
        )
        .values(accepted_at=now_ms)
        .returning(Invite)
    )
    return found


async def accept(session: AsyncSession, accepted: Invite, user_id: str, now_ms: int) -> None:
    """Let somebody in. Who is a member by now stays what they are."""
    known = await session.get(Membership, (accepted.organisation_id, user_id))
    if known is None:
        role = Role(accepted.role)
        await join(session, accepted.organisation_id, user_id, role, now_ms)


async def join(
    session: AsyncSession, organisation_id: str, user_id: str, role: Role, now_ms: int
) -> None:
    """Make somebody a member who is none yet."""
    session.add(
        Membership(organisation_id=organisation_id, user_id=user_id, role=role, created_at=now_ms)
    )
    await session.flush()
