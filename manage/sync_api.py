"""The routes of a shop's own server: it pushes its destinations, and says where to ask for them.

Names are those of the shop's plugin, in snake_case.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, SecretStr, StringConstraints

from manage import operations, usage
from manage.actions import actor
from manage.callbacks import MAX_URL_CHARS, RefusedUrlError
from manage.domain_answers import shown_status
from manage.errors import ErrorCode, invalid
from manage.probe import Check
from manage.routes import Access, Answer, Body, Call, Route
from manage.rows import ById
from manage.services import Services
from manage.store import KnownCallback, Pushed, TakenAccount
from manage.tables import ConfigStatus, RoutingStatus
from platforms.accounts import AccessToken
from runtime.errors import UnavailableError
from schemas.config import DomainConfig, Subscription
from schemas.wire import Wire

MAX_DESTINATIONS: Final = 50
_SLUGS: Final = {"facebook": "meta"}
"""The plugin's word for a platform, where it has its own."""

Text = Annotated[str, StringConstraints(max_length=200)]


class PushedDestination(Body):
    """One account at a platform. A key that its platform does not know is told in its result."""

    model_config = ConfigDict(alias_generator=None, extra="allow")

    type: Text
    """``facebook``, ``tiktok``, ``pinterest``, ``snapchat``, ``reddit`` or ``snackvideo``."""
    access_token: SecretStr
    pixel_id: Text | None = None
    tag_id: Text | None = None
    """Pinterest's pixel."""
    ad_account_id: Text | None = None
    """Pinterest's account."""
    test_event_code: Text | None = None
    api_version: Text | None = None
    """Meta's."""
    advanced_matching: bool = True

    @property
    def slug(self) -> str:
        """Its platform, as the registry names it, if it does."""
        return _SLUGS.get(self.type, self.type)

    def pushed(self) -> Pushed:
        """As the store takes it."""
        fields = {name: value for name, value in self if value is not None}
        del fields["type"], fields["advanced_matching"]
        fields["access_token"] = self.access_token.get_secret_value()
        if self.slug == "pinterest" and "tag_id" in fields:
            fields["pixel_id"] = fields.pop("tag_id")
        return Pushed(self.slug, fields, self.advanced_matching)


class ConfigBody(Body):
    """All destinations of a domain: those that are not here are removed, whoever set them."""

    model_config = ConfigDict(alias_generator=None)

    destinations: Annotated[tuple[PushedDestination, ...], Field(max_length=MAX_DESTINATIONS)]


class DestinationResult(Wire):
    """What the platform said of one destination's credentials."""

    model_config = ConfigDict(alias_generator=None)

    type: str
    ok: bool
    status_code: int | None
    """The platform's HTTP status; None when it was not asked, or did not answer."""
    error: str
    """Empty when they work."""


class ConfigAnswer(Answer):
    """What a shop shows and obeys after a push."""

    model_config = ConfigDict(alias_generator=None)

    domain_id: str
    proxy_hostname: str
    domain_token: str
    """Goes into the storefront's pages, as ``X-SSP-Token``."""
    routing_status: RoutingStatus
    config_status: ConfigStatus
    plan_name: str
    subscription_status: Subscription
    usage_percent: int
    """0 without a limit."""
    billable_this_period: int
    """Of the organisation, in this calendar month (UTC)."""
    monthly_request_limit: int | None
    """None: any number."""
    quota_exceeded: bool
    destination_results: tuple[DestinationResult, ...]
    """In the order of the push."""


class CallbackBody(Body):
    """Where a shop's server is asked to push its configuration again."""

    model_config = ConfigDict(alias_generator=None)

    callback_url: Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
    """https, at a public address."""
    callback_token: AccessToken
    """Comes with each call, as ``Authorization: Bearer <callback_token>``."""


class CallbackAnswer(Answer):
    """A callback that is known from now on."""

    model_config = ConfigDict(alias_generator=None)

    domain_id: str
    callback_host: str


