"""No record is lost, and none whose fate is on record is worked again."""

import base64
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sinks.offsets import (
    MAX_WINDOW,
    OffsetTracker,
    Partition,
    Position,
    Progress,
    decode_beyond,
    encode_beyond,
)

PARTITIONS: list[Partition] = [("deliveries.meta", 0), ("deliveries.meta", 1)]
ONE = PARTITIONS[0]


class Consumption(RuleBasedStateMachine):
    """A group member that takes, finishes and commits in any order, loses partitions and dies.

    What is finished is on record with the next commit, and else not at all, as in a transaction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.stored = dict.fromkeys(PARTITIONS, Progress(0, ""))
        """What Kafka keeps."""
        self.next = dict.fromkeys(PARTITIONS, 0)
        self.written: dict[Partition, set[int]] = defaultdict(set)
        """Offsets that hold a record; the others are gaps, as control records leave them."""
        self.on_record: dict[Partition, set[int]] = defaultdict(set)
        self.finished: list[Position] = []
        self.open: list[Position] = []
        self.stale: list[Position] = []
        for partition in PARTITIONS:
            self.tracker.begin(partition, 0)

    @rule(partition=st.sampled_from(PARTITIONS), gap=st.integers(0, 20))
    def take(self, partition: Partition, gap: int) -> None:
        """Read the next record; where one was read before a rewind, the same one again."""
        again = [o for o in self.written[partition] if o >= self.next[partition]]
        offset = min(again) if again else self.next[partition] + gap
        self.written[partition].add(offset)
        self.next[partition] = offset + 1
        position = self.tracker.take(partition, offset)
        if offset in self.on_record[partition]:
            assert position is None
        else:
            assert position is not None
            assert (position.partition, position.offset) == (partition, offset)
            assert self.tracker.ours([position]) == [True]
            self.open.append(position)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def read_twice(self, data: st.DataObject) -> None:
        """What is being worked is not worked beside that."""
        position = data.draw(st.sampled_from(self.open))
        assert self.tracker.take(position.partition, position.offset) is None

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any record's fate is decided."""
        position = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.finished.append(position)
        self.tracker.finish([position])

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        """News of an assignment that is over changes nothing."""
        position = self.stale.pop(data.draw(st.integers(0, len(self.stale) - 1)))
        assert self.tracker.ours([position]) == [False]
        before = self.tracker.committable(), self.tracker.unfinished
        self.tracker.finish([position])
        assert (self.tracker.committable(), self.tracker.unfinished) == before

    @rule()
    def commit(self) -> None:
        """All that is decided comes on record, together with how far the partitions are."""
        progress = self.tracker.committable()
        self.tracker.mark_committed(progress)
        for partition, done in progress.items():
            assert done.offset >= self.stored[partition].offset  # never back
            self.stored[partition] = done
        for position in self.finished:
            self.on_record[position.partition].add(position.offset)
        self.finished = []
        assert self.tracker.committable() == {}

    @rule(partition=st.sampled_from(PARTITIONS))
    def lose(self, partition: Partition) -> None:
        """Give a partition away; it comes back later, to be read from what was committed."""
        self.tracker.forget([partition])
        assert partition not in self.tracker.committable()
        assert self.tracker.take(partition, self.next[partition]) is None
        self._come_back(partition)

    @rule()
    def die(self) -> None:
        """The process ends, and another one goes on."""
        self.tracker = OffsetTracker()
        for partition in PARTITIONS:
            self._come_back(partition)
        self.stale = []

    def _come_back(self, partition: Partition) -> None:
        done = self.stored[partition]
        self.tracker.begin(partition, done.offset, done.beyond)
        self.next[partition] = done.offset
        self.stale += [p for p in self.open if p.partition == partition]
        self.open = [p for p in self.open if p.partition != partition]
        self.finished = [p for p in self.finished if p.partition != partition]

    @invariant()
    def what_kafka_keeps_is_what_is_on_record(self) -> None:
        """Neither less, or it would be worked again, nor more, or it would be lost."""
        for partition, done in self.stored.items():
            before = {o for o in self.written[partition] if o < done.offset}
            assert before <= self.on_record[partition]
            beyond = {o for o in self.on_record[partition] if o >= done.offset}
            assert decode_beyond(done.offset, done.beyond) == beyond

    @invariant()
    def the_first_unfinished_one_holds_the_partition(self) -> None:
        """Counted from there on."""
        assert self.tracker.unfinished == len(self.open)
        for partition, window in self.tracker.windows().items():
            offsets = [p.offset for p in self.open if p.partition == partition]
            low = min(offsets, default=self.next[partition])
            assert window == self.next[partition] - low


