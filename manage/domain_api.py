"""The routes of domains and their destinations."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from manage import operations
from manage.actions import actor
from manage.destination_store import destination_row
from manage.domain_answers import (
    DestinationAnswer,
    DomainAnswer,
    DomainList,
    NewDomainAnswer,
    NewSyncToken,
    Resynced,
    VerifiedDomain,
    destination_details,
    details_of,
    summary_of,
)
from manage.errors import ErrorCode
from manage.routes import Access, Body, Call, Done, Route
from manage.rows import ById, RefusedChangeError
from platforms.accounts import AccessToken, AccountId
from platforms.registry import PLATFORMS
from schemas.config import DestinationRules, DomainOptions
from schemas.lenient import TestEventCode

_HIDDEN: Final = WithJsonSchema(
    {"type": "string", "format": "password", "writeOnly": True, "pattern": r"^\s*[!-~]{1,4096}\s*$"}
)
_CREDENTIALS: Final = frozenset(
    {"access_token", "pixel_id", "ad_account_id", "test_event_code", "api_version"}
)


class Options(DomainOptions, Body):
    """What is given replaces what was; the rest stays."""


class NewDomainBody(Body):
    """A storefront's host."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    options: Options = Options()


class DomainChange(Body):
    """What is to be different."""

    options: Options = Options()
    disabled: bool | None = None
    """Whether the gateway is to refuse the domain's events."""


class Rules(DestinationRules, Body):
    """What is given replaces what was; the rest stays."""


def _known(slug: str) -> str:
    if slug not in PLATFORMS:
        raise ValueError(f"must be one of {', '.join(PLATFORMS)}")
    return slug


class DestinationBody(Rules):
    """The credentials of an account, whole, and rules, of which those that are absent stay."""

    platform: Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": list(PLATFORMS)})]
    access_token: Annotated[AccessToken, _HIDDEN]
    pixel_id: AccountId | None = None
    """Of every platform; Pinterest's tag, which may be left out."""
    ad_account_id: AccountId | None = None
    """Pinterest's account."""
    test_event_code: TestEventCode = None
    """Has all its events shown in the platform's test view."""
    api_version: Annotated[str, StringConstraints(pattern=r"^v\d{2}\.\d$")] | None = None
    """Meta's."""


async def list_domains(call: Call[None, None]) -> DomainList:
    """The domains of the current organisation."""
    rows = await call.services.store.domains(call.organisation_id)
    manage = call.services.settings.manage
    return DomainList(domains=tuple(summary_of(row, manage) for row in rows))


async def add_domain(call: Call[NewDomainBody, None]) -> NewDomainAnswer:
    """Add a host; its sync token is told this once."""
    added = await call.services.store.add_domain_to(
        call.organisation_id, call.body.host, _given(call.body.options), actor(call)
    )
    await call.services.publisher.publish([added.config])
    domain = (await _domain(call, added.domain_id)).domain
    return NewDomainAnswer.model_validate({"domain": domain, "syncToken": added.sync_token})


async def get_domain(call: Call[None, None]) -> DomainAnswer:
    """A domain and all that belongs to it."""
    return await _domain(call)


async def change_domain(call: Call[DomainChange, None]) -> DomainAnswer:
    """Set options, switch a domain off or on."""
    store, which, by = call.services.store, _which(call), actor(call)
    change = None
    if options := _given(call.body.options):
        change = await store.set_domain(which, options, by)
    if call.body.disabled is not None:
        change = await store.set_disabled(which, disabled=call.body.disabled, by=by)
    if change is not None:
        await call.services.publisher.publish([change.config])
    return await _domain(call)


async def delete_domain(call: Call[None, None]) -> Done:
    """Delete a domain, its destinations and their credentials."""
    gone = await call.services.store.delete_domain(_which(call), actor(call))
    await call.services.publisher.remove([gone])
    return Done()


async def verify_domain(call: Call[None, None]) -> VerifiedDomain:
    """Look up whether the host leads here."""
    manage = call.services.settings.manage
    found = await operations.verify(call.services.store, manage, _which(call))
    domain = (await _domain(call)).domain
    return VerifiedDomain.model_validate({"domain": domain, "message": found.message})


async def regenerate_token(call: Call[None, None]) -> NewSyncToken:
    """Make a new sync token; the one before proves nothing any more."""
    made = await call.services.store.regenerate_sync_token(_which(call), actor(call))
    await call.services.publisher.publish([made.config])
    return NewSyncToken.model_validate({"syncToken": made.token})


async def resync_domain(call: Call[None, None]) -> Resynced:
    """Ask the shop to push its configuration."""
    called = await operations.resync(call.services.store, call.services.callbacks, _which(call))
    return Resynced(reached=called.problem is None, status=called.status, problem=called.problem)


async def put_destination(call: Call[DestinationBody, None]) -> DestinationAnswer:
    """Add an account, or give the one that is there new credentials, and try them."""
    body, others = call.body, {"platform", *_CREDENTIALS}
    rules = body.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=others)
    with _fields_as_sent():
        changed = await call.services.store.set_destination(
            _which(call), body.platform, _credentials(body), rules, actor(call), merges=False
        )
    await call.services.publisher.publish([changed.config])
    return await _checked(call, changed.destination.id)


