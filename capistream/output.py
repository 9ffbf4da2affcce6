"""What commands print: tables for people, JSON for scripts, both on standard output."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from schemas.alert import Alert
from schemas.outcome import Outcome, OutcomeKind

_WIDTH: Final = 140
"""Of tables that go into a file or a pipe, which have no width of their own: the demo's fits."""

console: Final = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)

COLOURS: Final = {
    OutcomeKind.DELIVERED: "green",
    OutcomeKind.SKIPPED: "yellow",
    OutcomeKind.DUPLICATE: "cyan",
    OutcomeKind.REJECTED: "red",
    OutcomeKind.EXPIRED: "red",
    OutcomeKind.RETRYING: "magenta",
    OutcomeKind.PARKED: "magenta",
}


def print_json(value: object, *, indent: bool = False) -> None:
    """One JSON document on one line, or indented."""
    option = orjson.OPT_INDENT_2 if indent else 0
    console.out(orjson.dumps(value, option=option).decode(), highlight=False)


def print_fields(fields: Mapping[str, object], *, as_json: bool) -> None:
    """Named values. Those whose names end in ``At`` are moments in Unix milliseconds."""
    if as_json:
        print_json(fields)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(Text(name, style="bold"), Text(_plain(name, value)))
    console.print(table)


def print_table(
    rows: Sequence[Mapping[str, object]], *, key: str, none: str, as_json: bool
) -> None:
    """Rows that have the same names, as ``print_fields`` has them; ``none`` is what a person reads
    when there are none."""
    if as_json:
        print_json({key: list(rows)})
        return
    if not rows:
        console.print(none)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_plain(name, value)) for name, value in row.items()))
    console.print(table)


def _plain(name: str, value: object) -> str:
    if name.endswith("At") and isinstance(value, int):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds")
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {what}" for name, what in value.items())
    return "" if value is None else str(value)


def print_lines(lines: Sequence[str], *, key: str, none: str, as_json: bool) -> None:
    """A list; ``none`` is what a person reads when it is empty."""
    if as_json:
        print_json({key: list(lines)})
        return
    for line in lines or [none]:
        console.print(line)


@contextmanager
def progress(*, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Shows, on a terminal, the last line it was told for as long as the body runs."""
    if as_json or not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield status.update


def fate_text(outcome: Outcome) -> Text:
    """An outcome in a table's cell."""
    text = Text(outcome.outcome, style=COLOURS[outcome.outcome])
    if outcome.outcome is not OutcomeKind.DELIVERED and outcome.reason is not None:
        text.append(f"\n{outcome.reason}", style="dim")
    return text


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """One line of the audit topic."""
    if as_json:
        console.out(outcome.model_dump_json(exclude_none=True), highlight=False)
        return
    line = Text()
    line.append(f"{outcome.outcome:<10}", style=COLOURS[outcome.outcome])
    line.append(f"{outcome.platform or '-':<10} {outcome.event_name:<16} {outcome.event_id}")
    for extra in (outcome.reason, outcome.code, outcome.detail):
        if extra is not None:
            line.append(f"  {extra}", style="dim")
    console.print(line, soft_wrap=True)


def print_alert(alert: Alert, *, as_json: bool) -> None:
    """One alert of the audit topic."""
    if as_json:
        console.out(alert.model_dump_json(exclude_none=True), highlight=False)
        return
    when = datetime.fromtimestamp(alert.at / 1000, UTC).isoformat(timespec="seconds")
    line = Text()
    line.append(f"{alert.alert:<14}", style="red")
    line.append(f"{alert.platform:<10} {alert.destination_id}  {when}")
    for extra in (alert.code, alert.detail):
        if extra is not None:
            line.append(f"  {extra}", style="dim")
    console.print(line, soft_wrap=True)
