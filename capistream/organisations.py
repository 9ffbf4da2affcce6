"""Commands about who owns what: organisations, their plans, their members, users.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from capistream import output
from capistream.changes import Desk, at_desk
from capistream.options import AsJson, DataDir
from runtime.errors import CapistreamError
from schemas.config import Subscription

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from manage import tables

org_app = typer.Typer(help="Organisations, which own domains.", no_args_is_help=True)
user_app = typer.Typer(help="People who log in.", no_args_is_help=True)

Organisation = Annotated[str, typer.Argument(help="The organisation's id, or its name.")]
Email = Annotated[str, typer.Argument(help="Their e-mail address.")]
_PLANS: Final = "unlimited, free, pro, business or scale"
_Fields: TypeAlias = dict[str, object]


@org_app.command("list")
def org_list(data: DataDir = None, as_json: AsJson = False) -> None:
    """List all organisations."""
    from sqlalchemy import select

    from manage.tables import Organisation as Row

    async def read(desk: Desk) -> list[_Fields]:
        async with desk.database.reading() as session:
            rows = await session.scalars(select(Row).order_by(Row.name, Row.id))
            return [_told(row) for row in rows]

    found = at_desk(data, read)
    output.print_table(found, key="organisations", none="No organisation yet.", as_json=as_json)


@org_app.command("create")
def org_create(
    name: Annotated[str, typer.Argument(help="Its name.")],
    owner: Annotated[str, typer.Option(help="E-mail address of whoever is to own it.")],
    plan: Annotated[
        str | None,
        typer.Option(
            help=f"{_PLANS}. [default: CAPISTREAM_MANAGE__DEFAULT_PLAN]", show_default=False
        ),
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make an organisation. Its owner logs in by a link that is mailed."""
    from manage import organisations, users

    address = _address(owner)

    async def create(desk: Desk) -> _Fields:
        now = desk.clock.now_ms()
        async with desk.database.changing.begin() as session:
            user = await users.ensure(session, address, now)
            plan_id = plan or desk.settings.manage.default_plan
            made = await organisations.create(session, _name(name), user.id, plan_id, now)
            _record(desk, session, "organisation.create", made.id, made.id)
            return {"organisationId": made.id, "name": made.name, "ownerId": user.id}

    output.print_fields(at_desk(data, create), as_json=as_json)


@org_app.command("show")
def org_show(organisation: Organisation, data: DataDir = None, as_json: AsJson = False) -> None:
    """Print an organisation, what its plan allows, and its domains."""
    from sqlalchemy import select

    from manage.tables import Domain

    async def read(desk: Desk) -> _Fields:
        async with desk.database.reading() as session:
            row = await _find(session, organisation)
            mine = select(Domain.host).where(Domain.organisation_id == row.id)
            hosts = list(await session.scalars(mine.order_by(Domain.host)))
            return _told(row) | {
                "monthlyEvents": row.plan.monthly_events,
                "domains": row.plan.domains,
                "logRetentionSeconds": row.plan.log_retention_seconds,
                "hosts": hosts,
            }

    output.print_fields(at_desk(data, read), as_json=as_json)