async def change_destination(call: Call[Rules, None]) -> DestinationAnswer:
    """Set the rules by which events go to a destination."""
    destination_id = call.path("destination_id")
    changed = await call.services.store.set_rules(
        _which(call), destination_id, _given(call.body), actor(call)
    )
    await call.services.publisher.publish([changed.config])
    return await _destination(call, destination_id)


async def check_destination(call: Call[None, None]) -> DestinationAnswer:
    """Try a destination's credentials at its platform."""
    return await _checked(call, call.path("destination_id"))


async def delete_destination(call: Call[None, None]) -> Done:
    """Remove a destination and its credentials."""
    changed = await call.services.store.remove_destination(
        _which(call), call.path("destination_id"), actor(call)
    )
    await call.services.publisher.publish([changed.config])
    return Done()


def _which(call: Call[Any, Any]) -> ById:
    return ById(call.organisation_id, call.path("domain_id"))


def _given(body: BaseModel) -> dict[str, Any]:
    return body.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _credentials(body: DestinationBody) -> dict[str, Any]:
    fields = {name: getattr(body, name) for name in _CREDENTIALS & body.model_fields_set}
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def _fields_as_sent() -> Iterator[None]:
    """A refused field of the credentials bears the name that it has in the body."""
    try:
        yield
    except RefusedChangeError as error:
        error.field = to_camel(error.field) if error.field else None
        raise


async def _domain(call: Call[Any, Any], domain_id: str | None = None) -> DomainAnswer:
    store = call.services.store
    row = await store.domain(ById(call.organisation_id, domain_id or call.path("domain_id")))
    details = details_of(row, store.domain_token(row), call.services.settings.manage)
    return DomainAnswer(domain=details)


async def _checked(call: Call[Any, Any], destination_id: str) -> DestinationAnswer:
    services = call.services
    await operations.check(services.store, services.prober, _which(call), destination_id)
    return await _destination(call, destination_id)


async def _destination(call: Call[Any, Any], destination_id: str) -> DestinationAnswer:
    row = destination_row(await call.services.store.domain(_which(call)), destination_id)
    return DestinationAnswer(destination=destination_details(row))


_DOMAIN: Final = "/v1/domains/{domain_id}"
_DESTINATION: Final = _DOMAIN + "/destinations/{destination_id}"

ROUTES: Final = (
    Route(
        "GET",
        "/v1/domains",
        "List the domains of the current organisation",
        list_domains,
        Access.MEMBER,
        DomainList,
        tag="domains",
    ),
    Route(
        "POST",
        "/v1/domains",
        "Add a domain",
        add_domain,
        Access.ADMIN,
        NewDomainAnswer,
        body=NewDomainBody,
        status=201,
        tag="domains",
        codes=(ErrorCode.CONFLICT, ErrorCode.PLAN_LIMIT_REACHED, ErrorCode.NOT_FOUND),
    ),
    Route(
        "GET",
        _DOMAIN,
        "Show a domain",
        get_domain,
        Access.MEMBER,
        DomainAnswer,
        tag="domains",
    ),
    Route(
        "PATCH",
        _DOMAIN,
        "Change a domain, or switch it off or on",
        change_domain,
        Access.ADMIN,
        DomainAnswer,
        body=DomainChange,
        tag="domains",
    ),
    Route(
        "DELETE",
        _DOMAIN,
        "Delete a domain with its destinations",
        delete_domain,
        Access.ADMIN,
        Done,
        tag="domains",
    ),
    Route(
        "POST",
        _DOMAIN + "/verify",
        "Look up whether the host leads here",
        verify_domain,
        Access.ADMIN,
        VerifiedDomain,
        tag="domains",
    ),
    Route(
        "POST",
        _DOMAIN + "/regenerate-token",
        "Make a new sync token",
        regenerate_token,
        Access.ADMIN,
        NewSyncToken,
        tag="domains",
    ),
    Route(
        "POST",
        _DOMAIN + "/resync",
        "Ask the shop to push its configuration",
        resync_domain,
        Access.ADMIN,
        Resynced,
        codes=(ErrorCode.CONFLICT,),
        tag="domains",
    ),
    Route(
        "PUT",
        _DOMAIN + "/destinations",
        "Add an account, or set its credentials anew",
        put_destination,
        Access.ADMIN,
        DestinationAnswer,
        body=DestinationBody,
        tag="destinations",
    ),
    Route(
        "PATCH",
        _DESTINATION,
        "Set the rules of a destination",
        change_destination,
        Access.ADMIN,
        DestinationAnswer,
        body=Rules,
        tag="destinations",
    ),
    Route(
        "POST",
        _DESTINATION + "/check",
        "Try a destination's credentials",
        check_destination,
        Access.ADMIN,
        DestinationAnswer,
        codes=(ErrorCode.CONFLICT,),
        tag="destinations",
    ),
    Route(
        "DELETE",
        _DESTINATION,
        "Remove a destination",
        delete_destination,
        Access.ADMIN,
        Done,
        tag="destinations",
    ),
)
