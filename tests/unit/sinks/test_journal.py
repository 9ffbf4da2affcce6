"""Records and progress come into Kafka together, once, or not at all."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from schemas.record import Record
from sinks.group import offsets
from sinks.journal import Entry, Journal
from sinks.offsets import OffsetTracker, Partition, Position, Progress, decode_beyond
from tests.unit.runtime.clocks import JumpingClock
from tests.unit.sinks.sink import Log

PARTITIONS: list[Partition] = [("deliveries.meta", 0), ("deliveries.meta", 1)]
ONE = PARTITIONS[0]


class Bench:
    """A journal, and what it writes to."""

    def __init__(self, log: Log | None = None) -> None:
        self.log = log or Log()
        self.tracker = OffsetTracker()
        self.journal = Journal(self.log, self.tracker, JumpingClock(), 0.1)
        for partition in PARTITIONS:
            self.tracker.begin(partition, 0)

    def take(self, offset: int, partition: Partition = ONE) -> Position:
        position = self.tracker.take(partition, offset)
        assert position is not None
        return position

    def finish(self, *positions: Position) -> None:
        """Each with a record that is named after it."""
        self.journal.add(Entry([record(one)], one, finishes=True) for one in positions)

    @property
    def written(self) -> list[str]:
        return [(one.value or b"").decode() for one in self.log.records]


def record(position: Position) -> Record:
    return Record("audit", None, position.name.encode())


async def test_what_is_told_in_passing_finishes_nothing() -> None:
    it = Bench()
    position = it.take(0)
    it.journal.add([Entry([record(position)], position, finishes=False)])
    await it.journal.flush()
    assert it.written == ["deliveries.meta-0-0"]
    assert (it.tracker.unfinished, it.log.committed) == (1, {})


async def test_what_is_finished_without_a_word_moves_the_partition() -> None:
    it = Bench()
    it.journal.add([Entry([], it.take(0), finishes=True)])
    await it.journal.flush()
    assert (it.written, it.log.committed) == ([], {ONE: Progress(1, "")})


async def test_how_far_a_partition_is_is_said_once() -> None:
    it = Bench()
    it.finish(it.take(0))
    await it.journal.flush()
    it.log.committed.clear()
    position = it.take(1)
    it.journal.add([Entry([record(position)], position, finishes=False)])
    await it.journal.flush()
    assert it.log.committed == {}


async def test_without_news_nothing_is_committed() -> None:
    it = Bench()
    it.journal.add([])
    await it.journal.flush()
    position = it.take(0)
    it.tracker.forget([ONE])
    it.finish(position)
    await it.journal.flush()
    await it.journal.flush()
    assert it.log.commits == 0


async def test_a_commit_that_does_not_come_about_is_made_again() -> None:
    it = Bench()
    it.log.refusals = 2
    it.finish(it.take(0), it.take(1))
    for _ in range(2):
        await it.journal.flush()
        assert (it.written, it.log.committed) == ([], {})
    it.finish(it.take(2))
    await it.journal.flush()
    assert it.written == [f"deliveries.meta-0-{offset}" for offset in range(3)]
    assert it.log.committed == {ONE: Progress(3, "")}


async def test_what_belongs_to_somebody_else_by_now_is_theirs_to_say() -> None:
    it = Bench()
    lost, kept = it.take(0), it.take(0, PARTITIONS[1])
    it.log.refusals = 1
    it.finish(lost, kept)
    await it.journal.flush()
    it.tracker.forget([ONE])
    it.tracker.begin(ONE, 0)  # and it comes back
    await it.journal.flush()
    assert it.written == ["deliveries.meta-1-0"]
    assert it.log.committed == {PARTITIONS[1]: Progress(1, "")}
    it.finish(it.take(0))
    await it.journal.flush()
    assert it.written == ["deliveries.meta-1-0", "deliveries.meta-0-0"]


async def test_many_are_committed_a_part_at_a_time() -> None:
    it = Bench()
    it.finish(*(it.take(offset) for offset in range(12_001)))
    await it.journal.flush()
    assert it.log.commits == 3
    assert len(set(it.written)) == len(it.written) == 12_001
    assert it.log.committed == {ONE: Progress(12_001, "")}


class GatedLog(Log):
    """One whose commits wait to be let through."""

    def __init__(self) -> None:
        super().__init__()
        self.started = False
        self.begun, self.gate = asyncio.Event(), asyncio.Event()

    @override
    async def start(self) -> None:
        self.started = True

    @override
    async def commit(
        self, records: Sequence[Record], progress: Mapping[Partition, Progress], generation: object
    ) -> bool:
        assert self.started
        self.begun.set()
        await self.gate.wait()
        return await super().commit(records, progress, generation)

    @override
    async def close(self) -> None:
        self.started = False


@pytest.fixture
async def gated() -> tuple[Bench, GatedLog]:
    log = GatedLog()
    return Bench(log), log


async def test_one_commit_follows_the_other(gated: tuple[Bench, GatedLog]) -> None:
    it, log = gated
    await it.journal.start()
    running = asyncio.create_task(it.journal.run())
    it.finish(it.take(0))
    async with asyncio.timeout(5):
        await log.begun.wait()
        it.finish(it.take(1))
        beside = asyncio.create_task(it.journal.flush())
        await asyncio.sleep(0)
        log.gate.set()
        await beside
    assert it.written == ["deliveries.meta-0-0", "deliveries.meta-0-1"]
    running.cancel()


async def test_it_waits_between_two_commits(gated: tuple[Bench, GatedLog]) -> None:
    _, log = gated
    log.gate.set()
    it = Bench(log)
    clock = JumpingClock()
    it.journal = Journal(log, it.tracker, clock, 0.25)
    await it.journal.start()
    running = asyncio.create_task(it.journal.run())
    async with asyncio.timeout(5):
        for offset in range(3):
            it.finish(it.take(offset))
            while len(clock.slept) <= offset:
                await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
    assert clock.slept == [0.25] * 3
    assert log.commits == 3
    running.cancel()


async def test_a_commit_under_way_is_brought_to_its_end(gated: tuple[Bench, GatedLog]) -> None:
    it, log = gated
    await it.journal.start()
    running = asyncio.create_task(it.journal.run())
    it.finish(it.take(0))
    async with asyncio.timeout(5):
        await log.begun.wait()
        running.cancel()
        it.finish(it.take(1))
        closing = asyncio.create_task(it.journal.close())
        await asyncio.sleep(0)
        log.gate.set()
        await closing
    assert it.written == ["deliveries.meta-0-0", "deliveries.meta-0-1"]
    assert log.commits == 2
    assert it.log.committed == {ONE: Progress(2, "")}
    assert not log.started


def test_progress_is_told_with_what_is_beyond() -> None:
    (one,) = offsets({("deliveries.meta", 3): Progress(17, "done:AQ==")})
    assert (one.topic, one.partition, one.offset) == ("deliveries.meta", 3, 17)
    assert one.metadata == "done:AQ=="


def told_by(committed: Mapping[Partition, Progress]) -> list[str]:
    """Which records are done, by what Kafka keeps of the partitions."""
    return [
        Position(partition, offset, 0).name
        for partition, done in committed.items()
        for offset in {*range(done.offset), *decode_beyond(done.offset, done.beyond)}
    ]


class Recording(RuleBasedStateMachine):
    """Records are taken and finished, commits come about or not, partitions go and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.next = dict.fromkeys(PARTITIONS, 0)
        self.ends = dict.fromkeys(PARTITIONS, 0)
        self.held: list[Position] = []

    @rule(partition=st.sampled_from(PARTITIONS))
    def take(self, partition: Partition) -> None:
        """Read the next record."""
        offset = self.next[partition]
        self.next[partition] += 1
        self.ends[partition] = max(self.ends[partition], self.next[partition])
        if position := self.bench.tracker.take(partition, offset):
            self.held.append(position)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any of them, also one that belongs to somebody else by now."""
        position = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.bench.finish(position)

    @rule(refusals=st.integers(0, 1))
    def flush(self, refusals: int) -> None:
        """Commit, or try to."""
        self.bench.log.refusals = refusals
        asyncio.run(self.bench.journal.flush())

    @rule(partition=st.sampled_from(PARTITIONS))
    def lose(self, partition: Partition) -> None:
        """Give a partition away; it comes back as it is committed."""
        done = self.bench.log.committed.get(partition, Progress(0, ""))
        self.bench.tracker.forget([partition])
        self.bench.tracker.begin(partition, done.offset, done.beyond)
        self.next[partition] = done.offset

    @invariant()
    def a_word_is_on_record_just_when_its_partition_is_past_it(self) -> None:
        """Once."""
        assert sorted(self.bench.written) == sorted(told_by(self.bench.log.committed))

    @override
    def teardown(self) -> None:
        """Worked to its end, there is a word on each record."""
        for partition, end in self.ends.items():
            while self.next[partition] < end:
                self.take(partition)
        self.bench.finish(*self.held)
        self.flush(0)
        self.a_word_is_on_record_just_when_its_partition_is_past_it()
        assert len(self.bench.written) == sum(self.ends.values())


TestJournal = Recording.TestCase
