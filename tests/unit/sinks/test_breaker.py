"""When a destination may be asked, and by how many."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sinks.backoff import Backoff
from sinks.breaker import Breaker, Permit, State

LIMIT = 3
FREE = 4


def breaker(limit: int = LIMIT) -> Breaker:
    return Breaker(Backoff(1.0, 8.0, lambda: 0.5), limit)


def opened() -> Breaker:
    """A breaker that has failed until it opened; it may be probed from 100 on."""
    it = breaker()
    for _ in range(LIMIT):
        it.failed(it.begin(), 0)
    it.hold(100)
    return it


quarters = st.integers(0, 80).map(lambda quarters: quarters / 4)
"""Seconds, of which sums are exact."""

asked = st.none() | quarters


class Requests(RuleBasedStateMachine):
    """Requests begin, bring any news in any order, and end; time passes between."""

    @initialize(limit=st.integers(1, LIMIT))
    def start(self, limit: int) -> None:
        """All is well."""
        self.breaker = breaker(limit)
        self.now = 0.0
        self.open: list[Permit] = []
        self.probes: list[Permit] = []
        """Those of them that were sent to see whether it works, and of which no news came."""

    @rule()
    def begin(self) -> None:
        """A request is sent, if one may be."""
        free = FREE - len(self.open)
        room = self.breaker.room(self.now, free)
        assert 0 <= room <= max(free, 0)
        if not room:
            return
        assert self.now >= self.breaker.held_until
        is_probe = self.breaker.needs_probe
        permit = self.breaker.begin()
        if is_probe:
            assert room == 1
            assert permit not in self.open
            self.probes.append(permit)
        self.open.append(permit)

    def _end(self, data: st.DataObject, tell: Callable[[Permit], object] | None = None) -> None:
        permit = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        if tell is not None:
            tell(permit)
        self.breaker.ended(permit)
        if permit in self.probes:
            self.probes.remove(permit)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        """The platform took it."""
        self._end(data, self.breaker.succeeded)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), asked=asked)
    def fail(self, data: st.DataObject, asked: float | None) -> None:
        """It did not answer."""
        self._end(data, lambda permit: self.breaker.failed(permit, self.now, asked))
        if asked is not None:
            assert self.breaker.room(self.now, FREE) == 0 or not asked

    @precondition(lambda self: self.open)
    @rule(data=st.data(), asked=asked)
    def throttle(self, data: st.DataObject, asked: float | None) -> None:
        """It asked to slow down."""
        self._end(data, lambda permit: self.breaker.throttled(permit, self.now, asked))
        if asked is not None:
            assert self.breaker.held_until >= self.now + asked

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def find_misconfigured(self, data: st.DataObject) -> None:
        """Its token is wrong."""
        self._end(data, lambda _: self.breaker.misconfigured(self.now, 10))
        assert self.breaker.state is State.MISCONFIGURED
        self.probes = []

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end_without_news(self, data: st.DataObject) -> None:
        """Nothing was sent after all."""
        self._end(data)

    @rule()
    def suspect(self) -> None:
        """What was parked comes back."""
        self.breaker.suspect()
        assert self.breaker.needs_probe

    @rule()
    def reset(self) -> None:
        """Its configuration changed."""
        self.breaker.reset()
        self.probes = []
        assert self.breaker.state is State.WORKING
        assert self.breaker.room(self.now, FREE) == FREE

    @rule(seconds=quarters)
    def pass_time(self, seconds: float) -> None:
        """Let it be later."""
        self.now += seconds

    @rule()
    def end_all(self) -> None:
        """However it came about, it is asked again after its time."""
        for permit in self.open:
            self.breaker.ended(permit)
        self.open, self.probes = [], []
        self.now = max(self.now, self.breaker.held_until)
        assert self.breaker.room(self.now, FREE) == (1 if self.breaker.needs_probe else FREE)

    @invariant()
    def there_is_one_probe_at_most(self) -> None:
        """Whatever happened: one, and beside it nothing."""
        assert len(self.probes) <= 1
        if self.probes and self.breaker.needs_probe:
            assert self.breaker.room(self.now, FREE) == 0


TestBreaker = Requests.TestCase


def test_it_opens_after_so_many_failures_in_a_row_and_waits_longer_each_time() -> None:
    it = breaker()
    now, waits = 0.0, []
    for failures in range(1, 6):
        it.failed(it.begin(), now)
        waits.append(it.held_until - now)
        assert it.state is State.FAILING
        assert it.room(it.held_until - 0.01, FREE) == 0
        now = it.held_until
        assert it.room(now, FREE) == (1 if failures >= LIMIT else FREE)
    assert waits == [0.5, 1, 2, 4, 4]


def test_ten_requests_that_fail_together_are_one_failure() -> None:
    it = breaker()
    for permit in [it.begin() for _ in range(10)]:
        it.failed(permit, 7)
    assert it.held_until == 7.5
    assert not it.needs_probe


def test_a_success_between_failures_begins_the_count_anew() -> None:
    it = breaker()
    for _ in range(5):
        for _ in range(LIMIT - 1):
            it.failed(it.begin(), 0)
        assert not it.needs_probe
        it.succeeded(it.begin())
        assert it.state is State.WORKING


def test_one_probe_goes_through_and_its_success_closes() -> None:
    it = opened()
    assert it.room(99, FREE) == 0
    assert it.room(100, FREE) == 1
    permit = it.begin()
    assert it.room(100, FREE) == 0
    it.succeeded(permit)
    assert (it.state, it.room(100, FREE)) == (State.WORKING, FREE)


def test_a_probe_that_fails_opens_it_again() -> None:
    it = opened()
    it.failed(it.begin(), 100)
    assert (it.room(103.9, FREE), it.room(104, FREE)) == (0, 1)


def test_a_probe_that_was_not_sent_after_all_makes_room_for_the_next() -> None:
    it = opened()
    it.ended(it.begin())
    assert it.room(100, FREE) == 1


def test_who_had_no_room_for_itself_has_none_for_a_probe() -> None:
    assert opened().room(100, 0) == 0


@pytest.mark.parametrize("news", ["succeeded", "failed", "ended"])
def test_news_of_an_older_request_does_not_end_a_probe(news: str) -> None:
    it = breaker()
    older = [it.begin() for _ in range(4)]
    it.throttled(older[0], 0, 10)
    it.begin()
    if news == "succeeded":
        it.succeeded(older[1])
    elif news == "failed":
        it.failed(older[1], 10)
    it.ended(older[1])
    assert it.state is State.FAILING
    assert it.held_until == 10
    assert it.room(10, FREE) == 0


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_who_is_told_to_slow_down_waits_as_long_and_is_probed_then(limit: int) -> None:
    it = breaker(limit)
    it.throttled(it.begin(), 5, 60)
    assert it.held_until == 65
    assert it.room(65, FREE) == 1


def test_who_does_not_say_how_long_is_left_alone_as_after_failures() -> None:
    it = breaker()
    it.throttled(it.begin(), 5, None)
    assert it.held_until == 5 + 2
    assert it.needs_probe


def test_the_longest_wait_that_was_asked_for_counts() -> None:
    it = breaker()
    permits = [it.begin() for _ in range(3)]
    for permit, seconds in zip(permits, (60, 90, 30), strict=True):
        it.throttled(permit, 0, seconds)
    assert it.held_until == 90


def test_a_wrong_token_opens_it_whatever_else_is_under_way() -> None:
    it = breaker()
    permits = [it.begin() for _ in range(3)]
    for _ in permits:
        it.misconfigured(0, 3600)
    for permit in permits:
        it.succeeded(permit)  # too late to say that all is well
    assert it.state is State.MISCONFIGURED
    assert (it.room(3599, FREE), it.room(3600, FREE)) == (0, 1)


def test_after_it_was_mended_it_is_closed_and_may_open_again() -> None:
    it = breaker()
    it.misconfigured(0, 3600)
    it.reset()
    assert (it.state, it.room(0, FREE)) == (State.WORKING, FREE)
    it.misconfigured(0, 3600)
    assert it.room(0, FREE) == 0


def test_what_was_begun_before_a_reset_says_nothing_of_now() -> None:
    it = opened()
    permit = it.begin()
    it.reset()
    it.failed(permit, 100)
    assert (it.state, it.room(100, FREE)) == (State.WORKING, FREE)


def test_a_hold_outlasts_the_successes_of_others() -> None:
    it = breaker()
    first, second = it.begin(), it.begin()
    it.succeeded(first)
    it.hold(50)
    it.succeeded(second)
    it.hold(20)
    assert (it.room(49, FREE), it.room(50, FREE)) == (0, FREE)


def test_who_is_suspected_is_asked_by_one() -> None:
    it = breaker()
    before = it.begin()
    it.suspect()
    assert it.room(0, FREE) == 1
    it.begin()
    it.suspect()
    it.ended(before)
    assert it.room(0, FREE) == 0
