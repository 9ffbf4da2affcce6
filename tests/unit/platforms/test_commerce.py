from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms import commerce
from schemas.config import Destination
from schemas.event import Content, Event, EventName
from schemas.outcome import Reason, Skip


@pytest.mark.parametrize(
    ("amount", "currency", "text", "number"),
    [
        ("5", "EUR", "5.00", b"5"),
        ("5.00", "EUR", "5.00", b"5"),
        ("64.98", "EUR", "64.98", b"64.98"),
        ("1500.00", "JPY", "1500", b"1500"),
        ("1.5", "KWD", "1.500", b"1.5"),
        ("0.0125", "USD", "0.0125", b"0.0125"),
        ("0", "USD", "0.00", b"0"),
        ("1E+3", "USD", "1000.00", b"1000"),
        ("9.9", None, "9.90", b"9.9"),
    ],
)
def test_an_amount_is_printed_as_its_currency_is(
    amount: str, currency: str | None, text: str, number: bytes
) -> None:
    assert commerce.as_text(Decimal(amount), currency) == text
    assert orjson.dumps(commerce.as_number(Decimal(amount))) == number


def test_no_amount_is_nothing() -> None:
    assert commerce.as_text(None, "EUR") is None
    assert commerce.as_number(None) is None


@given(st.decimals(0, 10**9, places=2), st.sampled_from(["EUR", "JPY", "KWD", None]))
def test_printing_never_changes_an_amount(amount: Decimal, currency: str | None) -> None:
    text = commerce.as_text(amount, currency)
    assert text is not None
    assert Decimal(text) == amount
    assert Decimal(orjson.dumps(commerce.as_number(amount)).decode()) == amount


def test_the_total_of_items() -> None:
    lines = [Content(quantity=2, price=Decimal("29.99")), Content(price=Decimal("5.00"))]
    assert commerce.item_total(lines) == Decimal("64.98")
    assert commerce.item_total([*lines, Content()]) is None
    assert commerce.item_total([]) is None


def _event(name: str, **custom: object) -> Event:
    return Event.model_validate(
        {"eventId": "e", "eventName": name, "eventTime": 1_795_176_000, "customData": custom}
    )


def _basket(name: str, **custom: object) -> commerce.Basket:
    found = commerce.basket(_event(name, **custom))
    assert isinstance(found, commerce.Basket)
    return found


def test_only_what_is_to_be_bought_is_worth_its_items() -> None:
    items = [{"id": 7, "quantity": 2, "price": "1.10"}, {"name": "no id", "price": 1}]
    cart = _basket("AddToCart", currency="EUR", contents=items)
    assert (cart.value, cart.num_items, cart.ids) == (Decimal("3.20"), 3, ["7"])
    assert _basket("Search", currency="EUR", contents=items).value is None
    assert _basket("AddToCart", currency="EUR", contents=items, value=9, numItems=1).value == 9


def test_money_of_no_currency_is_not_sent() -> None:
    assert _basket("AddToCart", value=9).value is None


PRICED = [{"id": "a", "price": "10.10", "quantity": 2}, {"price": 5}]
MONEY = st.decimals(0, 10**12, places=6)


def _told(event: Event, currency: str | None = None, **rule: Any) -> Event | Skip:
    row = {"id": "d", "platform": "meta", "account": "1", "sealed": ""} | rule
    return commerce.apply_value_rule(event, Destination.model_validate(row), currency)


def _money(event: Event | Skip) -> tuple[Decimal | None, str | None]:
    assert isinstance(event, Event)
    return event.custom_data.value, event.custom_data.currency


def test_the_total_is_left_as_it_came() -> None:
    event = _event("Purchase", value=9)
    assert _told(event, "EUR") is event


@pytest.mark.parametrize(
    ("name", "custom", "value"),
    [
        ("Purchase", {"value": 99, "contents": PRICED}, "25.20"),
        ("Purchase", {"contents": PRICED}, "25.20"),
        ("Search", {"value": 99, "contents": PRICED}, "25.20"),
        ("Search", {"contents": PRICED}, None),
        ("AddToCart", {"value": 99, "contents": [*PRICED, {"id": "no price"}]}, None),
        ("Lead", {"value": 99}, None),
    ],
)
def test_a_subtotal_is_what_the_items_cost(
    name: str, custom: dict[str, Any], value: str | None
) -> None:
    told = _told(_event(name, currency="EUR", **custom), value="subtotal")
    assert _money(told) == (value and Decimal(value), "EUR")


@given(st.lists(st.tuples(MONEY, st.integers(0, 10**6)), min_size=1, max_size=20), MONEY)
def test_a_subtotal_is_exact(lines: list[tuple[Decimal, int]], value: Decimal) -> None:
    contents = [{"price": str(price), "quantity": quantity} for price, quantity in lines]
    event = _event("AddToCart", currency="EUR", value=str(value), contents=contents)
    found, _ = _money(_told(event, value="subtotal"))
    assert found is not None
    millionths = sum(int(price * 10**6) * quantity for price, quantity in lines)
    assert found * 10**6 == millionths


@given(MONEY, st.sampled_from(EventName), st.sampled_from([{}, {"value": 3, "currency": "USD"}]))
def test_a_fixed_value_is_that_of_every_event(
    amount: Decimal, name: EventName, custom: dict[str, Any]
) -> None:
    told = _told(_event(name, **custom), "EUR", value="fixed", fixedValue=str(amount))
    assert _money(told) == (amount, custom.get("currency", "EUR"))


def test_no_value_is_no_currency_and_no_price_either() -> None:
    cart = _event("AddToCart", currency="EUR", value=99, contents=PRICED, orderId="T-1")
    told = _told(cart, "EUR", value="none")
    assert _money(told) == (None, None)
    assert isinstance(told, Event)
    assert [line.price for line in told.custom_data.contents] == [None, None]
    assert [line.quantity for line in told.custom_data.contents] == [2, 1]
    assert told.custom_data.order_id == "T-1"


@pytest.mark.parametrize(("rule", "mended_by"), [("none", "fixed"), ("subtotal", "price")])
def test_a_purchase_that_a_rule_leaves_without_a_value_says_so(rule: str, mended_by: str) -> None:
    skip = _told(_event("Purchase", currency="EUR", value=99), value=rule)
    assert isinstance(skip, Skip)
    assert skip.reason is Reason.MISSING_VALUE
    assert "this destination" in skip.detail
    assert mended_by in skip.detail
