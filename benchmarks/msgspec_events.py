"""The canonical event in msgspec, to see what pydantic costs. Nothing runs on it.

It refuses what ``schemas.event`` refuses, on the shapes that shops send. It lacks:

- pydantic's leniency: ``"1"`` or ``1.0`` for a quantity, ``null`` for a list, is refused here;
- the names of unknown keys: msgspec passes over them, or refuses the first one it meets;
- our sentences: of a wrong type or length the message is msgspec's, with its path; where a rule
  is checked in ``__post_init__`` the sentence is ours and the path ends at the object;
- the model that streams and platforms work on: blank texts stay as they were sent.
"""

from decimal import Decimal
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from schemas.event import ActionSource, EventName
from schemas.limits import (
    MAX_CLICK_ID_CHARS,
    MAX_CONTENTS,
    MAX_EMAIL_CHARS,
    MAX_EVENT_ID_CHARS,
    MAX_EVENT_TIME_SECONDS,
    MAX_EVENTS_PER_REQUEST,
    MAX_ID_CHARS,
    MAX_MONEY,
    MAX_MONEY_DECIMALS,
    MAX_NAME_CHARS,
    MAX_QUANTITY,
    MAX_TEXT_CHARS,
    MAX_URL_CHARS,
    MAX_USER_AGENT_CHARS,
    MIN_EVENT_TIME_SECONDS,
)

Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT_CHARS)] | None
Name: TypeAlias = Annotated[str, Meta(max_length=MAX_NAME_CHARS)] | None
Email: TypeAlias = Annotated[str, Meta(max_length=MAX_EMAIL_CHARS)] | None
Url: TypeAlias = Annotated[str, Meta(max_length=MAX_URL_CHARS)] | None
UserAgent: TypeAlias = Annotated[str, Meta(max_length=MAX_USER_AGENT_CHARS)] | None
ClickId: TypeAlias = Annotated[str, Meta(max_length=MAX_CLICK_ID_CHARS)] | None
Id: TypeAlias = Annotated[str, Meta(max_length=MAX_ID_CHARS)] | int | None
Quantity: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]


class _Wire(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """camelCase on the wire; unknown keys are passed over."""


class UserData(_Wire, frozen=True):
    """Who did it."""

    email: Email = None
    phone: Id = None
    first_name: Name = None
    last_name: Name = None
    gender: Name = None
    date_of_birth: Id = None
    city: Name = None
    state: Name = None
    postal_code: Id = None
    country: Name = None
    external_id: Id = None
    ip_address: Name = None
    user_agent: UserAgent = None
    fbc: ClickId = None
    fbp: ClickId = None
    fbclid: ClickId = None
    ttclid: ClickId = None
    ttp: ClickId = None
    epik: ClickId = None
    sc_click_id: ClickId = None
    sc_cookie1: ClickId = None
    rdt_cid: ClickId = None
    rdt_uuid: ClickId = None
    kwai_click_id: ClickId = None


_MAX_MONEY: Final = float(MAX_MONEY)
"""A float and a Decimal compare exactly, and slowly."""


def _check_money(amount: float | str | None) -> None:
    if amount is None or amount == "":
        return
    if isinstance(amount, str):
        try:
            exact = Decimal(amount)
        except ArithmeticError:
            raise ValueError("must be a number") from None
        if not exact.is_finite() or round(exact, MAX_MONEY_DECIMALS) != exact:
            raise ValueError(f"must have at most {MAX_MONEY_DECIMALS} decimals")
        amount = float(exact)
    if not 0 <= amount <= _MAX_MONEY:
        raise ValueError(f"must be between 0 and {MAX_MONEY}")


class Content(_Wire, frozen=True):
    """One line of a cart or an order."""

    id: Id = None
    name: Text = None
    category: Text = None
    brand: Text = None
    quantity: Quantity = 1
    price: float | str | None = None

    def __post_init__(self) -> None:
        _check_money(self.price)


class CustomData(_Wire, frozen=True):
    """What it was about."""

    currency: Name = None
    value: float | str | None = None
    order_id: Id = None
    num_items: Quantity | None = None
    search_string: Text = None
    content_name: Text = None
    content_category: Text = None
    content_type: Name = None
    contents: Annotated[list[Content], Meta(max_length=MAX_CONTENTS)] = []

    def __post_init__(self) -> None:
        _check_money(self.value)
        code = self.currency.strip() if self.currency else ""
        if code and not (len(code) == 3 and code.isascii() and code.isalpha()):
            raise ValueError("must be an ISO 4217 code of three letters, such as EUR")


class Consent(_Wire, frozen=True):
    """What the person allowed."""

    marketing: bool = True
    limited_data_use: bool = False


class Event(_Wire, frozen=True):
    """One event."""

    event_id: Annotated[str, Meta(min_length=1, max_length=MAX_EVENT_ID_CHARS)] | int
    event_name: EventName
    event_time: Annotated[float, Meta(ge=MIN_EVENT_TIME_SECONDS, lt=MAX_EVENT_TIME_SECONDS * 1000)]
    custom_event_name: Name = None
    event_source_url: Url = None
    referrer_url: Url = None
    action_source: ActionSource = ActionSource.WEBSITE
    user_data: UserData = UserData()
    custom_data: CustomData = CustomData()
    consent: Consent = Consent()


class Request(_Wire, frozen=True):
    """A body of ``POST /v1/events``."""

    events: Annotated[list[Event], Meta(min_length=1, max_length=MAX_EVENTS_PER_REQUEST)]


_DECODER: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def decode(body: bytes) -> list[Event]:
    """The events of a body.

    Raises ``msgspec.ValidationError`` with the path of what is wrong, ``msgspec.DecodeError`` for
    what is no JSON.
    """
    return _DECODER.decode(body).events