TestOffsets = Consumption.TestCase


lows = st.integers(0, 10**12)
windows = st.sets(st.integers(0, MAX_WINDOW - 1), max_size=300)


@given(lows, windows)
def test_what_is_finished_beyond_is_read_back(low: int, ahead: set[int]) -> None:
    finished = {low + one for one in ahead}
    text = encode_beyond(low, finished)
    assert decode_beyond(low, text) == finished
    assert len(text) <= 4096


def test_a_whole_window_fits_beside_an_offset() -> None:
    finished = set(range(5, 5 + MAX_WINDOW))
    assert MAX_WINDOW == 22_000
    assert len(encode_beyond(5, finished)) <= 4096
    assert decode_beyond(5, encode_beyond(5, finished)) == finished


def test_what_is_too_far_ahead_to_fit_is_worked_again() -> None:
    far = {7, 10**6, *range(30_000)}
    text = encode_beyond(0, far)
    assert len(text) <= 4096
    kept = decode_beyond(0, text)
    assert kept == set(range(len(kept)))
    assert len(kept) >= MAX_WINDOW


@given(st.text(max_size=20) | st.binary(max_size=30).map(lambda b: base64.b64encode(b).decode()))
def test_a_text_of_somebody_else_counts_as_none(text: str) -> None:
    assert decode_beyond(0, text) == set()
    tracker = OffsetTracker()
    tracker.begin(ONE, 3, text)
    assert tracker.take(ONE, 3) is not None


@pytest.mark.parametrize(
    "text", ["", "done", "done:", "done:?", "done:é", "done:AAA", "done:?AQ==", "admin"]
)
def test_a_text_that_is_broken_counts_as_none(text: str) -> None:
    assert decode_beyond(0, text) == set()


def test_nothing_is_committed_of_a_partition_of_which_nothing_was_read() -> None:
    tracker = OffsetTracker()
    tracker.begin(ONE, -2)  # where nothing was committed, Kafka names the beginning so
    assert tracker.committable() == {}


def test_what_is_finished_behind_the_very_first_record_is_committed() -> None:
    tracker = OffsetTracker()
    tracker.begin(ONE, -2)
    positions = [tracker.take(ONE, offset) for offset in range(3)]
    tracker.finish(position for position in positions[1:] if position)
    assert tracker.committable() == {ONE: Progress(0, encode_beyond(0, {1, 2}))}


def test_a_partition_that_was_given_away_hands_nothing_out() -> None:
    tracker = OffsetTracker()
    tracker.begin(ONE, 0)
    position = tracker.take(ONE, 0)
    assert position is not None
    tracker.forget([ONE, PARTITIONS[1]])
    assert tracker.take(ONE, 1) is None
    assert tracker.ours([position]) == [False]
    assert (tracker.unfinished, tracker.windows(), tracker.committable()) == (0, {}, {})
    tracker.mark_committed({ONE: Progress(1, "")})
    assert tracker.committable() == {}


def test_a_position_is_named_after_where_it_lies_and_nothing_else() -> None:
    names = {Position(("deliveries.meta", 3), 17, epoch).name for epoch in (1, 2)}
    assert names == {"deliveries.meta-3-17"}
