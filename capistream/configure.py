"""Commands that set up: topics, domains, and the settings in force.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

from typing import Annotated, TypeAlias

import typer

from capistream import output
from capistream.changes import change, given, listed
from capistream.options import AsJson, DataDir, settings_for
from runtime.logs import redact_url
from schemas.topics import topic_table

topics_app = typer.Typer(help="The topics on Kafka.", no_args_is_help=True)
domain_app = typer.Typer(help="Storefront hosts.", no_args_is_help=True)


@topics_app.command("apply")
def topics_apply(data: DataDir = None, as_json: AsJson = False) -> None:
    """Create the topics that are missing."""
    from platforms.registry import PLATFORMS
    from runtime.kafka import TopicAdmin

    settings = settings_for("topics", data)
    created = TopicAdmin(settings.kafka).create(topic_table(PLATFORMS))
    output.print_lines(created, key="created", none="Every topic is there.", as_json=as_json)


@topics_app.command("check")
def topics_check(data: DataDir = None, as_json: AsJson = False) -> None:
    """Compare the topics with what they should be; exits 1 when they differ."""
    from platforms.registry import PLATFORMS
    from runtime.kafka import TopicAdmin

    settings = settings_for("topics", data)
    found = TopicAdmin(settings.kafka).differences(topic_table(PLATFORMS))
    output.print_lines(found, key="differences", none="No difference.", as_json=as_json)
    if found:
        raise typer.Exit(1)


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


def show_settings(data: DataDir = None, as_json: AsJson = False) -> None:
    """Print the settings in force, secrets left out."""
    settings = settings_for("settings", data)
    values = settings.model_dump(mode="json")
    values["database"]["url"] = redact_url(settings.database_url)
    values["redis"]["url"] = redact_url(settings.redis.url.get_secret_value())
    if as_json:
        output.print_json(values, indent=True)
        return
    output.print_fields(_flat("CAPISTREAM", values), as_json=False)


def _flat(prefix: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    separator = "_" if prefix == "CAPISTREAM" else "__"
    found: dict[str, object] = {}
    for name, inner in value.items():
        found |= _flat(f"{prefix}{separator}{name.upper()}", inner)
    return found
