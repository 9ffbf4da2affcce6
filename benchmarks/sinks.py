"""The sinks process beside a bare HTTP client, with full batches and with an event in each request.

All post the same events to the same sandbox. The rounds are interleaved and the ratios are taken within
a round, so that a machine that drifts cancels out. Then: what an event that the platform refuses costs
in requests, and what a destination in trouble costs the others. Log, Valkey, sandbox and posting
process share one machine: processor time per delivery says more than the rate.
"""

import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.command import run_benchmark, tell
from benchmarks.sinks_bed import Bed, Run, made_bed, running
from benchmarks.sinks_isolation import Isolation, measure_isolation, percentile
from benchmarks.sinks_work import BAD, FULL, POSTED
from runtime.settings import SinksSettings
from schemas.outcome import OutcomeKind

AT_ONCE: Final[int] = SinksSettings().requests_per_destination
"""Requests of the bare client: as many as ours."""
MANY_AT_ONCE: Final = 64
"""The same of one that tries to make up for one event in each."""
SINGLES_SHARE: Final = 0.01
MANY_SHARE: Final = 0.1
"""Of the events that the others get: a slow one takes as long with fewer."""
PLATFORM_SECONDS: Final = 0.05
"""What a platform takes for a request besides its work: the way there and back, at the least. All who
post pay it; on a loopback without it a request would cost nothing."""
BAD_IN_A_BATCH: Final = (1, 3, 10)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    deliveries: int
    rounds: int
    draws: int
    """How often bad events are strewn into a batch, for each number of them."""
    undisturbed_seconds: float
    disturbed_seconds: float


FULL_SIZE: Final = Size(50_000, 5, 15, 60.0, 120.0)
QUICK_SIZE: Final = Size(20_000, 2, 3, 6.0, 10.0)


@dataclass(frozen=True, slots=True)
class Posted:
    """What posting some deliveries took."""

    deliveries: int
    seconds: float
    requests: int
    cpu_seconds: float
    """Of the process that posts."""
    sandbox_cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Deliveries in a second."""
        return self.deliveries / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time for a delivery."""
        return self.cpu_seconds / self.deliveries * 1e6


Round: TypeAlias = dict[str, Posted]


async def post_bare(bed: Bed, *, events: int, in_request: int, at_once: int) -> Posted:
    """The bare client."""
    before = bed.sandbox.cpu_seconds()
    found = await _bare_client(bed, events=events, in_request=in_request, at_once=at_once)
    return Posted(
        events,
        found["seconds"],
        found["requests"],
        found["cpu_seconds"],
        bed.sandbox.cpu_seconds() - before,
    )


async def _bare_client(bed: Bed, **options: int) -> Any:
    given = [(f"--{name.replace('_', '-')}", str(value)) for name, value in options.items()]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.sinks_posts",
        "--port", str(bed.sandbox.port), *(part for pair in given for part in pair),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit("the bare client failed")
    found = json.loads(output)
    if found["refused"] != options.get("bad", 0):
        raise SystemExit(f"the platform refused {found['refused']} events")
    return found


async def post_ours(run: Run, events: int) -> Posted:
    """The sinks process, with log, ledger and audit."""
    requests = (await run.bed.stats(POSTED))["requests"]
    before = run.bed.sandbox.cpu_seconds()
    drained = await run.drain(new_ids(events))
    sandbox_cpu = run.bed.sandbox.cpu_seconds() - before
    requests = (await run.bed.stats(POSTED))["requests"] - requests
    if (delivered := _count(drained.outcomes, OutcomeKind.DELIVERED)) != events:
        raise SystemExit(f"{delivered} of {events} were delivered")
    return Posted(events, drained.seconds, requests, drained.cpu_seconds, sandbox_cpu)


def new_ids(count: int) -> list[str]:
    """Of events that were never sent."""
    run = secrets.token_hex(4)
    return [f"{run}-{number:08d}" for number in range(count)]


def strewn(event_ids: Sequence[str], bad: int, dice: random.Random) -> list[str]:
    """The same, ``bad`` of them being refused."""
    chosen = set(dice.sample(range(len(event_ids)), bad))
    return [one + BAD if place in chosen else one for place, one in enumerate(event_ids)]


def _count(outcomes: dict[str, str], kind: OutcomeKind) -> int:
    return Counter(outcomes.values())[kind]


async def extra_requests(run: Run, bad: int, dice: random.Random) -> int:
    """What ``bad`` events in one full batch cost beyond its one request.

    Raises ``SystemExit`` unless just they are rejected.
    """
    before = (await run.bed.stats(POSTED))["requests"]
    event_ids = strewn(new_ids(FULL), bad, dice)
    drained = await run.drain(event_ids)
    rejected = {one for one, told in drained.outcomes.items() if told == OutcomeKind.REJECTED}
    if rejected != {one for one in event_ids if one.endswith(BAD)}:
        raise SystemExit(f"{len(rejected)} deliveries were rejected, not the {bad} bad ones")
    return (await run.bed.stats(POSTED))["requests"] - before - 1


async def split_to_singles(bed: Bed, bad: int) -> int:
    """The same for a client that sends each event of a refused batch alone."""
    found = await _bare_client(bed, events=FULL, at_once=MANY_AT_ONCE, bad=bad)
    return int(found["requests"]) - 1


