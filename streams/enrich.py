"""What an event can be told about itself before it is split by platform. Pure."""

from platforms.identity import phone
from schemas.config import DomainConfig
from schemas.event import ActionSource, CustomData, Event, UserData


def enrich(event: Event, domain: DomainConfig) -> Event:
    """Fill what follows from the event's domain. Nothing that the shop said is overruled.

    A website event without a page is given the shop's home page, for two platforms refuse it
    otherwise; money without a currency is given the domain's, and so is a phone number without a
    country. Totals that follow from the items are each platform's to want or not, and are made in
    ``platforms.commerce``.
    """
    changes: dict[str, object] = {}
    if event.event_source_url is None and event.action_source is ActionSource.WEBSITE:
        changes["event_source_url"] = f"https://{domain.host}/"
    custom = event.custom_data
    if custom.currency is None and domain.default_currency and _has_money(custom):
        changes["custom_data"] = custom.model_copy(update={"currency": domain.default_currency})
    if (dialled := _international(event.user_data, domain)) is not None:
        changes["user_data"] = event.user_data.model_copy(update={"phone": dialled})
    return event.model_copy(update=changes) if changes else event


def _has_money(custom: CustomData) -> bool:
    return custom.value is not None or any(item.price is not None for item in custom.contents)


def _international(user: UserData, domain: DomainConfig) -> str | None:
    """A phone number that names no country, read as one of the domain's country."""
    if user.phone is None or user.country is not None or domain.default_country is None:
        return None
    return phone(user.phone, domain.default_country.lower())
