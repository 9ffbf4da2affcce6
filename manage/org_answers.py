"""What the management API tells of organisations."""

from manage import organisations
from manage.routes import Answer
from manage.tables import AdminAction, Invite, Organisation, Plan, Role
from platforms.registry import PLATFORMS
from runtime.quota import period
from schemas.config import Subscription
from schemas.wire import Wire


class OrganisationView(Wire):
    """An organisation that the caller belongs to."""

    id: str
    name: str
    role: Role
    """Of the caller, in it."""
    plan: str
    """The id of its plan."""
    created_at: int
    """Unix milliseconds."""


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


class InviteAnswer(Answer):
    """The invite that was mailed."""

    invite: InviteView


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


def organisation_view(belonging: organisations.Belonging) -> OrganisationView:
    """What a member is shown of an organisation in lists."""
    found = belonging.organisation
    return OrganisationView(
        id=found.id,
        name=found.name,
        role=belonging.role,
        plan=found.plan_id,
        createdAt=found.created_at,
    )


def subscription_view(organisation: Organisation, plan: Plan, now_ms: int) -> SubscriptionView:
    """What an organisation pays for, at a moment."""
    month = period(now_ms)
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
        period=PeriodView(since=month.since, until=month.until),
    )


def member_view(found: organisations.Member) -> MemberView:
    """A member, as other members are shown them."""
    return MemberView(
        userId=found.user.id,
        email=found.user.email,
        role=Role(found.membership.role),
        joinedAt=found.membership.created_at,
    )


def invite_view(found: Invite) -> InviteView:
    """An invite that is not accepted yet."""
    return InviteView(
        id=found.id,
        email=found.email,
        role=Role(found.role),
        invitedBy=found.invited_by,
        createdAt=found.created_at,
        expiresAt=found.expires_at,
    )


def action_view(found: AdminAction, email: str | None) -> ActionView:
    """Something that was changed; ``email`` is the actor's, of a user."""
    return ActionView(
        id=found.id,
        at=found.at,
        actor=found.actor,
        actorEmail=email,
        action=found.action,
        target=found.target,
        requestId=found.request_id,
    )
