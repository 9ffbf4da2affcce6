"""Money and items: what an event was worth and about, ready to be printed.

Amounts are ``Decimal`` until the last moment. Nothing is rounded: what the shop said is what the
platform is told; only the digits that are shown follow the currency.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from babel.numbers import get_currency_precision

from schemas.config import Destination, ValueRule
from schemas.event import Content, Event, EventName
from schemas.outcome import Reason, Skip

_WORTH_THEIR_ITEMS: Final = frozenset(
    {
        EventName.ADD_TO_CART,
        EventName.ADD_TO_WISHLIST,
        EventName.INITIATE_CHECKOUT,
        EventName.ADD_PAYMENT_INFO,
        EventName.PURCHASE,
    }
)
"""Events whose items a person means to buy, so that without a value their total is the value. A
search's or a category page's items are only on show."""

_NO_VALUE_LEFT: Final = {
    ValueRule.SUBTOTAL: "a purchase needs a value, and this destination's is the subtotal: "
    "send a price with each of customData.contents",
    ValueRule.NONE: "a purchase needs a value, and this destination is told none: "
    "give it a fixed value (0 will do), or switch Purchase off for it",
}
"""A fixed value is always there."""


@dataclass(frozen=True, slots=True)
class Basket:
    """What an event was worth and about."""

    value: Decimal | None
    """In base units of ``currency``; None also when the currency is unknown, since the platforms
    would then assume the ad account's own."""
    currency: str | None
    lines: Sequence[Content]
    """The lines that have an id, without which no platform can find them in a catalogue."""
    num_items: int | None
    """Units, not lines."""

    @property
    def ids(self) -> list[str]:
        """Product ids, in the order of the lines."""
        return [line.id for line in self.lines if line.id]


def item_total(lines: Sequence[Content]) -> Decimal | None:
    """The sum of price times quantity; None when there is no line, or one without a price."""
    total = Decimal(0)
    for line in lines:
        if line.price is None:
            return None
        total += line.price * line.quantity
    return total if lines else None


def apply_value_rule(
    event: Event, destination: Destination, default_currency: str | None = None
) -> Event | Skip:
    """The event with as much of its worth in ``customData`` as the destination is to be told.

    Done before ``payload()``, so that the destination's rule holds at every platform alike. A
    subtotal for which a price is wanting is left out rather than guessed. ``default_currency`` is
    for the fixed value of an event that has no currency.

    A purchase that the rule leaves without a value is not sent, for the reason that ``basket``
    gives. To have purchases counted and not weighed, a destination is given a fixed value.
    """
    if destination.value is ValueRule.TOTAL:
        return event
    changes = _worth(event, destination, default_currency)
    if event.event_name is EventName.PURCHASE and changes["value"] is None:
        return Skip(Reason.MISSING_VALUE, _NO_VALUE_LEFT[destination.value])
    told = event.custom_data.model_copy(update=changes)
    return event.model_copy(update={"custom_data": told})


def _worth(
    event: Event, destination: Destination, default_currency: str | None
) -> dict[str, object]:
    """What a rule other than the total puts in place of value, currency and prices."""
    data = event.custom_data
    if destination.value is ValueRule.FIXED:
        return {"value": destination.fixed_value, "currency": data.currency or default_currency}
    if destination.value is ValueRule.SUBTOTAL:
        on_show = data.value is None and event.event_name not in _WORTH_THEIR_ITEMS
        return {"value": None if on_show else item_total(data.contents)}
    unpriced = tuple(line.model_copy(update={"price": None}) for line in data.contents)
    return {"value": None, "currency": None, "contents": unpriced}


def basket(event: Event) -> Basket | Skip:
    """What the event was worth and about; a purchase must have a value and a currency.

    Meta (100/2804009) and Snapchat refuse a purchase without. The others would take it and report
    a sale of nothing, or of as much in the ad account's currency: a skip can be seen, mended and
    replayed, a wrong figure cannot.
    """
    data = event.custom_data
    value = data.value
    if value is None and event.event_name in _WORTH_THEIR_ITEMS:
        value = item_total(data.contents)
    if event.event_name is EventName.PURCHASE:
        if value is None:
            return Skip(Reason.MISSING_VALUE, "a purchase needs customData.value or item prices")
        if data.currency is None:
            return Skip(Reason.MISSING_CURRENCY, "a purchase needs customData.currency")
    num_items = data.num_items
    if num_items is None and data.contents:
        num_items = sum(line.quantity for line in data.contents)
    return Basket(
        value=value if data.currency else None,
        currency=data.currency,
        lines=[line for line in data.contents if line.id],
        num_items=num_items,
    )


def content_type(event: Event, goods: Basket) -> str | None:
    """``product`` or ``product_group``, the two words that Meta and TikTok take for what the ids
    in an event are; ``product`` when the shop says something else."""
    if not goods.lines:
        return None
    told = event.custom_data.content_type
    return told if told in {"product", "product_group"} else "product"


def as_number(amount: Decimal | None) -> int | float | None:
    """The amount as a JSON number: ``5.00`` is 5, ``64.98`` is 64.98.

    A float made from a decimal prints as the shortest text that reads back the same, which for an
    amount of up to 15 digits is the text it was made from.
    """
    if amount is None:
        return None
    whole = int(amount)
    return whole if whole == amount else float(amount)


def as_text(amount: Decimal | None, currency: str | None) -> str | None:
    """The amount with at least its currency's decimals: ``5.00`` EUR, ``1500`` JPY, ``1.500`` KWD.

    Digits beyond those (unit prices) are kept, except zeros.
    """
    if amount is None:
        return None
    decimals = get_currency_precision(currency) if currency else 2
    decimals = max(decimals, -int(amount.normalize().as_tuple().exponent))
    return f"{amount:.{decimals}f}"
