"""Secrets that only have to be recognised: handed out once, kept as SHA-256."""

import secrets
from hashlib import sha256
from typing import Final, NamedTuple

_BYTES: Final = 32


class SecretToken(NamedTuple):
    """A new one."""

    text: str
    """For whoever it is made for, in the letters of an address."""
    sha256: str
    """To be kept."""


def new() -> SecretToken:
    """256 bits that nobody guesses."""
    text = secrets.token_urlsafe(_BYTES)
    return SecretToken(text, hashed(text))


def hashed(text: str) -> str:
    """The form in which a token is kept, and looked for."""
    # Whoever asks may send bytes that are no text; no token has the mark that replaces them.
    return sha256(text.encode(errors="replace")).hexdigest()
