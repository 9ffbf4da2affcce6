"""No offset is committed past a record whose fate is not on record."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sinks.offsets import OffsetTracker, Partition, Position

PARTITIONS: list[Partition] = [("deliveries.meta", 0), ("deliveries.meta", 1)]


class Consumption(RuleBasedStateMachine):
    """A group member that takes, finishes and commits in any order, loses and regains partitions."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.committed = dict.fromkeys(PARTITIONS, 0)
        self.next = dict.fromkeys(PARTITIONS, 0)
        self.written: dict[Partition, set[int]] = {p: set() for p in PARTITIONS}
        """Offsets that hold a record; the others are gaps, as control records leave them."""
        self.finished: dict[Partition, set[int]] = {p: set() for p in PARTITIONS}
        self.open: list[Position] = []
        self.stale: list[Position] = []

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(0, 2))
    def take(self, partition: Partition, gap: int) -> None:
        """Consume the next record; where one was read before a rewind, the same one again."""
        again = [o for o in self.written[partition] if o >= self.next[partition]]
        offset = min(again) if again else self.next[partition] + gap
        self.written[partition].add(offset)
        self.next[partition] = offset + 1
        self.open.append(self.tracker.take(partition, offset))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any record's fate is on record."""
        position = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.finished[position.partition].add(position.offset)
        self.tracker.finish(position)

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        """News of an assignment that is over changes nothing."""
        position = self.stale.pop(data.draw(st.integers(0, len(self.stale) - 1)))
        before = self.tracker.committable(), self.tracker.unfinished
        self.tracker.finish(position)
        assert (self.tracker.committable(), self.tracker.unfinished) == before

    @rule()
    def commit(self) -> None:
        """Commit what may be."""
        offsets = self.tracker.committable()
        self.tracker.mark_committed(offsets)
        for partition, offset in offsets.items():
            assert offset >= self.committed[partition]  # never back
            self.committed[partition] = offset
        assert self.tracker.committable() == {}

    @rule(partition=st.sampled_from(PARTITIONS))
    def lose(self, partition: Partition) -> None:
        """Give a partition away; whoever has it next starts at what was committed."""
        self.tracker.forget([partition])
        self.stale += [p for p in self.open if p.partition == partition]
        self.open = [p for p in self.open if p.partition != partition]
        self.finished[partition] = {
            offset for offset in self.finished[partition] if offset < self.committed[partition]
        }
        self.next[partition] = self.committed[partition]
        assert partition not in self.tracker.committable()

    @invariant()
    def everything_before_what_may_be_committed_is_finished(self) -> None:
        """The promise itself."""
        for partition, offset in (self.committed | self.tracker.committable()).items():
            before = {o for o in self.written[partition] if o < offset}
            assert before <= self.finished[partition]

    @invariant()
    def nothing_finished_is_held_back(self) -> None:
        """When all that was taken is finished, all of it may be committed."""
        assert self.tracker.unfinished == len(self.open)
        for partition in PARTITIONS:
            if not any(p.partition == partition for p in self.open):
                may = self.committed | self.tracker.committable()
                assert may[partition] == max(self.next[partition], self.committed[partition])


TestOffsets = Consumption.TestCase
