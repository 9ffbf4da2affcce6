"""Who did it, in the forms that the platforms match on.

A hash matches only if the text before hashing (the pre-image) is written as the platform writes it.
Each function below writes one identifier in one way: from the raw text and the person's country
(ISO 3166 alpha-2, lower case, or None) to the pre-image, or to None if the text is none such.

Where the platforms differ (SnackVideo gets none of this)::

                 Meta             TikTok            Pinterest        Snapchat         Reddit
    e-mail       email            email             email            email            email_canonical
    phone        phone_lenient    phone             phone_digits     phone_digits     phone
    names        letters_digits   letters_digits    lower            letters_digits
    gender       gender_binary                      gender           gender_binary
    city         letters          plain, no blanks  letters_digits   letters_digits
    state        state            plain             state            state
    postal code  postal_cut       postal_joined     postal_digits    postal_sector
    country      country          plain             country          country
    external id  lower            verbatim          verbatim         verbatim         verbatim
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Final, TypeAlias

import phonenumbers
import pycountry

from platforms.digest import REMEMBERED, sha256
from schemas.event import UserData

Rule: TypeAlias = Callable[[str, str | None], str | None]
"""Raw text and country → pre-image, or None when there is nothing to match on."""

Identifiers: TypeAlias = Sequence[tuple[str, str, Rule]]
"""What a platform matches on: its own key, our attribute of ``UserData``, how it is written."""

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_OTHER_DIGEST: Final = re.compile(r"(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40}|[0-9a-fA-F]{128})")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
_DIALLED: Final = re.compile(r"[\d\s()+./-]+")
_NOT_DIGITS: Final = re.compile(r"[^0-9]+")
_BLANKS: Final = re.compile(r"\s+")
_BLANKS_DASHES: Final = re.compile(r"[\s-]+")
_BIRTH: Final = re.compile(r"(\d{4})([-/.]?)(\d{2})\2(\d{2})(?:[T ].*)?", re.ASCII)
_UK_POSTCODE: Final = re.compile(r"[a-z]{1,2}\d[a-z\d]?\d[a-z]{2}")

_GENDERS: Final = {
    **dict.fromkeys(("f", "female", "woman"), "f"),
    **dict.fromkeys(("m", "male", "man"), "m"),
    **dict.fromkeys(("n", "x", "nonbinary", "non-binary", "non binary", "diverse"), "n"),
}

_MIN_INTERNATIONAL_DIGITS: Final = 11
"""Fewer digits without a plus are more likely a national number than a country code and more."""


def hashes(user: UserData, identifiers: Identifiers) -> dict[str, str]:
    """SHA-256 (64 lower-case hex) of each identifier that the person has, by the platform's key.

    What is already such a hash goes through in lower case; never is one hashed again. An MD5 or
    SHA-1, which no platform can use, is left out, and so is what leaves an empty pre-image.
    """
    region = country_of(user)
    found: dict[str, str] = {}
    for key, attribute, rule in identifiers:
        if not (text := getattr(user, attribute)):
            continue
        if _SHA256.fullmatch(text):
            found[key] = text.lower()
        # A shop's own customer id may well be 32 hex digits: a UUID without its dashes.
        elif attribute == "external_id" or not _OTHER_DIGEST.fullmatch(text):
            preimage = rule(text, region)
            if preimage:
                found[key] = sha256(preimage)
    return found


def plain(text: str | None) -> str | None:
    """A value that a platform wants as it is (click id, cookie, user agent): never a hash."""
    return None if text is None or _SHA256.fullmatch(text) else text


@lru_cache(maxsize=4096)
def ip(text: str | None) -> str | None:
    """A client address as written; of a proxy's list, the first public one, else the first.

    None when there is no address in it. A hash is none.
    """
    first = None
    for part in (text or "").split(","):
        candidate = part.strip()
        try:
            if ip_address(candidate).is_global:
                return candidate
        except ValueError:
            continue
        first = first or candidate
    return first


def country_of(user: UserData) -> str | None:
    """The person's country as ISO 3166 alpha-2 in lower case, if it was given readably."""
    return country(user.country, None) if user.country else None


def region_of(user: UserData) -> str | None:
    """The person's state as ISO 3166-2 (``US-NY``), if country and state are known codes."""
    region = country_of(user)
    if region is None or user.state is None:
        return None
    code = f"{region}-{state(user.state, region)}".upper()
    return code if code in _subdivisions() else None


def verbatim(text: str, _country: str | None = None) -> str | None:
    """As given, without blanks around it: case counts."""
    return text.strip() or None


def lower(text: str, _country: str | None = None) -> str | None:
    """Trimmed, lower case, composed (NFC); punctuation is kept, but alone it is nothing."""
    composed = unicodedata.normalize("NFC", text.strip().lower())
    return composed if any(map(str.isalnum, composed)) else None


def letters_digits(text: str, _country: str | None = None) -> str | None:
    """Lower case without blanks and punctuation; letters of every script stay, accents too."""
    return _kept(text, str.isalnum)


def letters(text: str, _country: str | None = None) -> str | None:
    """Like ``letters_digits``, without the digits."""
    return _kept(text, str.isalpha)


def email(text: str, _country: str | None = None) -> str | None:
    """Trimmed and lower case; dots and ``+tag`` stay."""
    address = text.strip().lower()
    return address if _EMAIL.fullmatch(address) else None