async def push_config(call: Call[ConfigBody, None]) -> ConfigAnswer:
    """Make what is pushed the destinations of the domain, then try all their credentials at once.

    It is published before that, so that no platform's silence holds up the events of the others.
    """
    services, which = call.services, _which(call)
    pushed = [one.pushed() for one in call.body.destinations]
    push = await services.store.push(which, pushed, actor(call))
    if push.changed:
        await services.publisher.publish([push.config])
    checks, _ = await asyncio.gather(
        _try_all(services, push.accounts), _mend_routing(services, which)
    )
    await services.store.note_sync(
        which,
        {
            account.destination_id: check
            for account, check in zip(push.accounts, checks, strict=True)
            if isinstance(account, TakenAccount)
        },
        ok=all(check.ok for check in checks),
    )
    results = [
        {"type": one.type, "ok": check.ok, "status_code": check.status, "error": check.error or ""}
        for one, check in zip(call.body.destinations, checks, strict=True)
    ]
    return await _answer(services, which, push.config, results)


async def register_callback(call: Call[CallbackBody, None]) -> CallbackAnswer:
    """Keep where the shop is asked to push again, once it is known to be a public server."""
    services, which = call.services, _which(call)
    try:
        url = await services.callbacks.check(call.body.callback_url)
    except RefusedUrlError as error:
        raise invalid(str(error), "callback_url") from None
    known = KnownCallback(str(url), call.body.callback_token.get_secret_value())
    await services.store.register_callback(which, known, actor(call))
    return CallbackAnswer(domain_id=which.domain_id, callback_host=url.host or "")


def _which(call: Call[Any, Any]) -> ById:
    if call.shop is None:
        raise AssertionError("the route is not open to shops")
    return call.shop.which


async def _try_all(services: Services, accounts: Sequence[TakenAccount | str]) -> list[Check]:
    return await asyncio.gather(*(_try(services, account) for account in accounts))


async def _try(services: Services, account: TakenAccount | str) -> Check:
    if isinstance(account, str):
        return Check(ok=False, status=None, error=account)
    return await services.prober.check(account.platform, account.credentials)


async def _mend_routing(services: Services, which: ById) -> None:
    """Look up the host of a domain that waits for its DNS: a shop's daily push mends its status."""
    if (await services.store.domain(which)).routing_status == RoutingStatus.PENDING_DNS:
        with suppress(UnavailableError):  # the next push tells
            await operations.verify(services.store, services.settings.manage, which)


async def _answer(
    services: Services, which: ById, config: DomainConfig, results: Sequence[dict[str, Any]]
) -> ConfigAnswer:
    row = await services.store.domain(which)
    month = await usage.of_month(services, which.organisation_id)
    month = replace(month, limit=config.monthly_events)  # the domain's own may be lower
    return ConfigAnswer.model_validate(
        {
            "domain_id": row.id,
            "proxy_hostname": row.host,
            "domain_token": services.store.domain_token(row),
            "routing_status": shown_status(row, services.settings.manage),
            "config_status": row.config_status,
            "plan_name": row.organisation.plan.name,
            "subscription_status": row.organisation.subscription,
            "usage_percent": month.percent or 0,
            "billable_this_period": month.billable,
            "monthly_request_limit": month.limit,
            "quota_exceeded": month.is_exceeded,
            "destination_results": results,
        }
    )


ROUTES: Final = (
    Route(
        "POST",
        "/v1/sync/domain-config",
        "Push all destinations of a domain",
        push_config,
        Access.ANYBODY,
        ConfigAnswer,
        body=ConfigBody,
        codes=(ErrorCode.RATE_LIMITED,),
        bearer=True,
        tag="sync",
    ),
    Route(
        "POST",
        "/v1/sync/register-callback",
        "Say where the shop is asked to push again",
        register_callback,
        Access.ANYBODY,
        CallbackAnswer,
        body=CallbackBody,
        codes=(ErrorCode.RATE_LIMITED,),
        bearer=True,
        tag="sync",
    ),
)
