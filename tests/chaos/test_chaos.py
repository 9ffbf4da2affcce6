"""Everything fails in turn while shops go on posting, and in the end every event is accounted for.

An obligation is noted for each event that the gateway answered 2xx. When the faults are over, each
has exactly one final outcome at each destination, nothing is there that nobody sent, nothing is
stuck, and a fresh event goes its way.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.chaos.faults import draw
from tests.chaos.load import Load
from tests.chaos.oracle import Alert, Evidence, FinalOutcome, Obligation, judge
from tests.chaos.report import Report
from tests.chaos.world import World, now_ms
from tests.integration.conftest import ON_APACHE
from tests.integration.parts import until_known
from tests.integration.system import FINAL, Shop

SHOPS: Final = ("ada", "bob", "cleo")
CALM_SECONDS: Final = 2.0
LATEST_SECONDS: Final = 120.0
"""By when everything must be over after the last fault: generous, for the machine may be slow."""

FRESH_SECONDS: Final = 30.0
OF_SINKS: Final = frozenset({"delivered", "rejected", "expired"})
"""Outcomes that are written by the sinks; the streams may tell theirs again after a crash."""

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(480)]


@dataclass(slots=True)
class Run:
    """One seed's run, as it goes on."""

    world: World
    load: Load
    began_at: float = field(default_factory=time.monotonic)
    faults: list[tuple[float, str]] = field(default_factory=list)
    over_at: int = 0
    """When the faults were over, Unix milliseconds."""
    fresh: Sequence[Obligation] = ()
    stuck: Mapping[str, int] = field(default_factory=dict)

    async def go_through(self, shops: Sequence[Shop], dice: random.Random) -> None:
        """All the faults, and what comes after them."""
        async with asyncio.TaskGroup() as group:
            posting = group.create_task(self.load.run())
            await asyncio.sleep(CALM_SECONDS)
            for fault in draw(self.world, shops, dice):
                self.faults.append((round(self.seconds, 1), fault.name))
                await asyncio.to_thread(fault.strike)
                await asyncio.sleep(fault.pause)
            self.over_at = now_ms()
            self.load.stop()
            await asyncio.wait_for(posting, LATEST_SECONDS)
            await self._come_to_rest()
            self.fresh = await self.load.post_fresh()
            await self._come_to_rest()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began_at

    async def _come_to_rest(self) -> None:
        """Wait until every group is at the end of its topics, or for as long as is generous."""
        deadline = time.monotonic() + LATEST_SECONDS
        self.stuck = await asyncio.to_thread(self.world.lag)
        while self.stuck and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
            self.stuck = await asyncio.to_thread(self.world.lag)

    def report(self, seed: int) -> Report:
        """What it came to."""
        records = self.world.audit()
        told = [record for record in records if record.get("kind", "outcome") == "outcome"]
        alerts = [record for record in records if record.get("kind") == "alert"]
        receipts = self.world.receipts()
        evidence = Evidence(
            finals=[FinalOutcome.of(outcome) for outcome in told if outcome["outcome"] in FINAL],
            alerts=[Alert.of(one) for one in alerts if one["alert"] == "misconfigured"],
            posted=receipts.keys(),
            confirmed={receipt for receipt, taken in receipts.items() if taken},
            emptied=self.world.emptied,
            expired=set(self.world.expired),
            once=OF_SINKS if ON_APACHE else frozenset(),
        )
        owed = self.load.obligations
        again = _again(evidence.finals)
        fresh = {(one.domain_id, one.event_id) for one in self.fresh}
        is_fresh = {final: (final.domain_id, final.event_id) in fresh for final in evidence.finals}
        late = [final.at for final, new in is_fresh.items() if not new]
        took = [final.at - final.received_at for final, new in is_fresh.items() if new]
        return Report(
            seed=seed,
            log="Apache Kafka" if ON_APACHE else "embedded broker",
            faults=self.faults,
            requests=self.load.counts.requests,
            refused=self.load.counts.refused,
            unanswered=self.load.counts.unanswered,
            events=len(owed),
            obligations=sum(len(one.fates) for one in owed),
            outcomes=_by_kind(told),
            reposted=self.world.reposted(),
            outcomes_twice=sum(again[kind] for kind in OF_SINKS),
            streams_outcomes_twice=sum(again[kind] for kind in again.keys() - OF_SINKS),
            alerts=len(alerts),
            recovery_seconds=max(0, max(late) - self.over_at) / 1000,
            fresh_seconds=max(took, default=0) / 1000,
            seconds=round(self.seconds, 1),
            stuck=self.stuck,
            violations=judge(owed, evidence),
        )


def _by_kind(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    kinds = {outcome["outcomeId"]: outcome["outcome"] for outcome in outcomes}
    return dict(Counter(kinds.values()))


def _again(finals: Sequence[FinalOutcome]) -> Counter[str]:
    """How many records repeat another one, by kind."""
    told = Counter((final.name, final.kind) for final in finals)
    again: Counter[str] = Counter()
    for (_, kind), count in told.items():
        again[kind] += count - 1
    return again


async def test_whatever_fails_every_event_comes_to_one_end(
    seed: int, world: World, reports: list[Report]
) -> None:
    shops = [await asyncio.to_thread(world.system.make_shop, name) for name in SHOPS]
    for shop in shops:
        await asyncio.to_thread(until_known, shop)
    run = Run(world, Load(shops, random.Random(f"load {seed}")))
    await run.go_through(shops, random.Random(f"faults {seed}"))
    report = await asyncio.to_thread(run.report, seed)
    reports.append(report)
    assert report.stuck == {}, "nothing is left to do"
    assert report.violations == []
    assert report.fresh_seconds < FRESH_SECONDS
    assert world.system.stop() == 0, "it has survived, and stops in order"
