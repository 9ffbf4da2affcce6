"""A seed is a plan: the same faults in the same order, each kind once."""

import random
from typing import Any, cast

from tests.chaos.faults import PROCESSES, draw
from tests.chaos.world import Log, World
from tests.integration.system import Shop


def plan(seed: int, *, outage: bool = True) -> list[tuple[str, float]]:
    nothing = cast("Any", None)
    log = Log("", (lambda _seconds: None) if outage else None)
    shops = [Shop(nothing, f"{name}.example", name, "", "") for name in ("a", "b")]
    faults = draw(World(nothing, log, nothing), shops, random.Random(seed))
    return [(fault.name, fault.pause) for fault in faults]


def places(seed: int, *words: str) -> list[int]:
    names = [name for name, _ in plan(seed)]
    return [place for word in words for place, name in enumerate(names) if word in name]


def test_a_seed_is_one_plan() -> None:
    assert plan(7) == plan(7)
    assert len({tuple(plan(seed)) for seed in range(20)}) == 20


def test_each_kind_of_fault_comes_once() -> None:
    kinds = [f"kill -9 {process}" for process in PROCESSES]
    kinds += ["Redis emptied", "log away", "5xx", "connections break", "slow answers", "429"]
    for seed in range(50):
        found = places(seed, *kinds, "runs out", "renewed")
        assert sorted(found) == list(range(len(kinds) + 2))


def test_a_log_that_must_stay_does() -> None:
    assert len(plan(7, outage=False)) == len(plan(7)) - 1
    assert "log away" not in str(plan(7, outage=False))


def test_a_token_is_renewed_after_it_ran_out_and_not_at_once() -> None:
    for seed in range(50):
        expiry, renewal = places(seed, "runs out", "renewed")
        assert renewal - expiry > 2
