"""The canonical event: what a person did in a shop, before any platform has seen it."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StrictBool, StringConstraints, field_serializer

from schemas.lenient import (
    Currency,
    EventTime,
    IdNumber,
    Money,
    Quantity,
    TestEventCode,
    blank_is_absent,
    number_is_id,
)
from schemas.limits import (
    MAX_CLICK_ID_CHARS,
    MAX_CONTENTS,
    MAX_EMAIL_CHARS,
    MAX_EVENT_ID_CHARS,
    MAX_ID_CHARS,
    MAX_NAME_CHARS,
    MAX_TEXT_CHARS,
    MAX_URL_CHARS,
    MAX_USER_AGENT_CHARS,
)
from schemas.wire import Wire


class EventName(StrEnum):
    """What a person can do; each platform file maps these to its own words."""

    PAGE_VISIT = "PageVisit"
    VIEW_CONTENT = "ViewContent"
    SEARCH = "Search"
    ADD_TO_CART = "AddToCart"
    ADD_TO_WISHLIST = "AddToWishlist"
    INITIATE_CHECKOUT = "InitiateCheckout"
    ADD_PAYMENT_INFO = "AddPaymentInfo"
    PURCHASE = "Purchase"
    LEAD = "Lead"
    SIGN_UP = "SignUp"
    SUBSCRIBE = "Subscribe"
    START_TRIAL = "StartTrial"
    CUSTOM = "Custom"


class ActionSource(StrEnum):
    """Where it happened. Each platform file translates or refuses."""

    WEBSITE = "website"
    APP = "app"
    PHYSICAL_STORE = "physical_store"
    PHONE_CALL = "phone_call"
    EMAIL = "email"
    CHAT = "chat"
    SYSTEM_GENERATED = "system_generated"
    OTHER = "other"


def _at_most(chars: int) -> StringConstraints:
    return StringConstraints(max_length=chars)


# Optional texts; blank means absent. Their length is counted as sent.
Text = Annotated[Annotated[str, _at_most(MAX_TEXT_CHARS)] | None, blank_is_absent]
Name = Annotated[Annotated[str, _at_most(MAX_NAME_CHARS)] | None, blank_is_absent]
Email = Annotated[Annotated[str, _at_most(MAX_EMAIL_CHARS)] | None, blank_is_absent]
Url = Annotated[Annotated[str, _at_most(MAX_URL_CHARS)] | None, blank_is_absent]
UserAgent = Annotated[Annotated[str, _at_most(MAX_USER_AGENT_CHARS)] | None, blank_is_absent]
ClickId = Annotated[Annotated[str, _at_most(MAX_CLICK_ID_CHARS)] | None, blank_is_absent]
_IdText = Annotated[str, _at_most(MAX_ID_CHARS)]
Id = Annotated[_IdText | None, blank_is_absent, number_is_id(_IdText | IdNumber | None)]


class UserData(Wire):
    """Who did it: identifiers raw or already SHA-256 (64 hex), click ids and cookies as read."""

    email: Email = None
    phone: Id = None
    """Without a country code it is read with the country here, else the domain's."""
    first_name: Name = None
    last_name: Name = None
    gender: Name = None
    date_of_birth: Id = None
    city: Name = None
    state: Name = None
    postal_code: Id = None
    country: Name = None
    external_id: Id = None
    """The shop's own id of the customer."""
    ip_address: Name = None
    """The customer's; of a website or an app, the request's when absent."""
    user_agent: UserAgent = None
    """The same."""
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


class Content(Wire):
    """One line of a cart or an order."""

    id: Id = None
    """A line without one is not sent."""
    name: Text = None
    category: Text = None
    brand: Text = None
    quantity: Quantity = 1
    price: Money = None
    """Of one piece, in base units of the currency."""


class CustomData(Wire):
    """What it was about: money, items, search."""

    currency: Currency = None
    """ISO 4217; the domain's when absent."""
    value: Money = None
    """The total in base units of the currency (49.99, not cents)."""
    order_id: Id = None
    num_items: Quantity | None = None
    search_string: Text = None
    content_name: Text = None
    content_category: Text = None
    content_type: Name = None
    """product or product_group."""
    contents: Annotated[tuple[Content, ...], Field(max_length=MAX_CONTENTS)] = ()


class Consent(Wire):
    """What the person allowed. Absent means that the shop asked for nothing to be held back."""

    marketing: StrictBool = True
    """False: the event is sent to nobody."""
    limited_data_use: StrictBool = False
    """Whether each platform is asked for its limited data use."""


class Event(Wire):
    """One event, as ``POST /v1/events`` takes it and ``raw-events`` keeps it."""

    event_id: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_EVENT_ID_CHARS)],
        # Without one the gateway gives the event an id, so there a blank one is taken.
        number_is_id(Annotated[str, _at_most(MAX_EVENT_ID_CHARS)] | IdNumber | None),
    ]
    """Names the event: give it the id that the platform's browser pixel uses."""
    event_name: EventName
    event_time: EventTime  # milliseconds, once it is read
    """Unix time in seconds, a fraction is kept, or in milliseconds."""
    custom_event_name: Name = None
    """The name of a Custom event."""
    event_source_url: Url = None
    """The page."""
    referrer_url: Url = None
    """The page before."""
    action_source: ActionSource = ActionSource.WEBSITE
    user_data: UserData = UserData()
    custom_data: CustomData = CustomData()
    consent: Consent = Consent()
    test_event_code: TestEventCode = None
    """Shows this event in the platforms' test views; the destination's own code when absent."""

    @field_serializer("event_time")
    def _event_time_as_seconds(self, milliseconds: int) -> int | float:
        seconds, rest = divmod(milliseconds, 1000)
        return seconds + rest / 1000 if rest else seconds

    @property
    def event_time_seconds(self) -> int:
        """Unix seconds, cut rather than rounded, so that an event is never put in the future."""
        return self.event_time // 1000
