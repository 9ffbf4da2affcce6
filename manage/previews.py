"""Secrets as they are shown: enough to recognise one's own, too little to use or to guess it."""

from typing import Final

from pydantic import SecretStr

from platforms.base import AccountCredentials

_FIRST: Final = 3
_LAST: Final = 4
_SHOWN_SHARE: Final = 3
"""No more than one character in so many is shown."""


def masked(secret: str) -> str:
    """``sk-****…7f3a``: the last four characters and a short beginning, of a short secret less."""
    shown = len(secret) // _SHOWN_SHARE
    last = min(_LAST, shown)
    first = min(_FIRST, shown - last)
    return f"{secret[:first]}****…{secret[len(secret) - last :]}"


def preview(credentials: AccountCredentials) -> str | None:
    """The masked secret of a destination; None when it has none."""
    secrets = (value for _, value in credentials if isinstance(value, SecretStr))
    secret = next(secrets, None)
    return masked(secret.get_secret_value()) if secret else None
