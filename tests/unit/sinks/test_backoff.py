"""The waits between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from sinks.backoff import Backoff


def wait(failures: int, dice: float, asked: float | None = None) -> float:
    return Backoff(0.5, 30, lambda: dice)(failures, asked)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_wait_stays_within_its_span(failures: int, dice: float) -> None:
    assert 0 <= wait(failures, dice) < 30
    assert wait(failures, dice) <= wait(failures + 1, dice)


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_the_whole_span_is_diced_over(failures: int, dice: float) -> None:
    assert wait(failures, dice) == wait(failures, 1) * dice


def test_the_span_doubles_up_to_the_cap() -> None:
    assert [wait(failures, 1) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 100), st.floats(0, 1), st.floats(-10, 10**6))
def test_what_the_platform_asks_for_is_obeyed(failures: int, dice: float, asked: float) -> None:
    assert wait(failures, dice, asked) == max(asked, 0)
