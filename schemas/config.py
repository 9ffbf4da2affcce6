"""A domain's configuration as it travels on ``domain-configs``: whole, credentials sealed."""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from schemas.event import ActionSource
from schemas.lenient import Currency, Money, TestEventCode
from schemas.wire import SCHEMA_VERSION, Wire

DEFAULT_DEDUPE_WINDOW_SECONDS = 48 * 3600


class Subscription(StrEnum):
    """Whether a domain's plan lets its events through."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class ValueRule(StrEnum):
    """What a destination is told that an event was worth."""

    TOTAL = "total"
    """``customData.value``, or what its items cost where they are to be bought."""
    SUBTOTAL = "subtotal"
    """What its items cost: price times quantity, without shipping, tax and discounts."""
    FIXED = "fixed"
    """The destination's own amount, for every event."""
    NONE = "none"
    """Nothing: no value, no currency, no prices."""


def _known_country(code: str) -> str:
    # Here rather than above: it takes longer to load than all of this, and few need it.
    from pycountry import countries

    code = code.strip().upper()
    code = "GB" if code == "UK" else code  # what shops write
    if len(code) != 2 or countries.get(alpha_2=code) is None:
        msg = "must be a country by its two letters in ISO 3166, such as DE"
        raise ValueError(msg)
    return code


Country = Annotated[str, AfterValidator(_known_country)]
"""ISO 3166 alpha-2 in upper case."""


class DestinationRules(Wire):
    """By which rules events go to a destination: what a merchant switches."""

    enabled: bool = True
    advanced_matching: bool = True
    """Whether hashed personal identifiers are sent besides click ids, cookies, ip and agent."""
    limited_data_use: bool = False
    """Ask for limited data use on every event, whatever the event's own consent says."""
    events: dict[str, bool] = Field(default_factory=dict)
    """Canonical event name → wanted; a name that is not here is wanted."""
    event_names: dict[str, str] = Field(default_factory=dict)
    """Canonical event name, or custom event name → the name this platform is to be told."""
    fixed_value: Money = None
    """What every event is worth under ``ValueRule.FIXED``: in the event's currency, else in the
    domain's."""
    value: ValueRule = ValueRule.TOTAL
    sample_percent: Annotated[float, Field(ge=0, le=100)] = 100
    """How many in a hundred events are wanted; which ones follows from their ids."""
    excluded_countries: tuple[Country, ...] = ()
    """Countries of persons whose events are not wanted."""
    excluded_sources: tuple[ActionSource, ...] = ()
    """Channels whose events are not wanted."""
    consent_required: bool = False
    """Whether an event that does not say that its person consented to marketing is held back.
    One that says that the person did not is held back in any case."""


class Destination(DestinationRules):
    """One configured account at a platform: what is needed to decide and to build a payload.

    Nothing secret is readable here: ``sealed`` holds the platform's credentials model under
    AES-256-GCM, and only the sinks have the key.
    """

    id: str
    platform: str
    account: str
    """The public id that a merchant knows this destination by (pixel or ad account id)."""
    test_event_code: TestEventCode = None
    """Shows its events in the platform's test view. From its credentials, but no secret."""
    sealed: str

    @field_validator("value")
    @classmethod
    def _fixed_has_its_amount(cls, rule: ValueRule, info: ValidationInfo) -> ValueRule:
        if rule is ValueRule.FIXED and info.data.get("fixed_value", ...) is None:
            msg = "a fixed one needs its amount: set fixedValue, such as 5.00"
            raise ValueError(msg)
        return rule


Origin = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+$")]


def _read_network(value: Any) -> Any:
    return str(ip_network(value.strip())) if isinstance(value, str) else value


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_read_network)]
"""One address, or a network as CIDR."""

AgentPart = Annotated[str, StringConstraints(min_length=3, max_length=200)]


class DomainOptions(Wire):
    """How a domain's events are taken: what a merchant sets."""

    strict: bool = False
    """Refuse events with unknown keys instead of leaving the keys out."""
    default_country: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2}$")] | None = None
    """ISO 3166 alpha-2, for phone numbers written without a country code."""
    default_currency: Currency = None
    allowed_origins: tuple[Origin, ...] = ()
    """Origins (https://m.shop.example) that may send from a browser besides the host's own."""
    excluded_addresses: tuple[Network, ...] = ()
    """Clients (CIDR) whose events go to nobody: the shop's own staff, its monitoring."""
    excluded_agents: tuple[AgentPart, ...] = ()
    """Parts of user agents, in any case of letters, whose events go to nobody."""
    monthly_events: Annotated[int, Field(ge=0)] | None = None
    """How many events the organisation may have forwarded in a calendar month (UTC); None: any."""
    dedupe_window_seconds: int = Field(default=DEFAULT_DEDUPE_WINDOW_SECONDS, ge=1)
    remember_contacts: bool = False
    """Keep the clicks that led a contact here, under hashes, and give later events of the contact
    the click ids that they lack."""


class DomainConfig(DomainOptions):
    """One storefront host and everything that its events need to be judged and sent."""

    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    domain_id: str
    org_id: str
    host: str
    revision: int
    """Grows by one with every change; a feed keeps the highest."""
    subscription: Subscription = Subscription.ACTIVE
    token_generation: int = 1
    sync_token_sha256: str
    log_retention_seconds: Annotated[int, Field(ge=60)] | None = None
    """How long the event log keeps what became of its events; None: as long as the log keeps any."""
    destinations: tuple[Destination, ...] = ()

    def destination(self, destination_id: str) -> Destination | None:
        """The destination of that id, or None when it has been removed."""
        return next((d for d in self.destinations if d.id == destination_id), None)
