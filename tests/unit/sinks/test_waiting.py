"""When what waits in a topic may go on."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.delivery import Delivery
from sinks.waiting import Waiting

NOW = 1_795_176_060_000
PARKED_MS = 3_600_000
DELIVERY = Delivery("dom", "dst", "meta", "e-1", "Purchase", NOW, NOW, "raw-events-0-0")


def due(at: int, platform: str = "meta") -> Delivery:
    return DELIVERY._replace(not_before=at, platform=platform)


def waiting(releases_per_second: float = 1000) -> Waiting:
    return Waiting(PARKED_MS / 1000, releases_per_second)


@given(st.integers(-(10**9), 10**9), st.booleans())
def test_nothing_goes_on_before_it_is_due(late: int, is_parked: bool) -> None:
    found = waiting().delay_ms(due(NOW + late), NOW, is_parked=is_parked)
    assert found == max(late, 0)


def test_a_release_lets_go_what_was_parked_until_then() -> None:
    it = waiting()
    it.release("meta", NOW)
    now = NOW + 10_000
    parked_before, parked_after = due(NOW + PARKED_MS), due(now + PARKED_MS)
    assert it.delay_ms(parked_before, now, is_parked=True) == 0
    assert it.delay_ms(parked_after, now, is_parked=True) == PARKED_MS


def test_the_clocks_of_two_processes_may_be_a_little_apart() -> None:
    it = waiting()
    it.release("meta", NOW)
    assert it.delay_ms(due(NOW + PARKED_MS + 1_900), NOW, is_parked=True) == 0
    assert it.delay_ms(due(NOW + PARKED_MS + 2_100), NOW, is_parked=True) > 0


def test_a_release_is_for_one_platform_and_for_what_is_parked() -> None:
    it = waiting()
    it.release("meta", NOW)
    assert it.delay_ms(due(NOW + PARKED_MS, "tiktok"), NOW, is_parked=True) == PARKED_MS
    assert it.delay_ms(due(NOW + 60_000), NOW, is_parked=False) == 60_000


def test_an_older_release_holds_back_nothing() -> None:
    it = waiting()
    it.release("meta", NOW)
    now = NOW + 3 * PARKED_MS
    assert it.delay_ms(due(now), now, is_parked=True) == 0


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=60),
    st.sampled_from([0.5, 2.0, 10.0, 100.0]),
)
def test_what_was_parked_goes_on_at_its_pace(gaps: list[int], per_second: float) -> None:
    """Those who are told to wait come again when they were told to; no second sees more than a
    second's worth beside what was saved up in the one before."""
    it, now, gone = waiting(per_second), NOW, []
    for gap in gaps:
        now += gap
        while delay := it.delay_ms(due(NOW), now, is_parked=True):
            assert delay <= 1000 / per_second + 1
            now += delay
        gone.append(now)
    for start in gone:
        within = sum(1 for at in gone if start <= at < start + 1000)
        assert within <= max(1, per_second) + per_second + 1


def test_the_pace_holds_for_what_is_parked_only() -> None:
    it = waiting(1)
    assert [it.delay_ms(due(NOW), NOW, is_parked=False) for _ in range(5)] == [0] * 5
    assert [it.delay_ms(due(NOW), NOW, is_parked=True) > 0 for _ in range(3)] == [False, True, True]


def test_a_clock_that_is_set_back_stops_nothing_for_good() -> None:
    it = waiting(1)
    assert it.delay_ms(due(NOW - 10**6), NOW, is_parked=True) == 0
    back = NOW - 500_000
    delay = it.delay_ms(due(NOW - 10**6), back, is_parked=True)
    assert delay == 1000
    assert it.delay_ms(due(NOW - 10**6), back + delay, is_parked=True) == 0