@org_app.command("plan")
def org_plan(
    organisation: Organisation,
    plan: Annotated[str | None, typer.Argument(help=f"{_PLANS}.")] = None,
    subscription: Annotated[
        Subscription | None, typer.Option(help="Whether its events are taken at all.")
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Put an organisation on a plan, or have its events taken or not."""
    from manage import plans

    if plan is None and subscription is None:
        raise typer.BadParameter("say which: a plan, or --subscription")

    async def put(desk: Desk) -> _Fields:
        now = desk.clock.now_ms()
        async with desk.database.changing.begin() as session:
            row = await _find(session, organisation)
            configs = await plans.set_plan(
                session, row.id, plan_id=plan, subscription=subscription, now_ms=now
            )
            told = {"organisationId": row.id, "plan": row.plan_id, "subscription": row.subscription}
        await desk.publish(configs)
        return told | {"hosts": [config.host for config in configs]}

    output.print_fields(at_desk(data, put), as_json=as_json)


@org_app.command("members")
def org_members(organisation: Organisation, data: DataDir = None, as_json: AsJson = False) -> None:
    """List the members of an organisation."""
    from manage import organisations

    async def read(desk: Desk) -> list[_Fields]:
        async with desk.database.reading() as session:
            row = await _find(session, organisation)
            return [
                {
                    "userId": member.user.id,
                    "email": member.user.email,
                    "role": member.membership.role,
                    "joinedAt": member.membership.created_at,
                }
                for member in await organisations.members(session, row.id)
            ]

    found = at_desk(data, read)
    output.print_table(found, key="members", none="No members yet.", as_json=as_json)


@user_app.command("list")
def user_list(data: DataDir = None, as_json: AsJson = False) -> None:
    """List all users."""
    from sqlalchemy import select

    from manage.tables import User

    async def read(desk: Desk) -> list[_Fields]:
        async with desk.database.reading() as session:
            return [
                {
                    "userId": row.id,
                    "email": row.email,
                    "createdAt": row.created_at,
                    "lastLoginAt": row.last_login_at,
                }
                for row in await session.scalars(select(User).order_by(User.email))
            ]

    found = at_desk(data, read)
    output.print_table(found, key="users", none="No user yet.", as_json=as_json)


@user_app.command("add")
def user_add(
    email: Email,
    org: Annotated[str | None, typer.Option(help="The organisation that they join.")] = None,
    role: Annotated[
        str, typer.Option(help="What they are there: owner, if it has none, admin or member.")
    ] = "member",
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a user, who logs in by a link that is mailed, and let them into an organisation."""
    from manage import users

    address = _address(email)

    async def add(desk: Desk) -> _Fields:
        async with desk.database.changing.begin() as session:
            user = await users.ensure(session, address, desk.clock.now_ms())
            told: _Fields = {"userId": user.id, "email": user.email}
            if org is None:
                _record(desk, session, "user.add", user.id, None)
                return told
            row = await _find(session, org)
            await _join(desk, session, row, user, role)
            return told | {"organisationId": row.id, "role": role}

    output.print_fields(at_desk(data, add), as_json=as_json)


async def _join(
    desk: Desk, session: "AsyncSession", row: "tables.Organisation", user: "tables.User", role: str
) -> None:
    from manage import organisations
    from manage.tables import Role

    if role not in set(Role):
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(Role)}", param_hint="--role")
    for member in await organisations.members(session, row.id):
        if member.user.id == user.id:
            raise CapistreamError(f"{user.email} is {member.membership.role} there already")
        if role == Role.OWNER == member.membership.role:
            raise CapistreamError(f"{row.name} has an owner: {member.user.email}")
    await organisations.join(session, row.id, user.id, Role(role), desk.clock.now_ms())
    _record(desk, session, "member.add", user.id, row.id)


def _record(
    desk: Desk, session: "AsyncSession", action: str, target: str, organisation_id: str | None
) -> None:
    from manage import actions

    actions.record(
        session,
        actions.COMMAND,
        action,
        target,
        organisation_id=organisation_id,
        at=desk.clock.now_ms(),
    )


async def _find(session: "AsyncSession", name: str) -> "tables.Organisation":
    """The organisation of this id, or else of this name.

    Raises ``CapistreamError`` when there is none, or there are several.
    """
    from manage import organisations

    found = await organisations.named(session, name)
    if found is None:
        raise CapistreamError(f"there is no organisation {name}; see `capistream org list`")
    return found


def _told(row: "tables.Organisation") -> _Fields:
    return {
        "organisationId": row.id,
        "name": row.name,
        "plan": row.plan_id,
        "subscription": row.subscription,
        "createdAt": row.created_at,
    }


def _address(text: str) -> str:
    from manage.users import address

    try:
        return address(text.strip())
    except ValueError as error:
        raise CapistreamError(f"{text!r}: {error}") from None


def _name(text: str) -> str:
    """A name as the API takes them."""
    from pydantic import ValidationError

    from manage.org_api import NameBody

    try:
        return NameBody(name=text).name
    except ValidationError as error:
        raise CapistreamError(f"name: {error.errors()[0]['msg']}") from None
