"""The canonical event: its units, its money, its blanks."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.event import CustomData, Event, UserData

EXAMPLES = Path(__file__).parents[3] / "examples"


def event(**changes: Any) -> Event:
    return Event.model_validate(
        {"eventId": "e", "eventName": "Lead", "eventTime": 1767225600} | changes
    )


@pytest.mark.parametrize(
    ("told", "milliseconds", "seconds"),
    [
        (1767225600, 1767225600000, 1767225600),
        (1767225600.25, 1767225600250, 1767225600.25),
        (1767225600999, 1767225600999, 1767225600.999),
        (1_000_000_000, 1_000_000_000_000, 1_000_000_000),
        (100_000_000_000, 100_000_000_000, 100_000_000),
    ],
)
def test_times_are_told_apart_by_size(told: float, milliseconds: int, seconds: float) -> None:
    found = event(eventTime=told)
    assert found.event_time == milliseconds
    assert found.model_dump()["eventTime"] == seconds


def test_seconds_are_cut_not_rounded() -> None:
    assert event(eventTime=1767225600.999).event_time_seconds == 1767225600


@given(st.integers(1_000_000_000_000, 99_999_999_999_999))
def test_a_time_comes_through_the_log(milliseconds: int) -> None:
    first = event(eventTime=milliseconds)
    again = Event.model_validate_json(first.model_dump_json())
    assert again.event_time == first.event_time == milliseconds


@pytest.mark.parametrize(
    "time", [0, -1, 999_999_999, 100_000_000_000_000, True, "1767225600", None]
)
def test_what_is_no_time_is_refused(time: Any) -> None:
    with pytest.raises(ValidationError):
        event(eventTime=time)


@given(st.decimals(0, 10**9, places=2))
def test_an_amount_is_what_was_written(amount: Decimal) -> None:
    text = f"{amount:.2f}"
    as_number = CustomData.model_validate(orjson.loads(f'{{"value":{text}}}'))
    as_text = CustomData.model_validate({"value": f" {text} "})
    assert as_number.value == as_text.value == Decimal(text)
    again = CustomData.model_validate_json(as_number.model_dump_json())
    assert again.value == Decimal(text)


def test_no_binary_approximation_of_an_amount() -> None:
    assert str(CustomData.model_validate({"value": 49.99}).value) == "49.99"


@pytest.mark.parametrize("blank", ["", "   ", None])
def test_a_blank_is_absent(blank: str | None) -> None:
    assert UserData.model_validate({"email": blank, "externalId": blank}) == UserData()
    assert CustomData.model_validate({"currency": blank, "value": blank}) == CustomData()


@pytest.mark.parametrize("told", ["TEST_4-2", f" {'x' * 64}\n"])
def test_a_test_code_comes_through_the_log_without_its_blanks(told: str) -> None:
    first = event(testEventCode=told)
    assert first.test_event_code == told.strip()
    assert first.model_dump()["testEventCode"] == told.strip()
    assert Event.model_validate_json(first.model_dump_json()) == first


@pytest.mark.parametrize("blank", ["", " \n", None])
def test_a_blank_test_code_is_none(blank: str | None) -> None:
    assert event(testEventCode=blank) == event()


@pytest.mark.parametrize("wrong", ["TEST 42", "TEST/42", "x" * 65, "Ä", 42, 0, False])
def test_what_is_no_test_code_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="testEventCode"):
        event(testEventCode=wrong)


def test_a_currency_is_upper_case() -> None:
    assert CustomData.model_validate({"currency": " eur "}).currency == "EUR"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_every_example_is_made_of_events(path: Path) -> None:
    document = orjson.loads(path.read_bytes())
    for example in document["events"]:
        Event.model_validate({"eventId": "derived"} | example)


@given(st.floats(0, 10**6), st.integers(1, 20))
def test_noise_of_binary_arithmetic_is_rounded_away(price: float, quantity: int) -> None:
    written = round(price, 2)
    value = CustomData.model_validate({"value": written * quantity}).value

    assert value is not None
    assert abs(value - Decimal(repr(written)) * quantity) < Decimal("0.000001")


def test_three_mugs_cost_what_three_mugs_cost() -> None:
    assert CustomData.model_validate({"value": 3 * 19.99}).value == Decimal("59.97")
    with pytest.raises(ValidationError):
        CustomData.model_validate({"value": "59.97000000000001"})
