"""Whatever dies in whatever order, the first copy of an event arrives, and no other does."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from schemas.delivery import Delivery
from streams.claims import Wanted
from streams.worker import Stage
from tests.unit.streams.road import ClaimsInMemory, consumed, sent, stage

PARTITIONS = (0, 1)
partitions = st.sampled_from(PARTITIONS)


@dataclass
class Flight:
    """Output of a batch that is on its way to Kafka."""

    partition: int
    end: int
    """The offset after the batch."""
    life: int
    """The life of the claims in which it was worked."""
    copies: list[tuple[str, str]]
    """Event id and source of each delivery, in order."""
    has_landed: bool = False


class Worker(RuleBasedStateMachine):
    """A worker on a log of two partitions, where copies of an event are on both.

    It keeps several batches in flight, whose output lands in any order; it dies, with some of that
    output in Kafka and the claims of all of it taken, and is there again at what was committed.
    """

    make_claims: Callable[[], ClaimsInMemory] = ClaimsInMemory

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.claims = type(self).make_claims()
        self.stage = self._born()
        self.life = 0
        self.events = 1
        self.log: dict[int, list[str]] = {partition: [] for partition in PARTITIONS}
        self.position = dict.fromkeys(PARTITIONS, 0)
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.flights: list[Flight] = []
        self.arrived: dict[tuple[int, str], set[str]] = defaultdict(set)
        """Life of the claims and event id → sources of what is in Kafka."""

    @rule(partition=partitions, steps_back=st.lists(st.integers(0, 3), min_size=1, max_size=4))
    def accept(self, partition: int, steps_back: list[int]) -> None:
        """Events come in: new ones (0), or one of the last three again."""
        for steps in steps_back:
            self.events += steps == 0
            self.log[partition].append(f"e-{max(1, self.events - steps)}")

    @rule(partition=partitions, size=st.integers(1, 4))
    def work(self, partition: int, size: int) -> None:
        """Work the next batch; its claims are taken, its output is under way."""
        start = self.position[partition]
        batch = [
            replace(consumed(start + place, eventId=name), partition=partition)
            for place, name in enumerate(self.log[partition][start : start + size])
        ]
        records = self._runner.run(self.stage.work(batch))
        deliveries = [Delivery.from_headers(record.headers) for record in sent(records)]
        copies = [(one.event_id, one.source) for one in deliveries]
        self.position[partition] += len(batch)
        self.flights.append(Flight(partition, self.position[partition], self.life, copies))

    @precondition(lambda self: self.flights)
    @rule(data=st.data())
    def land(self, data: st.DataObject) -> None:
        """Kafka acknowledges one batch's output; offsets move up to the first that it has not."""
        flight = data.draw(st.sampled_from(self.flights))
        self._arrive(flight, len(flight.copies))
        flight.has_landed = True
        while self.flights and self.flights[0].has_landed:
            done = self.flights.pop(0)
            self.committed[done.partition] = done.end

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """Of each batch in flight, as much is in Kafka as happens to be; nobody was told."""
        for flight in self.flights:
            self._arrive(flight, data.draw(st.integers(0, len(flight.copies))))
        self.flights.clear()
        self.position = dict(self.committed)
        self.stage = self._born()

    @rule()
    def forget(self) -> None:
        """Redis is emptied, or the window is over."""
        self.claims.held.clear()
        self.life += 1

    def _arrive(self, flight: Flight, count: int) -> None:
        for event_id, source in flight.copies[:count]:
            self.arrived[flight.life, event_id].add(source)

    def _born(self) -> Stage:
        async def born() -> Stage:
            return stage(claims=self.claims)

        return self._runner.run(born())

    @invariant()
    def no_second_copy_arrives_while_the_claim_lives(self) -> None:
        """One source for each event, and before anything was forgotten, the first in its place."""
        for (life, event_id), sources in self.arrived.items():
            assert len(sources) == 1, f"{event_id} came twice: {sources}"
            if life == 0:
                _, partition, offset = min(sources).rsplit("-", 2)
                assert self.log[int(partition)].index(event_id) == int(offset)

    @invariant()
    def nothing_is_lost(self) -> None:
        """An event all of whose copies are done with has arrived."""
        due = {name for p in PARTITIONS for name in self.log[p][self.committed[p] :]}
        done = {name for p in PARTITIONS for name in self.log[p][: self.committed[p]]}
        lost = done - due - {event_id for _, event_id in self.arrived}
        assert not lost, f"lost: {lost}"

    @override
    def teardown(self) -> None:
        self._runner.close()


TestWorker = Worker.TestCase


class Marks(ClaimsInMemory):
    """What ``SET NX`` alone would tell: that somebody was here before, but not who."""

    @override
    async def take(self, wanted: Sequence[Wanted]) -> list[str | None]:
        """The same, without the holder's name."""
        return ["somebody" if holder else None for holder in await super().take(wanted)]


class WorkerWithMarks(Worker):
    """Takes an event for a duplicate of itself when it meets it again."""

    make_claims = Marks


def test_a_mark_that_names_nobody_loses_events() -> None:
    found = settings(max_examples=500, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError, match="lost: "):
        run_state_machine_as_test(WorkerWithMarks, settings=found)
