"""The gateway beside an aiohttp handler that does nothing: what our promises cost.

The same purchases go in turn to a handler that only reads and answers, to the same with our
validation, and to the gateway with every guard and Kafka's acknowledgement. The rounds are
interleaved and the ratios are taken within a round, so that a machine that drifts cancels out. The
servers, the log and the load share one machine: processor time per request says more than the rate.
"""

import asyncio
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.command import run_benchmark, tell
from benchmarks.doors import Door, Doors, open_doors
from benchmarks.validation import measure_validation

EVENTS_PER_REQUEST: Final = (1, 10, 50)
BUSY_GENERATOR: Final = 0.9
"""Share of one processor above which the load, and not the server, may be what is measured."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One run of the load on one door."""

    requests_per_second: float
    events_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_request: float
    generator_cpu_share: float


Cell: TypeAlias = tuple[str, int]
"""A door's name, and the events in each of its requests."""
Round: TypeAlias = dict[Cell, Measure]


async def press(door: Door, events: int, token: str, seconds: float) -> Measure:
    """Run the load on a door in a process of its own.

    Raises ``SystemExit`` when an answer is not 200.
    """
    before = door.cpu_seconds()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load",
        "--port", str(door.port), "--events", str(events),
        "--token", token, "--seconds", str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"{door.name} failed under load")
    found = json.loads(output)
    rate = found["requests"] / found["seconds"]
    return Measure(
        requests_per_second=rate,
        events_per_second=rate * events,
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us_per_request=(door.cpu_seconds() - before) / found["requests"] * 1e6,
        generator_cpu_share=found["cpu_share"],
    )


async def press_in_turn(doors: Doors, rounds: int, seconds: float) -> list[Round]:
    """Every door with every size of request, round by round."""
    plan = [
        (door, events)
        for events in EVENTS_PER_REQUEST
        for door in (doors.bare, doors.validated, doors.gateway)
    ]
    plan.append((doors.gateway_of_two, 1))
    for door, events in plan:  # what is compiled, connected or allocated once
        await press(door, events, doors.token, 0.3)
    measured = []
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        measured.append(
            {
                (door.name, events): await press(door, events, doors.token, seconds)
                for door, events in plan
            }
        )
    return measured


def figures_of(rounds: list[Round]) -> dict[str, Any]:
    """The medians of the rounds: door → events per request → figure."""
    found: dict[str, Any] = defaultdict(dict)
    for name, events in rounds[0]:
        found[name][str(events)] = {
            field: round(_median(rounds, lambda r: getattr(r[name, events], field)), digits)  # noqa: B023 - called at once
            for field, digits in (
                ("requests_per_second", 0),
                ("events_per_second", 0),
                ("p50_ms", 2),
                ("p99_ms", 2),
                ("cpu_us_per_request", 1),
                ("generator_cpu_share", 2),
            )
        }
    return dict(found)


def ratios_of(rounds: list[Round]) -> dict[str, float]:
    """What the figures mean, free of the machine; each the median of the rounds' own ratios."""
    ratios: dict[str, Callable[[Round], float]] = {
        "ours_vs_bare": lambda r: _rate(r, "gateway") / _rate(r, "bare"),
        "ours_cpu_vs_bare": lambda r: _cpu(r, "gateway") / _cpu(r, "bare"),
        "validated_vs_bare": lambda r: _rate(r, "validated") / _rate(r, "bare"),
        "two_workers_vs_one": lambda r: _rate(r, "two") / _rate(r, "gateway"),
        "events_at_50_vs_1": lambda r: (
            r["gateway", 50].events_per_second / r["gateway", 1].events_per_second
        ),
    }
    return {name: round(_median(rounds, ratio), 2) for name, ratio in ratios.items()}


def _rate(measured: Round, name: str) -> float:
    return measured[name, 1].requests_per_second


def _cpu(measured: Round, name: str) -> float:
    return measured[name, 1].cpu_us_per_request


def _median(rounds: Iterable[Round], of: Callable[[Round], float]) -> float:
    return statistics.median(of(measured) for measured in rounds)


async def measure(*, quick: bool) -> dict[str, dict[str, Any]]:
    """One run."""
    tell("validation")
    validation = measure_validation(quick=quick)
    tell("starting the log and the servers")
    with tempfile.TemporaryDirectory(prefix="capistream-bench-") as directory:
        async with open_doors(Path(directory)) as doors:
            rounds = await press_in_turn(doors, *((3, 1.0) if quick else (5, 4.0)))
    busiest = max(one.generator_cpu_share for measured in rounds for one in measured.values())
    if busiest > BUSY_GENERATOR:
        tell(f"the load used {busiest:.0%} of a processor: the fastest door may be faster still")
    figures = figures_of(rounds) | {"validation_us_per_event": validation}
    ratios = ratios_of(rounds) | {
        "msgspec_vs_pydantic": round(validation["pydantic"] / validation["msgspec"], 2)
    }
    return {"figures": figures, "ratios": ratios}


def _print_table(found: dict[str, dict[str, Any]]) -> None:
    figures = dict(found["figures"])
    validation = figures.pop("validation_us_per_event")
    columns = list(next(iter(figures.values()))["1"])
    print(f"{'server':<10} {'events':>6}  " + "  ".join(f"{name:>19}" for name in columns))
    for server, sizes in figures.items():
        for events, row in sizes.items():
            cells = "  ".join(f"{row[name]:>19,}" for name in columns)
            print(f"{server:<10} {events:>6}  {cells}")
    print("\nvalidation, microseconds per event")
    for name, value in validation.items():
        print(f"  {name:<24} {value:>8}")
    print("\nratios")
    for name, value in found["ratios"].items():
        print(f"  {name:<24} {value:>8}")


def main() -> None:
    """Read the options, measure, print."""
    run_benchmark(__doc__, "three short rounds", lambda quick: measure(quick=quick), _print_table)


if __name__ == "__main__":
    main()
