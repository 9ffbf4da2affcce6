"""What an event can be told about itself before it is split by platform. Pure."""

from platforms.identity import phone
from platforms.meta import click_cookie, undated_click
from schemas.config import DomainConfig
from schemas.event import ActionSource, CustomData, Event, UserData
from streams.remember import NOTHING, Recalled


def enrich(event: Event, domain: DomainConfig, recalled: Recalled = NOTHING) -> Event:
    """Fill what follows from the event's domain and from earlier events. Nothing that the shop said
    is overruled, but that an order's consent is the one with which it was made; a refusal stands.

    A website event without a page is given the shop's home page, for two platforms refuse it
    otherwise; money without a currency is given the domain's, and so is a phone number without a
    country. Totals that follow from the items are each platform's to want or not, and are made in
    ``platforms.commerce``. An event without click ids is given those of its contact, if the person
    consents, and a click the time at which it was first seen.
    """
    changes: dict[str, object] = {}
    if recalled.consent is not None:
        changes["consent"] = recalled.consent
    if event.event_source_url is None and event.action_source is ActionSource.WEBSITE:
        changes["event_source_url"] = f"https://{domain.host}/"
    custom = event.custom_data
    if custom.currency is None and domain.default_currency and _has_money(custom):
        changes["custom_data"] = custom.model_copy(update={"currency": domain.default_currency})
    consents = (recalled.consent or event.consent).marketing
    known = _clicks(event.user_data, recalled) if consents else {}
    if (dialled := _international(event.user_data, domain)) is not None:
        known["phone"] = dialled
    if known:
        changes["user_data"] = event.user_data.model_copy(update=known)
    return event.model_copy(update=changes) if changes else event


def _has_money(custom: CustomData) -> bool:
    return custom.value is not None or any(item.price is not None for item in custom.contents)


def _international(user: UserData, domain: DomainConfig) -> str | None:
    """A phone number that names no country, read as one of the domain's country."""
    if user.phone is None or user.country is not None or domain.default_country is None:
        return None
    if user.phone.startswith("+") and phone(user.phone) is not None:
        return None  # as the platforms will read it themselves
    return phone(user.phone, domain.default_country.lower())


def _clicks(user: UserData, recalled: Recalled) -> dict[str, str]:
    """Click ids that the event lacks, and Meta's cookie for one that has no time of its own."""
    known = dict(recalled.clicks)
    if recalled.click_seen_at is not None and undated_click(user):
        cookie = click_cookie(user, recalled.click_seen_at)
        if cookie:
            known["fbc"] = cookie
    return known
