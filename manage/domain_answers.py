"""What the management API tells of domains and their destinations."""

from typing import Literal

from yarl import URL

from manage import tables
from manage.routes import Answer
from manage.tables import ConfigStatus, RoutingStatus
from runtime.settings import ManageSettings
from schemas.config import DestinationRules, DomainOptions
from schemas.wire import Wire


class DnsRecord(Wire):
    """What the owner of a host sets at their name server."""

    type: Literal["CNAME"] = "CNAME"
    name: str
    value: str


class DestinationDetails(DestinationRules):
    """An account at a platform. Moments are Unix milliseconds."""

    id: str
    platform: str
    account: str
    """Pixel or ad account id."""
    preview: str | None
    """The masked access token: ``sk-****…7f3a``."""
    test_event_code: str | None = None
    created_at: int
    checked_at: int | None
    """When its credentials were tried last."""
    check_ok: bool | None
    """Whether the platform accepted them then."""
    check_status: int | None
    """The platform's HTTP status; None when no answer came."""
    check_error: str | None


class CallbackDetails(Wire):
    """Where the shop is asked to push its configuration. Moments are Unix milliseconds."""

    host: str
    registered_at: int
    called_at: int | None
    problem: str | None
    """Why the last call failed."""


class DomainSummary(Wire):
    """A storefront host. Moments are Unix milliseconds."""

    id: str
    host: str
    routing_status: RoutingStatus
    config_status: ConfigStatus
    destination_count: int
    created_at: int
    synced_at: int | None
    """When the shop last pushed its configuration."""


class DomainDetails(DomainSummary):
    """The same, with all that belongs to it."""

    revision: int
    """Grows with every change of what the other processes follow."""
    domain_token: str
    """Goes into the storefront's pages, as ``X-SSP-Token``."""
    dns_record: DnsRecord | None
    """None: any host counts as leading here."""
    dns_checked_at: int | None
    dns_problem: str | None
    """What the last look-up found instead."""
    options: DomainOptions
    callback: CallbackDetails | None
    destinations: tuple[DestinationDetails, ...]


class DomainList(Answer):
    """By host."""

    domains: tuple[DomainSummary, ...]


class DomainAnswer(Answer):
    """One domain."""

    domain: DomainDetails


class NewDomainAnswer(DomainAnswer):
    """A domain that was added."""

    sync_token: str
    """Proves the shop's server; it cannot be read again."""


class VerifiedDomain(DomainAnswer):
    """A domain whose host was looked up."""

    message: str


class NewSyncToken(Answer):
    """In the place of the one before, which proves nothing any more."""

    sync_token: str
    """It cannot be read again."""


class Resynced(Answer):
    """What the shop answered to being asked for its configuration."""

    reached: bool
    """Whether it answered 2xx."""
    status: int | None
    """Of its answer; None when none came."""
    problem: str | None


class DestinationAnswer(Answer):
    """One destination."""

    destination: DestinationDetails


def shown_status(row: tables.Domain, settings: ManageSettings) -> RoutingStatus:
    """Whether a domain's host leads here: where no CNAME is asked for, it does."""
    status = RoutingStatus(row.routing_status)
    is_asked = settings.cname_target is not None
    return RoutingStatus.ACTIVE if status is RoutingStatus.PENDING_DNS and not is_asked else status


def summary_of(row: tables.Domain, settings: ManageSettings) -> DomainSummary:
    """A row of the list."""
    return DomainSummary.model_validate(_summary(row, settings))


def details_of(row: tables.Domain, domain_token: str, settings: ManageSettings) -> DomainDetails:
    """A domain and all that belongs to it; no secret is opened for it."""
    record = None
    if settings.cname_target is not None:
        record = {"name": row.host, "value": settings.cname_target}
    return DomainDetails.model_validate(
        {
            **_summary(row, settings),
            "revision": row.revision,
            "domainToken": domain_token,
            "dnsRecord": record,
            "dnsCheckedAt": row.dns_checked_at,
            "dnsProblem": row.dns_problem,
            "options": row.options,
            "callback": _callback(row.callback),
            "destinations": [destination_details(each) for each in row.destinations],
        }
    )


def destination_details(row: tables.Destination) -> DestinationDetails:
    """A destination; no secret is opened for it."""
    return DestinationDetails.model_validate(
        {"enabled": row.enabled}
        | row.options
        | {
            "id": row.id,
            "platform": row.platform,
            "account": row.account,
            "preview": row.preview,
            "createdAt": row.created_at,
            "checkedAt": row.checked_at,
            "checkOk": row.check_ok,
            "checkStatus": row.check_status,
            "checkError": row.check_error,
        }
    )


def _summary(row: tables.Domain, settings: ManageSettings) -> dict[str, object]:
    return {
        "id": row.id,
        "host": row.host,
        "routingStatus": shown_status(row, settings),
        "configStatus": row.config_status,
        "destinationCount": len(row.destinations),
        "createdAt": row.created_at,
        "syncedAt": row.synced_at,
    }


def _callback(row: tables.Callback | None) -> CallbackDetails | None:
    if row is None:
        return None
    return CallbackDetails.model_validate(
        {
            "host": URL(row.url).host or "",
            "registeredAt": row.registered_at,
            "calledAt": row.called_at,
            "problem": row.problem,
        }
    )
