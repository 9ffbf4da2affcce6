from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms import commerce
from schemas.event import Content, Event


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


def _basket(name: str, **custom: object) -> commerce.Basket:
    found = commerce.basket(
        Event.model_validate(
            {"eventId": "e", "eventName": name, "eventTime": 1_795_176_000, "customData": custom}
        )
    )
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
