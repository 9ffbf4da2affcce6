"""A touch: one click or campaign that led a contact to a shop. What it holds, and which one counts.
Pure.

It names nobody: contacts are SHA-256, and addresses and parameters that tell who it is are left out.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import orjson

from platforms import identity
from platforms.meta import click_cookie
from schemas.event import Event, UserData
from schemas.topics import DAY_SECONDS

REMEMBERED_MS: Final = 90 * DAY_SECONDS * 1000
"""How long a click counts; Meta's own cookie lives as long."""

CLICK_IDS: Final = (
    *("fbc", "fbclid", "ttclid", "epik"),
    *("sc_click_id", "rdt_cid", "kwai_click_id"),
)
"""Attributes of ``UserData`` that name one click on an ad. A browser's own cookies (``fbp``,
``ttp``) name no click, and may be another browser's."""

_CLICK_PARAMETERS: Final = frozenset(
    {"fbclid", "ttclid", "epik", "sccid", "rdt_cid", "click_id", "gclid", "msclkid"}
)
_PERSONAL: Final = (
    *("email", "phone", "external_id", "first_name", "last_name"),
    *("date_of_birth", "postal_code"),
)
_LEAST_TELLING_CHARS: Final = 5
"""A shorter text, such as the customer number 42, stands in many addresses by chance."""
_END_OF_PHONE_DIGITS: Final = 8
_NOT_DIGITS: Final = re.compile(r"\D+")


@dataclass(frozen=True, slots=True)
class Touch:
    """One click or campaign that led a contact to the shop."""

    at: int
    """When the shop's event that told of it was received, Unix milliseconds."""
    click_seen_at: int
    """When the click on Meta's ad, if it is one, was first seen, Unix milliseconds."""
    source: str
    """Where that event lies."""
    clicks: Mapping[str, str]
    """Attribute of ``UserData`` (``CLICK_IDS``) → click id."""
    utm: Mapping[str, str]
    page: str | None
    """Where it led to, and where it came from: without personal parameters."""
    referrer: str | None
    contacts: tuple[str, ...]
    """The names of the contact, as ``contacts_of`` has them."""


def touch_of(event: Event, contacts: Sequence[str]) -> tuple[str, str] | None:
    """The touch that an event leaves, if anything led to it.

    The same click seen again, by its cookie on the next page, is no other touch; its digest is that
    of click ids, campaign and contact.
    """
    user = event.user_data
    hidden = frozenset(_personal(user))
    sent = {name: identity.plain(getattr(user, name)) for name in CLICK_IDS}
    clicks = {name: text for name, text in sent.items() if text and not _tells(text, hidden)}
    parameters = dict(_parameters(event.event_source_url, hidden))
    utm = {name: text for name, text in parameters.items() if name.startswith("utm_")}
    if not (clicks or utm):
        return None
    what = {"clicks": clicks, "utm": utm, "contacts": contacts}
    addresses = {
        "page": _address(event.event_source_url, hidden),
        "referrer": _address(event.referrer_url, hidden),
    }
    digest = hashlib.sha256(orjson.dumps(what, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    return digest, orjson.dumps(what | addresses).decode()


def read_touch(text: str) -> Touch:
    """A touch as the memory keeps it: when, the click's first time, the source, the rest as JSON."""
    at, click_seen_at, source, document = text.split(" ", 3)
    told = orjson.loads(document)
    return Touch(
        at=int(at),
        click_seen_at=int(click_seen_at),
        source=source,
        clicks=told["clicks"],
        utm=told["utm"],
        page=told["page"],
        referrer=told["referrer"],
        contacts=tuple(told["contacts"]),
    )


def latest_clicks(touches: Iterable[Touch], received_at: int, token: str) -> dict[str, str]:
    """For each click id the latest that counts for an event received at ``received_at`` (Unix
    milliseconds) whose record is that of ``token``.

    Later touches do not count, nor do those that lie behind it in its own partition: a record that
    is worked again is told what it was told the first time.
    """
    place, offset = _place(token)
    in_time = [t for t in touches if received_at - REMEMBERED_MS <= t.at <= received_at]
    found: dict[str, str] = {}
    for touch in sorted(in_time, key=lambda touch: (touch.at, _place(touch.source))):
        touch_place, touch_offset = _place(touch.source)
        if touch_place != place or touch_offset <= offset:
            clicks = _dated(touch)
            if "fbc" in clicks or "fbclid" in clicks:  # the two name one click, never mixed
                found.pop("fbc", None)
                found.pop("fbclid", None)
            found |= clicks
    return found


def _place(token: str) -> tuple[str, int]:
    """Partition and offset of a source."""
    place, _, offset = token.rpartition("-")
    return place, int(offset)


def _dated(touch: Touch) -> dict[str, str]:
    """The click ids of a touch, Meta's as the cookie of the time when it was first seen."""
    clicks = dict(touch.clicks)
    user = UserData(fbc=clicks.get("fbc"), fbclid=clicks.get("fbclid"))
    if cookie := click_cookie(user, touch.click_seen_at):
        clicks["fbc"] = cookie
    return clicks


def _address(url: str | None, hidden: frozenset[str]) -> str | None:
    """Host and path, with campaign and click parameters; a path that tells who it is, is cut."""
    try:
        parts = urlsplit(url or "")
        host = parts.hostname
    except ValueError:
        return None
    if not host or _tells(host, hidden):
        return None
    path = "/" if _tells(parts.path, hidden) else parts.path
    query = urlencode(dict(_parameters(url, hidden)))
    return f"{parts.scheme}://{host}{path}{'?' if query else ''}{query}"


def _parameters(url: str | None, hidden: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Campaign and click parameters of an address, but for those that tell who it is."""
    for name, text in parse_qsl((url or "").partition("#")[0].partition("?")[2]):
        known = name.startswith("utm_") or name.lower() in _CLICK_PARAMETERS
        if known and not _tells(name, hidden) and not _tells(text, hidden):
            yield name, text


def _personal(user: UserData) -> Iterator[str]:
    """What names a person in an address: each identifier in lower case, and the end of the phone
    number, which is the same with and without a country code."""
    for name in _PERSONAL:
        text = (getattr(user, name) or "").lower()
        if len(text) >= _LEAST_TELLING_CHARS:
            yield text
    digits = _NOT_DIGITS.sub("", user.phone or "")[-_END_OF_PHONE_DIGITS:]
    if len(digits) >= _LEAST_TELLING_CHARS:
        yield digits


def _tells(text: str, hidden: frozenset[str]) -> bool:
    """Whether a text names the person, or any mailbox at all."""
    written = unquote_plus(text).lower()
    return "@" in written or any(word in written for word in hidden)