async def post_in_turn(bed: Bed, run: Run, size: Size) -> list[Round]:
    """Everybody, round by round, at a platform that takes its time."""
    await bed.script(POSTED, kind="slow", seconds=PLATFORM_SECONDS)
    measured = []
    for number in range(size.rounds):
        tell(f"round {number + 1} of {size.rounds}")
        measured.append(
            {
                "limit": await post_bare(
                    bed, events=size.deliveries, in_request=FULL, at_once=AT_ONCE
                ),
                "ours": await post_ours(run, size.deliveries),
                "single": await post_bare(
                    bed,
                    events=round(size.deliveries * SINGLES_SHARE),
                    in_request=1,
                    at_once=AT_ONCE,
                ),
                "single, 64 at once": await post_bare(
                    bed,
                    events=round(size.deliveries * MANY_SHARE),
                    in_request=1,
                    at_once=MANY_AT_ONCE,
                ),
            }
        )
    await bed.behave()
    return measured


def figures_of(rounds: Sequence[Round]) -> dict[str, Any]:
    """The medians of the rounds: who posts → figure."""

    def median(name: str, of: Callable[[Posted], float], digits: int) -> float:
        return round(statistics.median(of(one[name]) for one in rounds), digits)

    return {
        name: {
            "deliveries_per_second": median(name, lambda p: p.per_second, 0),
            "requests_per_1000": median(name, lambda p: p.requests / p.deliveries * 1000, 2),
            "cpu_us_per_delivery": median(name, lambda p: p.cpu_us, 1),
            "sandbox_cpu_us_per_delivery": median(
                name, lambda p: p.sandbox_cpu_seconds / p.deliveries * 1e6, 1
            ),
        }
        for name in rounds[0]
    }


def ratios_of(rounds: Sequence[Round]) -> dict[str, float]:
    """What the figures mean, free of the machine; each the median of the rounds' own ratios."""
    ratios: dict[str, Callable[[Round], float]] = {
        "ours_vs_limit": lambda r: r["ours"].per_second / r["limit"].per_second,
        "ours_vs_single": lambda r: r["ours"].per_second / r["single"].per_second,
        "ours_vs_single_64": lambda r: r["ours"].per_second / r["single, 64 at once"].per_second,
        "ours_cpu_vs_limit": lambda r: r["ours"].cpu_us / r["limit"].cpu_us,
        "single_cpu_vs_ours": lambda r: r["single"].cpu_us / r["ours"].cpu_us,
    }
    return {
        name: round(statistics.median(ratio(one) for one in rounds), 2)
        for name, ratio in ratios.items()
    }


def refusals_of(extra: dict[int, list[int]], split: dict[int, int]) -> dict[str, float]:
    """Requests beyond the first, by how many of a thousand events are bad."""
    ours = {f"extra_requests_{bad}_in_{FULL}": statistics.median(n) for bad, n in extra.items()}
    return ours | {f"split_to_singles_{bad}_in_{FULL}": n for bad, n in split.items()}


def isolation_figures_of(isolation: Isolation) -> dict[str, float]:
    """The third's waits, in seconds."""
    return {
        f"{phase}_p{number}": round(percentile(getattr(isolation, phase), number), 3)
        for phase in ("undisturbed", "disturbed")
        for number in (50, 99)
    }


async def measure(size: Size) -> dict[str, Any]:
    """One run of everything."""
    dice = random.Random(7)  # noqa: S311 - the same places in every run
    with tempfile.TemporaryDirectory(prefix="capistream-bench-") as directory:
        tell("starting log, Valkey, sandbox and sinks")
        async with made_bed(Path(directory)) as bed, running(bed, "sinks") as run:
            rounds = await post_in_turn(bed, run, size)
            tell("bad events")
            extra = {
                bad: [await extra_requests(run, bad, dice) for _ in range(size.draws)]
                for bad in BAD_IN_A_BATCH
            }
            split = {bad: await split_to_singles(bed, bad) for bad in BAD_IN_A_BATCH}
            tell("destinations in trouble")
            isolation = await measure_isolation(
                run, size.undisturbed_seconds, size.disturbed_seconds
            )
    return {
        "figures": figures_of(rounds) | {"third_seconds": isolation_figures_of(isolation)},
        "ratios": ratios_of(rounds)
        | refusals_of(extra, split)
        | {"third_p99_disturbed_vs_undisturbed": round(isolation.ratio, 2)},
    }


def _print_tables(found: dict[str, Any]) -> None:
    figures = dict(found["figures"])
    third = figures.pop("third_seconds")
    columns = list(figures["ours"])
    print(f"{'':<18} " + "  ".join(f"{name:>27}" for name in columns))
    for name, row in figures.items():
        print(f"{name:<18} " + "  ".join(f"{row[column]:>27,}" for column in columns))
    print("\nseconds from receipt to outcome, of the destination that has no trouble")
    for name, value in third.items():
        print(f"  {name:<36} {value:>10}")
    print("\nratios")
    for name, value in found["ratios"].items():
        print(f"  {name:<36} {value:>10}")


def main() -> None:
    """Read the options, measure, print."""
    run_benchmark(
        __doc__,
        "less than a minute of it",
        lambda quick: measure(QUICK_SIZE if quick else FULL_SIZE),
        _print_tables,
    )


if __name__ == "__main__":
    main()
