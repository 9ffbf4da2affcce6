"""The fields that every platform's credentials model is made of."""

from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, SecretStr, StringConstraints

from platforms.base import AccountCredentials

_MAX_TOKEN_CHARS: Final = 4096


def _stripped(value: object) -> object:
    """Tokens are pasted, and a pasted line ends with a newline."""
    return value.strip() if isinstance(value, str) else value


def _fits_a_header(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not (0 < len(text) <= _MAX_TOKEN_CHARS and text.isascii() and text.isprintable()):
        raise ValueError(f"must be 1 to {_MAX_TOKEN_CHARS} printable ASCII characters")
    if " " in text:
        raise ValueError("must not contain blanks")
    return token


AccountId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A pixel or ad account id. It becomes a part of a URL's path, so it can hold no slash or dot."""

AccessToken = Annotated[SecretStr, BeforeValidator(_stripped), AfterValidator(_fits_a_header)]
"""A token as it goes into a header or a query."""


class TokenCredentials(AccountCredentials):
    """An access token. The base of every model so far."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: AccessToken


class PixelCredentials(TokenCredentials):
    """A pixel and the token that may write to it."""

    pixel_id: AccountId
