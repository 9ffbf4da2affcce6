"""Which deliveries make the next batch, and when it leaves."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from platforms.base import Limits
from schemas.delivery import Delivery
from sinks.batcher import Batcher, Pending
from sinks.offsets import Position

LINGER = 5.0
LIMITS = Limits(max_events=4, max_body_bytes=1024 + 100, max_age_seconds=1)
"""Four events, and a hundred bytes of payloads."""

DELIVERY = Delivery("dom", "dst", "meta", "e-1", "Purchase", 1, 2, "raw-events-0-7")


def pending(number: int, at: float = 0.0, *, size: int = 1, code: str | None = None) -> Pending:
    """A delivery that takes ``size`` bytes in a body."""
    delivery = DELIVERY._replace(event_id=f"e-{number}", test_event_code=code)
    position = Position(("deliveries.meta", 0), number, 1)
    return Pending(delivery, b"x" * (size - 1), position, at, f"name-{number}")


def batcher(*waiting: Pending) -> Batcher:
    it = Batcher(LIMITS, LINGER)
    for one in waiting:
        it.add(one)
    return it


def numbers(batch: Sequence[Pending]) -> list[int]:
    return [one.position.offset for one in batch]


def test_a_batch_is_full_by_its_count() -> None:
    it = batcher(*(pending(n) for n in range(3)))
    assert it.take(0) == []
    it.add(pending(3))
    it.add(pending(4))
    assert numbers(it.take(0)) == [0, 1, 2, 3]
    assert it.take(0) == []
    assert len(it) == 1


def test_a_batch_is_full_by_its_bytes() -> None:
    it = batcher(pending(0, size=40), pending(1, size=60))
    assert it.take(0) == []
    it.add(pending(2, size=1))
    assert it.size == 101
    assert numbers(it.take(0)) == [0, 1]
    assert it.size == 1


def test_what_is_larger_than_a_body_goes_alone() -> None:
    it = batcher(pending(0, size=101), pending(1))
    assert numbers(it.take(0)) == [0]
    assert it.take(0) == []


def test_a_lone_one_lingers_and_no_longer() -> None:
    it = batcher(pending(0, 10))
    assert it.ready_at() == 15
    assert it.take(14.9) == []
    assert numbers(it.take(15)) == [0]
    assert (it.ready_at(), it.oldest_at, len(it)) == (None, None, 0)


def test_company_does_not_make_the_first_one_linger_longer() -> None:
    it = batcher(pending(0, 10), pending(1, 14))
    assert it.ready_at() == 15
    assert numbers(it.take(15)) == [0, 1]


def test_at_the_end_nothing_lingers() -> None:
    assert numbers(batcher(pending(0, 10)).take(10, at_once=True)) == [0]
    assert batcher().take(10, at_once=True) == []


def test_what_was_tried_goes_first_again_and_does_not_linger_again() -> None:
    it = batcher(*(pending(n, 10) for n in range(4)))
    batch = it.take(10)
    for number in (4, 5, 6):
        it.add(pending(number, 11))
    it.put_back(batch[:2])
    assert it.ready_at() == 10
    assert numbers(it.take(11)) == [0, 1, 4, 5]
    assert it.take(11) == []  # that one was never tried
    assert it.ready_at() == 16


def test_two_batches_that_come_back_are_both_ready() -> None:
    it = batcher(*(pending(n, 10) for n in range(8)))
    first, second = it.take(10), it.take(10)
    it.put_back(first)
    it.put_back(second)
    it.put_back([])
    assert [numbers(it.take(10)), numbers(it.take(10))] == [[4, 5, 6, 7], [0, 1, 2, 3]]


def test_the_code_whose_first_has_waited_longest_goes_first() -> None:
    it = batcher(pending(0, 2, code="A"), pending(1, 1), pending(2, 3, code="B"))
    assert it.oldest_at == 1
    assert [numbers(it.take(9)) for _ in range(4)] == [[1], [0], [2], []]


def test_a_full_batch_leaves_before_a_lone_one_that_lingers() -> None:
    it = batcher(pending(0, code="A"), *(pending(n, 1) for n in range(1, 5)))
    assert numbers(it.take(1)) == [1, 2, 3, 4]
    assert it.take(1) == []


def test_what_has_waited_for_so_long_is_given_up() -> None:
    it = batcher(pending(0, 1), pending(1, 2, code="A"), pending(2, 3), pending(3, 4, code="A"))
    assert sorted(numbers(it.give_up(32, 30))) == [0, 1]
    assert (len(it), it.size, it.oldest_at) == (2, 2, 3)
    assert numbers(it.take(9)) == [2]
    assert sorted(numbers(it.give_up(4))) == [3]
    assert len(it) == 0


class Queueing(RuleBasedStateMachine):
    """Deliveries come, leave, come back and are given up; nothing is lost, mixed or too large."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = batcher()
        self.now = 0.0
        self.count = 0
        self.waiting: dict[int, Pending] = {}
        self.tried: list[list[Pending]] = []

    @rule(code=st.sampled_from([None, "A", "B"]), size=st.integers(1, 120))
    def add(self, code: str | None, size: int) -> None:
        """One more."""
        one = pending(self.count, self.now, size=size, code=code)
        self.batcher.add(one)
        self.waiting[self.count] = one
        self.count += 1

    @rule(at_once=st.booleans())
    def take(self, at_once: bool) -> None:
        """A batch leaves: if nothing lingers, in any case while something is there."""
        has_lingered = any(one.taken_at + LINGER <= self.now for one in self.waiting.values())
        batch = self.batcher.take(self.now, at_once=at_once)
        assert batch or not self.waiting or not (at_once or has_lingered)
        for one in batch:
            del self.waiting[one.position.offset]
        assert len({one.key for one in batch}) <= 1
        assert len(batch) <= LIMITS.max_events
        assert sum(one.size for one in batch) <= LIMITS.max_payload_bytes or len(batch) == 1
        if batch:
            self.tried.append(batch)

    @precondition(lambda self: self.tried)
    @rule()
    def put_back(self) -> None:
        """It comes before all others of its code again, in its order."""
        batch = self.tried.pop()
        self.batcher.put_back(batch)
        self.waiting |= {one.position.offset: one for one in batch}
        assert list(self.batcher._queues[batch[0].key].items)[: len(batch)] == batch
        assert self.batcher.ready_at() is not None

    @rule(seconds=st.integers(0, 6))
    def pass_time(self, seconds: int) -> None:
        """Let it be later."""
        self.now += seconds

    @rule(seconds=st.integers(0, 6))
    def give_up(self, seconds: int) -> None:
        """Just those that have waited for so long."""
        given_up = {one.position.offset for one in self.batcher.give_up(self.now, seconds)}
        old = {n for n, one in self.waiting.items() if one.taken_at + seconds <= self.now}
        assert given_up == old
        self.waiting = {n: one for n, one in self.waiting.items() if n not in old}

    @invariant()
    def all_that_waits_is_counted(self) -> None:
        """And something is ready at some time while anything waits."""
        assert len(self.batcher) == len(self.waiting)
        assert self.batcher.size == sum(one.size for one in self.waiting.values())
        assert (self.batcher.ready_at() is None) == (not self.waiting)
        assert (self.batcher.oldest_at is None) == (not self.waiting)

    @override
    def teardown(self) -> None:
        """What is left leaves within the time that it may linger."""
        self.now += LINGER
        while batch := self.batcher.take(self.now):
            for one in batch:
                del self.waiting[one.position.offset]
        assert self.waiting == {}


TestBatcher = Queueing.TestCase
