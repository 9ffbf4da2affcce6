"""Commands for what could not go on: dead letters listed, shown, and driven again.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from capistream import output
from capistream.options import AsJson, DataDir, settings_for
from capistream.traffic import domain_id_of
from runtime.clock import SystemClock
from runtime.errors import CapistreamError
from runtime.ids import new_id
from runtime.lifecycle import Shutdown, run_until_shutdown
from runtime.settings import Settings
from schemas.dead_letter import DeadLetterReason

if TYPE_CHECKING:
    from capistream.letters import Letter, Wanted

dead_letters_app = typer.Typer(
    help="What could not go on, with its bytes and the reason.", no_args_is_help=True
)

Domain = Annotated[str | None, typer.Option(help="Only of this domain: its host or its id.")]
DestinationId = Annotated[str | None, typer.Option(help="Only for this destination, by its id.")]
Platform = Annotated[str | None, typer.Option(help="Only for this platform.")]
Reasons = Annotated[
    list[DeadLetterReason] | None,
    typer.Option("--reason", help="Only for this reason; may be repeated."),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Dead at this time or later: ISO 8601, Unix seconds, or 2h or 3d ago. "
        "[default: all that Kafka holds]",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--to", help="Dead before this time. [default: now]", show_default=False),
]

_COLUMNS: Final = {
    "id": "id",
    "time": "at",
    "reason": "reason",
    "platform": "platform",
    "destination": "destinationId",
    "event": "eventName",
    "event id": "eventId",
    "detail": "detail",
}


@dead_letters_app.command("list")
def dead_letters_list(
    domain: Domain = None,
    destination: DestinationId = None,
    platform: Platform = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest last."""
    from capistream.letter_replay import all_letters

    settings = settings_for("dead-letters", data)

    async def read(shutdown: Shutdown) -> None:
        wanted = await _wanted(settings, domain, destination, platform, reasons, since, until)
        newest: list[Letter] = []
        async with aclosing(all_letters(settings, shutdown, wanted)) as lots:
            async for letters in lots:
                newest += filter(wanted.fits, letters)
                newest = sorted(newest, key=lambda letter: letter.order)[-limit:]
        _print(newest, as_json=as_json)

    run_until_shutdown(read)


@dead_letters_app.command("show")
def dead_letters_show(
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="As `dead-letters list` shows it, such as 3-120.")
    ],
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print all of a dead letter: origin, headers, reason, and its value, which may hold personal
    data (what came from raw-events always does)."""
    from capistream.letter_replay import all_letters
    from capistream.letters import Wanted, missing, read_id

    place = read_id(letter_id)
    settings = settings_for("dead-letters", data)

    async def read(shutdown: Shutdown) -> None:
        wanted = Wanted(places=frozenset([place]))
        async with aclosing(all_letters(settings, shutdown, wanted)) as lots:
            async for letters in lots:
                for letter in filter(wanted.fits, letters):
                    _print_whole(letter, as_json=as_json)
                    return
        if not shutdown.is_asked:
            raise missing(wanted.places)

    run_until_shutdown(read)


@dead_letters_app.command("replay")
def dead_letters_replay(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IDS",
            help="Only these, as `dead-letters list` shows them.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that there are.")] = False,
    domain: Domain = None,
    destination: DestinationId = None,
    platform: Platform = None,
    reasons: Reasons = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[int, typer.Option(min=1, help="Events per second, at most.")] = 100,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be driven again.")
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Drive dead letters again, each from where it failed; Ctrl-C stops it.

    A delivery is sent as it was made; an event is made into deliveries by the configuration of now.
    """
    from capistream.letter_replay import Picker, run_letter_replay
    from capistream.letters import Wanted

    settings = settings_for("dead-letters", data)
    clock = SystemClock()

    async def drive(shutdown: Shutdown) -> None:
        wanted = await _wanted(
            settings, domain, destination, platform, reasons, since, until, ids or ()
        )
        if wanted == Wanted() and not every:
            raise CapistreamError(
                "say which: ids, --domain, --destination, --platform, --reason, --from, --to, "
                "or --all"
            )
        picker = Picker(wanted, new_id("rpl"))
        with output.progress(as_json=as_json) as tell:
            await run_letter_replay(
                settings,
                picker,
                shutdown,
                clock,
                per_second=rate,
                dry_run=dry_run,
                tell=lambda far: tell(
                    f"{far.scanned} read, {far.found} found, {far.replayed} sent"
                ),
            )
        output.print_fields(picker.summary(stopped=shutdown.is_asked), as_json=as_json)

    run_until_shutdown(drive)


async def _wanted(
    settings: Settings,
    domain: str | None,
    destination: str | None,
    platform: str | None,
    reasons: Sequence[DeadLetterReason] | None,
    since: str | None,
    until: str | None,
    ids: Sequence[str] = (),
) -> "Wanted":
    """What the options ask for.

    Raises ``CapistreamError``.
    """
    from capistream.letters import Wanted, read_id
    from capistream.replay import read_moment
    from platforms.registry import PLATFORMS

    if platform is not None and platform not in PLATFORMS:
        raise CapistreamError(f"{platform!r} is not a platform; there are {', '.join(PLATFORMS)}")
    now_ms = SystemClock().now_ms()
    return Wanted(
        domain_id=await domain_id_of(settings, domain) if domain else None,
        destination_id=destination,
        platform=platform,
        reasons=frozenset(reasons or ()),
        from_ms=None if since is None else read_moment(since, now_ms),
        to_ms=None if until is None else read_moment(until, now_ms),
        places=frozenset(map(read_id, ids)),
    )


def _print(letters: "Sequence[Letter]", *, as_json: bool) -> None:
    if as_json:
        for letter in letters:
            output.print_json(letter.told())
        return
    if not letters:
        output.console.print("There are no such dead letters.")
        return
    table = Table()
    for heading in _COLUMNS:
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for letter in letters:
        told = letter.told() | {"at": _time(letter.at)}
        table.add_row(*(Text(str(told[key] or "")) for key in _COLUMNS.values()))
    output.console.print(table)


def _print_whole(letter: "Letter", *, as_json: bool) -> None:
    told = letter.told_whole()
    if as_json:
        output.print_json(told)
        return
    value, encoded = told.pop("value"), told.pop("valueBase64")
    headers = {f"header {name}": text for name, text in told.pop("headers").items()}
    output.print_fields(told | {"at": _time(letter.at)} | headers, as_json=False)
    if value is None:
        output.console.print("value, in base64:")
        output.console.out(encoded or "", highlight=False)
    else:
        output.print_json(value, indent=True)


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
