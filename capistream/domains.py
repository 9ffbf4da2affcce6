"""Commands about storefront hosts.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from capistream import output
from capistream.changes import Desk, at_desk, change, confirm, given, listed
from capistream.options import AsJson, DataDir, Yes

domain_app = typer.Typer(help="Storefront hosts.", no_args_is_help=True)

SHOWN: Final = (
    "id",
    "platform",
    "account",
    "preview",
    "enabled",
    "checkOk",
    "checkedAt",
    "checkError",
)
"""What a person is shown of a destination."""

_Fields: TypeAlias = dict[str, Any]

Host = Annotated[str, typer.Argument(help="The storefront's host, such as shop.example.")]
Strict = Annotated[
    bool | None, typer.Option("--strict/--lenient", help="Refuse events with unknown keys.")
]
Country = Annotated[
    str | None, typer.Option(help="Country of phone numbers without a country code (DE).")
]
Currency = Annotated[
    str | None, typer.Option(help="Currency of values that come without one (EUR).")
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        "--origin", help="Origin (https://m.shop.example) that may send too; may be repeated."
    ),
]
ExcludedAddresses = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-address",
        help="Address or network (CIDR) whose events go to nobody; may be repeated.",
    ),
]
ExcludedAgents = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-agent", help="Part of a user agent whose events go to nobody; may be repeated."
    ),
]
MonthlyEvents = Annotated[
    int | None,
    typer.Option(min=0, help="Events that the organisation may have forwarded in a month."),
]
RememberContacts = Annotated[
    bool | None,
    typer.Option(help="Give a contact's later events the click ids of earlier ones."),
]


@domain_app.command("add")
def domain_add(
    host: Host,
    org: Annotated[str, typer.Option(help="The organisation that owns it; made when new.")],
    strict: Strict = None,
    country: Country = None,
    currency: Currency = None,
    origins: Origins = None,
    excluded_addresses: ExcludedAddresses = None,
    excluded_agents: ExcludedAgents = None,
    monthly_events: MonthlyEvents = None,
    remember_contacts: RememberContacts = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add a storefront host. Its sync token is shown this once."""
    lists = origins, excluded_addresses, excluded_agents
    options = _options(strict, country, currency, lists, monthly_events, remember_contacts)
    added = change(data, lambda store: store.add_domain(host, org, options))
    output.print_fields(
        {
            "domainId": added.domain_id,
            "host": added.host,
            "domainToken": added.domain_token,
            "syncToken": added.sync_token,
        },
        as_json=as_json,
    )


