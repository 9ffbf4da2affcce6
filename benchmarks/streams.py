"""The streams process beside a naive Faust agent, Quix Streams and a bare consume loop.

Each of them drains the same events from the same log, with the same transforms and the same claims
in Valkey, and puts the same records out with acks=all. The rounds are interleaved and the ratios are
taken within a round, so that a machine that drifts cancels out. Log, Valkey and workers share one
machine: processor time per event says more than the rate.
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from benchmarks.command import run_benchmark, tell
from benchmarks.doors import make_topics, start_servers
from benchmarks.quix_home import NoQuixError, quix_python
from benchmarks.streams_bed import Arrangement, Bed, Drained, drain
from benchmarks.streams_steps import measure_produce, measure_transforms
from benchmarks.streams_work import FED
from capistream.supervisor import Supervisor
from runtime.clock import SystemClock
from runtime.lifecycle import settle_memory
from runtime.settings import STACK_FILE, load_settings

_OURS: Final = (sys.executable, "-m", "capistream", "streams")
ARRANGEMENTS: Final = (
    Arrangement("limit", (sys.executable, "-m", "benchmarks.streams_limit")),
    Arrangement("ours", _OURS),
    Arrangement("ours_of_two", _OURS, workers=2),
    Arrangement("naive", (sys.executable, "-m", "benchmarks.streams_naive"), share=0.1),
)
QUIX: Final = "quix"
IDLE_SHARE: Final = 0.2
"""A worker that did less than this of the work of two had hardly any partitions."""

Round: TypeAlias = dict[str, Drained]


def arrangements() -> tuple[list[Arrangement], list[str]]:
    """What can be measured here, and a sentence for what cannot."""
    try:
        python = quix_python()
    except NoQuixError as error:
        return [*ARRANGEMENTS], [str(error)]
    quix = Arrangement(QUIX, (str(python), "-m", "benchmarks.streams_quix"), share=0.5)
    return [*ARRANGEMENTS, quix], []


def figures_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """The medians of the rounds: arrangement → figure; None for one that was not measured."""
    found: dict[str, Any] = {
        name: {
            "events_per_second": round(_median([r[name].events_per_second for r in rounds])),
            "cpu_us_per_event": round(_median([r[name].cpu_us_per_event for r in rounds]), 1),
        }
        for name in rounds[0]
    }
    return {QUIX: None} | found


def ratios_of(rounds: Sequence[Round], transforms_us: float) -> dict[str, float | None]:
    """What the figures mean, free of the machine; each the median of the rounds' own ratios, None
    for one that was not measured.

    ``transforms_us`` is what the transforms cost an event, microseconds: every arrangement pays it,
    and what is above it is the arrangement's own.
    """

    def rates(name: str, other: str) -> Callable[[Round], float]:
        return lambda r: r[name].events_per_second / r[other].events_per_second

    def cpu(name: str, other: str) -> Callable[[Round], float]:
        return lambda r: r[name].cpu_us_per_event / r[other].cpu_us_per_event

    wanted: dict[str, Callable[[Round], float]] = {
        "ours_vs_naive": rates("ours", "naive"),
        "ours_vs_limit": rates("ours", "limit"),
        "ours_vs_quix": rates("ours", QUIX),
        "two_workers_vs_one": rates("ours_of_two", "ours"),
        "naive_cpu_vs_ours": cpu("naive", "ours"),
        "naive_overhead_vs_ours": lambda r: (
            (r["naive"].cpu_us_per_event - transforms_us)
            / (r["ours"].cpu_us_per_event - transforms_us)
        ),
        "ours_cpu_vs_limit": cpu("ours", "limit"),
    }
    found: dict[str, float | None] = dict.fromkeys(wanted)
    for name, ratio in wanted.items():
        with suppress(KeyError):
            found[name] = round(_median([ratio(one) for one in rounds]), 2)
    return found


def notes_of(rounds: Sequence[Round]) -> list[str]:
    """What makes a figure worth less."""
    shares = [one["ours_of_two"].least_busy_share for one in rounds]
    if min(shares) >= IDLE_SHARE:
        return []
    return [f"of two workers one did {min(shares):.0%} of the work: the partitions were not shared"]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


async def measure(*, events: int, rounds: int) -> dict[str, Any]:
    """One run of everything."""
    chosen, notes = await asyncio.to_thread(arrangements)
    tell("each step alone")
    settle_memory(200_000)  # as the worker does
    transforms = measure_transforms(events // 20)
    supervisor = Supervisor(SystemClock())
    with tempfile.TemporaryDirectory(prefix="capistream-bench-") as name:
        directory = Path(name)
        try:
            servers = await start_servers(supervisor, directory)
            (directory / STACK_FILE).write_bytes(orjson.dumps(servers))
            settings = load_settings(directory)
            await make_topics(settings, FED)
            steps = transforms | await measure_produce(settings, events // 5)
            measured = []
            for number in range(rounds):
                tell(f"round {number + 1} of {rounds}")
                measured.append(await drain(Bed(directory, servers), chosen, events))
        finally:
            await supervisor.stop_together()
    return {
        "figures": figures_of(measured)
        | {"steps_us_per_event": {step: round(us, 1) for step, us in steps.items()}},
        "ratios": ratios_of(measured, sum(transforms.values())),
        "notes": notes + notes_of(measured),
    }


def _print_tables(found: dict[str, Any]) -> None:
    figures = dict(found["figures"])
    steps = figures.pop("steps_us_per_event")
    print(f"{'':<24} {'events/s':>10} {'CPU µs/event':>14}")
    for name, row in figures.items():
        if row is not None:
            print(f"{name:<24} {row['events_per_second']:>10,} {row['cpu_us_per_event']:>14,}")
    print("\neach step alone, microseconds per event")
    for name, value in steps.items():
        print(f"  {name:<22} {value:>10}")
    print("\nratios")
    for name, value in found["ratios"].items():
        print(f"  {name:<22} {value if value is not None else 'none':>10}")
    for note in found["notes"]:
        print(f"\n{note}")


QUICK_SIZE: Final = {"events": 8_000, "rounds": 1}
FULL_SIZE: Final = {"events": 30_000, "rounds": 3}


def main() -> None:
    """Read the options, measure, print."""
    run_benchmark(
        __doc__,
        "one round of few events",
        lambda quick: measure(**(QUICK_SIZE if quick else FULL_SIZE)),
        _print_tables,
    )


if __name__ == "__main__":
    main()
