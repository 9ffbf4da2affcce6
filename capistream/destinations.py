"""The command that sets a destination: its credentials, and the rules by which events go to it."""

import sys
from collections.abc import Mapping
from typing import Annotated, Final

import typer

from capistream import output
from capistream.changes import change, given, listed
from capistream.options import AsJson, DataDir
from schemas.config import ValueRule

destination_app = typer.Typer(help="Accounts at ad platforms.", no_args_is_help=True)

STDIN: Final = "-"


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