@domain_app.command("set")
def domain_set(
    host: Host,
    strict: Strict = None,
    country: Country = None,
    currency: Currency = None,
    origins: Origins = None,
    excluded_addresses: ExcludedAddresses = None,
    excluded_agents: ExcludedAgents = None,
    monthly_events: MonthlyEvents = None,
    remember_contacts: RememberContacts = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change how a host's events are taken: what is given replaces what was, '' empties a list, the
    rest stays."""
    lists = origins, excluded_addresses, excluded_agents
    options = _options(strict, country, currency, lists, monthly_events, remember_contacts)
    changed = change(data, lambda store: store.set_domain(host, options))
    output.print_fields(
        {"domainId": changed.config.domain_id, "revision": changed.config.revision}, as_json=as_json
    )


@domain_app.command("list")
def domain_list(
    org: Annotated[
        str | None, typer.Option(help="Only of this organisation: its id or its name.")
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the storefront hosts."""

    async def read(desk: Desk) -> list[_Fields]:
        return [
            {
                "domainId": row.id,
                "host": row.host,
                "organisation": row.organisation.name,
                "routingStatus": row.routing_status,
                "configStatus": row.config_status,
                "destinations": len(row.destinations),
                "createdAt": row.created_at,
            }
            for row in await desk.store.domains()
            if org in (None, row.organisation_id, row.organisation.name)
        ]

    found = at_desk(data, read)
    output.print_table(found, key="domains", none="No domain yet.", as_json=as_json)


@domain_app.command("show")
def domain_show(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """Print a host with its domain token; credentials stay masked."""
    from manage.domain_answers import details_of

    async def read(desk: Desk) -> _Fields:
        row = await desk.store.domain(host)
        token = desk.store.domain_token(row)
        details = details_of(row, token, desk.settings.manage)
        return details.model_dump(mode="json", by_alias=True)

    found = at_desk(data, read)
    if as_json:
        output.print_json(found)
        return
    destinations = found.pop("destinations")
    output.print_fields(found, as_json=False)
    output.console.print()
    output.print_table(
        [{name: one[name] for name in SHOWN} for one in destinations],
        key="destinations",
        none="No destination yet.",
        as_json=False,
    )


@domain_app.command("verify")
def domain_verify(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """Look up whether a host leads here; exits 1 when it does not."""
    from manage import operations

    verified = at_desk(data, lambda desk: operations.verify(desk.store, desk.settings.manage, host))
    verdict = {"verified": verified.problem is None, "message": verified.message}
    output.print_fields(verdict, as_json=as_json)
    if verified.problem is not None:
        raise typer.Exit(1)


@domain_app.command("regenerate-token")
def domain_regenerate_token(
    host: Host,
    domain_token: Annotated[
        bool,
        typer.Option(
            "--domain-token", help="That of its pages instead; the shop learns it by a sync."
        ),
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Give a host's server a new sync token, shown this once. The one before is worthless at once."""
    if domain_token:
        made = change(data, lambda store: store.rotate_domain_token(host))
    else:
        made = change(data, lambda store: store.regenerate_sync_token(host))
    name = "domainToken" if domain_token else "syncToken"
    output.print_fields({"domainId": made.config.domain_id, name: made.token}, as_json=as_json)


@domain_app.command("resync")
def domain_resync(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """Ask the shop's server to push its configuration; exits 1 when it does not answer well."""
    from manage import operations
    from manage.callbacks import CallbackClient, Called

    async def call(desk: Desk) -> Called:
        return await operations.resync(desk.store, CallbackClient(desk.settings.manage), host)

    called = at_desk(data, call)
    told = {"reached": called.problem is None, "status": called.status, "problem": called.problem}
    output.print_fields(told, as_json=as_json)
    if called.problem is not None:
        raise typer.Exit(1)


@domain_app.command("enable")
def domain_enable(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """Take a host's events again."""
    _set_disabled(host, data, disabled=False, as_json=as_json)


@domain_app.command("disable")
def domain_disable(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """Have the gateway refuse a host's events; its configuration stays."""
    _set_disabled(host, data, disabled=True, as_json=as_json)


def _set_disabled(host: str, data: Path | None, *, disabled: bool, as_json: bool) -> None:
    changed = change(data, lambda store: store.set_disabled(host, disabled=disabled))
    told = {"domainId": changed.config.domain_id, "disabled": disabled}
    output.print_fields(told, as_json=as_json)


@domain_app.command("delete")
def domain_delete(
    host: Host, yes: Yes = False, data: DataDir = None, as_json: AsJson = False
) -> None:
    """Delete a host with its destinations and their credentials. What became of its events stays on
    record for as long as ever."""
    confirm(f"Delete {host} and the credentials of all its destinations?", yes=yes)

    async def delete(desk: Desk) -> str:
        domain_id = await desk.store.delete_domain(host)
        await desk.publish(removed=[domain_id])
        return domain_id

    output.print_fields({"domainId": at_desk(data, delete), "deleted": True}, as_json=as_json)


_Lists: TypeAlias = tuple[list[str] | None, list[str] | None, list[str] | None]


def _options(
    strict: bool | None,
    country: str | None,
    currency: str | None,
    lists: _Lists,
    monthly_events: int | None,
    remember_contacts: bool | None,
) -> dict[str, object]:
    """What was given of a domain's options, by their names on the wire; '' empties a list."""
    origins, addresses, agents = map(listed, lists)
    return given(
        strict=strict,
        defaultCountry=country,
        defaultCurrency=currency,
        allowedOrigins=origins,
        excludedAddresses=addresses,
        excludedAgents=agents,
        monthlyEvents=monthly_events,
        rememberContacts=remember_contacts,
    )