def email_canonical(text: str, _country: str | None = None) -> str | None:
    """Like ``email``, with ``+tag`` and all but letters and digits gone before the ``@``."""
    address = email(text)
    if address is None:
        return None
    mailbox, _, host = address.partition("@")
    mailbox = "".join(filter(str.isalnum, mailbox.partition("+")[0]))
    return f"{mailbox}@{host}" if mailbox else None


@lru_cache(maxsize=REMEMBERED)
def phone(text: str, region: str | None = None) -> str | None:
    """E.164 with the plus, extension cut: ``+442079460018``.

    A number that names no country is read as one of ``region``. Without a region it is taken for
    an international one only if it is long enough and valid as such. Cached, because the same
    person's phone is asked for once per platform, and parsing costs as much as the rest.
    """
    dialled = text.strip()
    if dialled.startswith("00"):
        dialled = "+" + dialled[2:]
    number = _possible_number(dialled, region.upper() if region else None)
    if number is None:
        digits = _NOT_DIGITS.sub("", text)
        if len(digits) >= _MIN_INTERNATIONAL_DIGITS and _DIALLED.fullmatch(text):
            number = _possible_number("+" + digits, None)
        if number is None or not phonenumbers.is_valid_number(number):
            return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def phone_digits(text: str, region: str | None = None) -> str | None:
    """E.164 without the plus: ``442079460018``."""
    number = phone(text, region)
    return number[1:] if number else None


def phone_lenient(text: str, region: str | None = None) -> str | None:
    """Like ``phone_digits``; a number of unknown country as dialled, without leading zeros.

    Both of Meta's own libraries do so: they take every number to begin with its country code.
    """
    number = phone_digits(text, region)
    if number or region or not _DIALLED.fullmatch(text):
        return number
    digits = _NOT_DIGITS.sub("", text).lstrip("0")
    return digits if 7 <= len(digits) <= 15 else None


def gender(text: str, _country: str | None = None) -> str | None:
    """``f``, ``m`` or ``n`` (non-binary)."""
    return _GENDERS.get(text.strip().lower())


def gender_binary(text: str, _country: str | None = None) -> str | None:
    """``f`` or ``m``; the platform has no word for others, so they are left out."""
    letter = gender(text)
    return None if letter == "n" else letter


def date_of_birth(text: str, _country: str | None = None) -> str | None:
    """``YYYYMMDD`` from a date that begins with its year; others cannot be told apart."""
    match = _BIRTH.fullmatch(text.strip())
    if match is None:
        return None
    year, _, month, day = match.groups()
    try:
        return date(int(year), int(month), int(day)).isoformat().replace("-", "")
    except ValueError:
        return None


def country(text: str, _country: str | None = None) -> str | None:
    """ISO 3166 alpha-2 in lower case, from that, from alpha-3 or from an English name."""
    return _countries().get(text.strip().lower())


def state(text: str, region: str | None = None) -> str | None:
    """The two-letter code in the USA and Canada, elsewhere the name's letters; lower case."""
    name = letters(text)
    return _state_codes().get((region, name), name)


def postal_cut(text: str, region: str | None = None) -> str | None:
    """Lower case, no blanks, cut at the first dash; five digits in the USA."""
    code = _BLANKS.sub("", text.lower()).partition("-")[0]
    return _zip5(code, region) or None


def postal_joined(text: str, region: str | None = None) -> str | None:
    """Lower case, no blanks, no dashes; five digits in the USA."""
    return _zip5(_BLANKS_DASHES.sub("", text.lower()), region) or None


def postal_sector(text: str, region: str | None = None) -> str | None:
    """Like ``postal_joined``; a British code without its last two letters (``sw1a1``)."""
    code = postal_joined(text, region)
    if code and region == "gb" and _UK_POSTCODE.fullmatch(code):
        return code[:-2]
    return code


def postal_digits(text: str, _country: str | None = None) -> str | None:
    """Digits only; a code with letters would lose its meaning and is left out."""
    code = _BLANKS_DASHES.sub("", text)
    return code if code.isascii() and code.isdigit() else None


def _kept(text: str, is_kept: Callable[[str], bool]) -> str | None:
    cleaned = lower(text)
    if cleaned is None or is_kept(cleaned):
        return cleaned
    # Marks (category M) are vowel signs and accents: parts of words, though not letters.
    kept = (c for c in cleaned if is_kept(c) or unicodedata.category(c)[0] == "M")
    return unicodedata.normalize("NFC", "".join(kept)) or None


def _zip5(code: str, region: str | None) -> str:
    return code[:5] if region == "us" else code


def _possible_number(text: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    """Possible, not valid: the vendors' own examples use numbers that nobody has been given."""
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    whole = phonenumbers.ValidationResult.IS_POSSIBLE  # rather than without its area code
    return number if phonenumbers.is_possible_number_with_reason(number) == whole else None


@cache
def _countries() -> dict[str, str]:
    kinds = ("alpha_2", "alpha_3", "name", "common_name", "official_name")
    codes = {
        getattr(entry, kind).lower(): entry.alpha_2.lower()
        for entry in pycountry.countries
        for kind in kinds
        if hasattr(entry, kind)
    }
    return codes | {"uk": "gb"}  # reserved for it in ISO 3166, and what shops write


@cache
def _subdivisions() -> frozenset[str]:
    return frozenset(entry.code for entry in pycountry.subdivisions)


@cache
def _state_codes() -> dict[tuple[str | None, str | None], str]:
    return {("ca", "québec"): "qc"} | {  # its own spelling; pycountry has the English one
        (entry.country_code.lower(), letters(entry.name)): entry.code.partition("-")[2].lower()
        for entry in pycountry.subdivisions
        if entry.country_code in {"US", "CA"}
    }
