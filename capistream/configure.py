"""Commands that set up: topics, domains, destinations, and the settings in force.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TypeVar

import typer

from capistream import output
from capistream.options import AsJson, DataDir, settings_for
from runtime.clock import SystemClock
from runtime.logs import redact_url
from schemas.config import DomainConfig
from schemas.topics import topic_table

if TYPE_CHECKING:
    from manage.store import Store

topics_app = typer.Typer(help="The topics on Kafka.", no_args_is_help=True)
domain_app = typer.Typer(help="Storefront hosts.", no_args_is_help=True)
destination_app = typer.Typer(help="Accounts at ad platforms.", no_args_is_help=True)


class Change(Protocol):
    """What a change in the store answers."""

    @property
    def config(self) -> DomainConfig:
        """The domain's configuration after it."""
        ...


STDIN: Final = "-"
Answer = TypeVar("Answer", bound=Change)


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
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add a storefront host. Its sync token is shown this once."""
    options = _given(
        strict=strict,
        defaultCountry=country,
        defaultCurrency=currency,
        allowedOrigins=origins,
        excludedAddresses=excluded_addresses,
        excludedAgents=excluded_agents,
        monthlyEvents=monthly_events,
    )
    added = _change(data, lambda store: store.add_domain(host, org, options))
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
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Change how a host's events are taken: what is given replaces what was, the rest stays."""
    options = _given(
        strict=strict,
        defaultCountry=country,
        defaultCurrency=currency,
        allowedOrigins=origins,
        excludedAddresses=excluded_addresses,
        excludedAgents=excluded_agents,
        monthlyEvents=monthly_events,
    )
    changed = _change(data, lambda store: store.set_domain(host, options))
    output.print_fields(
        {"domainId": changed.config.domain_id, "revision": changed.config.revision}, as_json=as_json
    )


@destination_app.command("set")
def destination_set(
    host: Annotated[str, typer.Argument(help="The storefront's host.")],
    platform: Annotated[
        str,
        typer.Argument(help="meta, tiktok, pinterest, snapchat, reddit or snackvideo."),
    ],
    access_token: Annotated[
        str, typer.Option(help="The platform's access token; - reads it from standard input.")
    ],
    pixel_id: Annotated[str | None, typer.Option(help="The pixel's id.")] = None,
    ad_account_id: Annotated[str | None, typer.Option(help="The ad account's id.")] = None,
    test_event_code: Annotated[
        str | None,
        typer.Option(help="Send to the platform's test view. SnackVideo: the test click id."),
    ] = None,
    api_version: Annotated[
        str | None, typer.Option(help="Meta only: the Graph version, such as v24.0.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Send to it at all.")
    ] = None,
    advanced_matching: Annotated[
        bool | None,
        typer.Option(help="Send hashed personal identifiers, not just click ids and cookies."),
    ] = None,
    limited_data_use: Annotated[
        bool | None, typer.Option(help="Ask for limited data use on every event.")
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="Switch an event: Search=off, PageVisit=on; may be repeated."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="Name an event for this platform: Lead=Contact; may be repeated."),
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add an account at an ad platform, or set it anew: credentials as given here, switches that
    are left out as they were."""
    fields = _given(
        pixel_id=pixel_id,
        ad_account_id=ad_account_id,
        access_token=sys.stdin.read() if access_token == STDIN else access_token,
        test_event_code=test_event_code,
        api_version=api_version,
    )
    options = _given(
        enabled=enabled,
        advancedMatching=advanced_matching,
        limitedDataUse=limited_data_use,
        events=_pairs("--event", event, {"on": True, "off": False}),
        eventNames=_pairs("--rename", rename),
    )
    changed = _change(data, lambda store: store.set_destination(host, platform, fields, options))
    output.print_fields(
        {
            "destinationId": changed.destination.id,
            "platform": platform,
            "account": changed.destination.account,
        },
        as_json=as_json,
    )


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _pairs(
    option: str, pairs: list[str] | None, words: Mapping[str, bool] | None = None
) -> dict[str, object] | None:
    """``NAME=VALUE`` options as a table; ``words`` are the values there are, if not any text."""
    if not pairs:
        return None
    found: dict[str, object] = {}
    for pair in pairs:
        name, _, value = (part.strip() for part in pair.partition("="))
        if not name or not value or (words is not None and value not in words):
            wanted = "|".join(words) if words else "VALUE"
            raise typer.BadParameter(f"{pair!r} is not NAME={wanted}", param_hint=option)
        found[name] = words[value] if words is not None else value
    return found


def _change(data: Path | None, change: Callable[["Store"], Awaitable[Answer]]) -> Answer:
    """Make a change in the store and put the domain's new configuration on Kafka."""
    from capistream.stack import open_store
    from manage.publish import publish

    settings = settings_for("configure", data)

    async def run() -> Answer:
        store = open_store(settings, SystemClock())
        try:
            await store.upgrade()
            answer = await change(store)
        finally:
            await store.close()
        await publish(settings, [answer.config])
        return answer

    return asyncio.run(run())


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
