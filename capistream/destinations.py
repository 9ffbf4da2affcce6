"""Commands about destinations: their credentials, and the rules by which events go to them.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from capistream import output
from capistream.changes import Desk, at_desk, change, confirm, given, listed
from capistream.options import AsJson, DataDir, Yes
from runtime.errors import CapistreamError
from schemas.config import ValueRule

if TYPE_CHECKING:
    from manage import tables

destination_app = typer.Typer(help="Accounts at ad platforms.", no_args_is_help=True)

STDIN: Final = "-"

Host = Annotated[str, typer.Argument(help="The storefront's host.")]
Which = Annotated[
    str, typer.Argument(help="The destination's id, its platform, or the id of its account there.")
]


@destination_app.command("set")
def destination_set(
    host: Host,
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
    value: Annotated[
        ValueRule | None, typer.Option(help="What to tell it that an event was worth.")
    ] = None,
    fixed_value: Annotated[
        str | None, typer.Option(help="The amount for --value fixed, such as 5.00.")
    ] = None,
    sample_percent: Annotated[
        float | None, typer.Option(help="How many in a hundred events to send (0 to 100).")
    ] = None,
    excluded_countries: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-country",
            help="Country (DE) whose persons' events it does not get; may be repeated, '' for none.",
        ),
    ] = None,
    excluded_sources: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-source",
            help="Channel (phone_call) whose events it does not get; may be repeated, '' for none.",
        ),
    ] = None,
    consent_required: Annotated[
        bool | None,
        typer.Option(
            "--consent-required/--consent-optional",
            help="Send only events that say that the person consented.",
        ),
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Add an account at an ad platform, or set it anew: credentials as given here, switches that
    are left out as they were."""
    fields = given(
        pixel_id=pixel_id,
        ad_account_id=ad_account_id,
        access_token=sys.stdin.read() if access_token == STDIN else access_token,
        test_event_code=test_event_code,
        api_version=api_version,
    )
    options = given(
        enabled=enabled,
        advancedMatching=advanced_matching,
        limitedDataUse=limited_data_use,
        events=_pairs("--event", event, {"on": True, "off": False}),
        eventNames=_pairs("--rename", rename),
        value=value,
        fixedValue=fixed_value,
        samplePercent=sample_percent,
        excludedCountries=listed(excluded_countries),
        excludedSources=listed(excluded_sources),
        consentRequired=consent_required,
    )
    changed = change(data, lambda store: store.set_destination(host, platform, fields, options))
    output.print_fields(
        {
            "destinationId": changed.destination.id,
            "platform": platform,
            "account": changed.destination.account,
        },
        as_json=as_json,
    )


@destination_app.command("list")
def destination_list(host: Host, data: DataDir = None, as_json: AsJson = False) -> None:
    """List a host's destinations, tokens masked."""

    async def read(desk: Desk) -> list[dict[str, object]]:
        return [
            {
                "destinationId": row.id,
                "platform": row.platform,
                "account": row.account,
                "preview": row.preview,
                "enabled": row.enabled,
                "checkOk": row.check_ok,
                "checkedAt": row.checked_at,
                "checkError": row.check_error,
            }
            for row in (await desk.store.domain(host)).destinations
        ]

    found = at_desk(data, read)
    output.print_table(found, key="destinations", none="No destination yet.", as_json=as_json)


@destination_app.command("check")
def destination_check(
    host: Host,
    destination: Annotated[
        str | None,
        typer.Argument(help="Its id, platform or account. [default: all]", show_default=False),
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Try credentials at their platforms; exits 1 when some are refused."""
    from manage import operations
    from manage.probe import Prober

    async def check(desk: Desk) -> list[dict[str, object]]:
        rows = _named((await desk.store.domain(host)).destinations, destination)
        prober = Prober(desk.settings, desk.clock)
        try:
            return [
                {
                    "destinationId": row.id,
                    "platform": row.platform,
                    "account": row.account,
                    "ok": said.ok,
                    "status": said.status,
                    "error": said.error,
                }
                for row in rows
                for said in [await operations.check(desk.store, prober, host, row.id)]
            ]
        finally:
            await prober.close()

    found = at_desk(data, check)
    output.print_table(found, key="checks", none="No destination yet.", as_json=as_json)
    if not all(one["ok"] for one in found):
        raise typer.Exit(1)


@destination_app.command("remove")
def destination_remove(
    host: Host,
    destination: Which,
    yes: Yes = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove a destination and its credentials."""

    async def find(desk: Desk) -> "tables.Destination":
        rows = _named((await desk.store.domain(host)).destinations, destination)
        if len(rows) != 1:
            several = ", ".join(f"{row.id} ({row.platform} {row.account})" for row in rows)
            raise CapistreamError(f"{destination} names several; name one by its id: {several}")
        return rows[0]

    row = at_desk(data, find)
    confirm(f"Remove {row.platform} {row.account} of {host} and its credentials?", yes=yes)
    change(data, lambda store: store.remove_destination(host, row.id))
    output.print_fields({"destinationId": row.id, "removed": True}, as_json=as_json)


def _named(
    rows: "Sequence[tables.Destination]", name: str | None
) -> "Sequence[tables.Destination]":
    """Those of this id, platform or account; None: all.

    Raises ``CapistreamError`` when there is none.
    """
    found = [row for row in rows if name in (None, row.id, row.platform, row.account)]
    if not found and name is not None:
        raise CapistreamError(
            f"the domain has no destination {name}; see `capistream destination list`"
        )
    return found


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
