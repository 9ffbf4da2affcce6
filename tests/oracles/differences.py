"""Where Meta's own library and we write something else, with the reason.

The library does not do all that Meta's pages ask for; those win.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeAlias

import phonenumbers
import pytest

from schemas.event import Event
from tests.strategies import SHA256

REFUSED: Final = "(raises)"
"""Stands for a value that the library raises an error for."""

# Meta's key → our attribute, and the library's argument.
PERSON: Final = {
    "em": ("email", "email"),
    "ph": ("phone", "phone"),
    "fn": ("first_name", "first_name"),
    "ln": ("last_name", "last_name"),
    "db": ("date_of_birth", "date_of_birth"),
    "ct": ("city", "city"),
    "st": ("state", "state"),
    "zp": ("postal_code", "zip_code"),
    "country": ("country", "country_code"),
}
HEX: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Case:
    """One field in which the two differ; None stands for a field that is not there."""

    event: Event
    raw: str
    """What the shop gave for it, if it is an identifier."""
    theirs: Any
    ours: Any

    def is_ours(self, pre_image: str | None) -> bool:
        """Whether what we send is the hash of this text, or nothing when the text is empty."""
        return bool(self.ours == (digest(pre_image) if pre_image else None))


Explanation: TypeAlias = Callable[[Case], bool]


@dataclass(frozen=True, slots=True)
class Difference:
    """A way in which we differ on purpose."""

    keys: str
    """Fields, parted by blanks: ``user_data.fn``."""
    why: str
    explains: Explanation
    example: dict[str, Any]
    """An event (camelCase, over a plain one) that shows it in the first of the fields."""


def digest(text: str) -> str:
    """SHA-256 in hex."""
    return sha256(text.encode()).hexdigest()


def _letters(text: str) -> str:
    return "".join(c for c in text if c.isalpha() or unicodedata.category(c)[0] == "M")


def _bare(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or unicodedata.category(c)[0] == "M")


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip().lower())


def _is_impossible(case: Case) -> bool:
    """Whether no telephone has this number: neither dialled at home nor from abroad."""
    home = case.event.user_data.country
    region = {"uk": "GB", "usa": "US", "germany": "DE"}.get((home or "").lower(), home)
    written = [(case.raw, region and region.upper()), ("+" + re.sub(r"\D", "", case.raw), None)]
    for text, country in written:
        try:
            number = phonenumbers.parse(text, country)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return False
    return True


def _is_same_subscriber(case: Case) -> bool:
    """Whether our number, in E.164, reaches the telephone that the shop's does."""
    digits = re.sub(r"\D", "", case.raw)
    tails = {digits[start:] for start in range(len(digits) - 4)}
    codes = {str(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE}
    return any(case.is_ours(code + tail) for tail in tails for code in codes | {""})


def _worth(case: Case) -> float | None:
    lines = case.event.custom_data.contents
    prices = [line.price * line.quantity for line in lines if line.price is not None]
    return float(sum(prices)) if len(prices) == len(lines) > 0 else None


def _lines_with_ids(case: Case) -> list[dict[str, Any]]:
    return [line for line in case.theirs or [] if "id" in line]


IDENTIFIERS: Final = " ".join(f"user_data.{key}" for key in PERSON)
DIFFERENCES: Final = (
    Difference(
        IDENTIFIERS,
        "theirs lets an MD5 through as if it were a SHA-256; Meta cannot match it",
        lambda case: bool(HEX.fullmatch(case.raw.lower())) and case.ours is None,
        {"email": "D41D8CD98F00B204E9800998ECF8427E"},
    ),
    Difference(
        "user_data.ct user_data.st user_data.zp",
        "theirs hashes what is left of a value even when that is nothing",
        lambda case: case.theirs == digest("") and case.ours is None,
        {"city": "123"},
    ),
    Difference(
        "user_data.em",
        "theirs raises, or takes what has blanks or a second @; we leave it out",
        lambda case: (
            case.ours is None
            and (case.theirs == REFUSED or not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", case.raw))
        ),
        {"email": "a b@c.de"},
    ),
    Difference(
        "user_data.fn user_data.ln",
        "theirs keeps punctuation and blanks in names; Meta's page says none",
        lambda case: case.is_ours(_normal(_bare(_normal(case.raw)))),
        {"firstName": "Mary-Ann O'Neil"},
    ),
    Difference(
        "user_data.ct",
        "theirs keeps punctuation in cities, but for dots, dashes and brackets",
        lambda case: case.is_ours(_normal(_letters(_normal(case.raw)))),
        {"city": "Val-d'Or"},
    ),
    Difference(
        "user_data.st",
        "theirs does not know that California is ca, and keeps punctuation",
        lambda case: (
            case.is_ours(_normal(_letters(_normal(case.raw))))
            or case.ours
            == digest({"california": "ca", "new york": "ny"}.get(_normal(case.raw), ""))
        ),
        {"state": "California", "country": "US"},
    ),
    Difference(
        "user_data.zp",
        "theirs leaves nine digits without a dash; Meta wants the first five in the USA",
        lambda case: (
            (case.event.user_data.country or "").lower() in {"us", "usa"}
            and case.is_ours(re.sub(r"\s", "", case.raw.lower()).partition("-")[0][:5])
        ),
        {"postalCode": "372213051", "country": "US"},
    ),
    Difference(
        "user_data.country",
        "theirs raises for all but the two letters of ISO 3166; we also read names, usa and uk",
        lambda case: (
            case.theirs == REFUSED
            and case.is_ours({"usa": "us", "uk": "gb", "germany": "de"}.get(_normal(case.raw)))
        ),
        {"country": "uk"},
    ),
    Difference(
        "user_data.ph",
        "theirs raises, or hashes as dialled, what is no telephone number; we leave it out",
        lambda case: case.ours is None and (case.theirs == REFUSED or _is_impossible(case)),
        {"phone": "12"},
    ),
    Difference(
        "user_data.ph",
        "theirs adds no country code, keeps the zero in +44 (0)20 and raises for dots",
        _is_same_subscriber,
        {"phone": "+44 (0)20.7946.0018"},
    ),
    Difference(
        "user_data.db",
        "theirs hashes a date as it is typed, Meta wants YYYYMMDD; what is no date we leave out",
        lambda case: (
            case.is_ours(case.raw.replace("-", ""))
            or (case.ours is None and case.raw in {"1990-02-31", "31.12.90"})
        ),
        {"dateOfBirth": "1990-12-31"},
    ),
    Difference(
        "user_data.external_id",
        "theirs neither hashes nor trims it; hashed, it still matches, and tells nobody who it is",
        lambda case: (
            case.is_ours(_normal(case.raw))
            or (case.ours is None and not _bare(case.raw))
            or (case.raw == SHA256 == case.ours)
        ),
        {"externalId": "Customer-42"},
    ),
    Difference(
        "user_data.client_ip_address",
        "theirs sends it as given; of a proxy's list we send one address, of no address nothing",
        lambda case: (
            (case.ours or "") in [part.strip() for part in case.raw.split(",")]
            or (case.ours is None and case.raw in {"unknown", SHA256})
        ),
        {"ipAddress": "10.0.0.1, 8.8.8.8"},
    ),
    Difference(
        "user_data.client_user_agent",
        "theirs sends a hash where Meta wants it plain",
        lambda case: case.raw == SHA256 and case.ours is None,
        {"userAgent": SHA256},
    ),
    Difference(
        "user_data.fbc user_data.fbp",
        "theirs sends a malformed cookie (2804001 for the whole batch); we leave it out",
        lambda case: case.ours is None and not re.match(r"fb\.\d+\.\d+\.[^.\s]", case.raw),
        {"fbc": "fb.1.1795170000000"},
    ),
    Difference(
        "user_data.fbc",
        "theirs leaves it to the shop to make a cookie of the page's click id",
        lambda case: case.ours == f"fb.1.{case.event.event_time}.{case.event.user_data.fbclid}",
        {"fbclid": "IwAR2"},
    ),
    Difference(
        "custom_data.currency",
        "theirs writes it in lower case; Meta takes both",
        lambda case: bool(case.theirs.upper() == case.ours),
        {"customData": {"currency": "EUR"}},
    ),
    Difference(
        "custom_data.value",
        "theirs sends an amount of no currency, which Meta would take for another",
        lambda case: case.ours is None and case.event.custom_data.currency is None,
        {"customData": {"value": 9}},
    ),
    Difference(
        "custom_data.value",
        "theirs does not add up what is to be bought",
        lambda case: case.theirs is None and bool(case.ours == pytest.approx(_worth(case))),
        {
            "eventName": "AddToCart",
            "customData": {"currency": "EUR", "contents": [{"price": 2, "quantity": 3}]},
        },
    ),
    Difference(
        "custom_data.contents",
        "theirs sends lines without an id, which the catalogue cannot find",
        lambda case: (case.ours or []) == _lines_with_ids(case),
        {"customData": {"contents": [{"name": "no id"}]}},
    ),
    Difference(
        "custom_data.content_type",
        "theirs sends any word; Meta knows two, and only of something with ids",
        lambda case: case.ours == ("product" if _has_ids(case.event) else None),
        {"customData": {"contentType": "page", "contents": [{"id": "7"}]}},
    ),
    Difference(
        "custom_data.num_items",
        "theirs does not count the units",
        lambda case: (
            case.theirs is None
            and bool(case.ours == sum(line.quantity for line in case.event.custom_data.contents))
        ),
        {"customData": {"contents": [{"id": "7", "quantity": 3}]}},
    ),
)


def _has_ids(event: Event) -> bool:
    return any(line.id for line in event.custom_data.contents)
