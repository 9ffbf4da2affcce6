"""What shops write in more than one way: how it is read, and next to that the schema of what may come.

The OpenAPI document is made from these schemas.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from schemas.limits import (
    MAX_EVENT_TIME_SECONDS,
    MAX_MONEY,
    MAX_MONEY_DECIMALS,
    MAX_QUANTITY,
    MIN_EVENT_TIME_SECONDS,
)

# All that ``str.strip`` takes off: most dialects of regular expressions lack some of it in \s.
NOT_BLANK: Final = r"[^\s\x1c-\x1f\x85]"
"""What a text must hold that may not be blank."""

_SPACE: Final = r"[\s\x1c-\x1f\x85]*"


def _blank_is_absent(value: str | None) -> str | None:
    """Shops send ``""`` for what they do not know; an empty value must never be hashed or sent."""
    return (value.strip() or None) if value else None


blank_is_absent: Final = AfterValidator(_blank_is_absent)


_MIN_ID: Final = -(2**53 - 1)
_MAX_ID: Final = 2**64 - 1

IdNumber = Annotated[int, Field(ge=_MIN_ID, le=_MAX_ID)]
"""Beyond these, a JSON number is not read as it was written."""


def id_from_json(value: Any) -> Any:
    """Shops number their orders and products; the platforms want those ids as strings.

    A number that is no id stays one, for the validation to refuse.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if _MIN_ID <= value <= _MAX_ID and value == int(value) else value


def number_is_id(taken: Any) -> BeforeValidator:
    """Read a number as an id; ``taken`` is the type of all that may come."""
    return BeforeValidator(id_from_json, json_schema_input_type=taken)


_UNSIGNED: Final = (
    rf"[0-9]{{1,{len(str(MAX_MONEY)) - 1}}}(\.[0-9]{{0,{MAX_MONEY_DECIMALS}}}0*)?"
    rf"|{MAX_MONEY}(\.0*)?|\.[0-9]{{1,{MAX_MONEY_DECIMALS}}}0*"
)
_AMOUNT: Final = rf"^{_SPACE}({_UNSIGNED})?{_SPACE}$"
_HALF_OF_LEAST: Final = -0.5 * 10**-MAX_MONEY_DECIMALS


def decimal_from_json(value: Any) -> Any:
    """Read a JSON number or a numeric string as the decimal that was meant.

    A number is taken by its shortest text (49.99 is 49.99), and without the noise that browsers'
    arithmetic leaves (3 x 19.99 is 59.97, not 59.97000000000001; -5e-17 is nil).
    """
    if isinstance(value, str):
        if not re.fullmatch(_AMOUNT, value):
            msg = (
                f"must be an amount such as 49.99, with at most {MAX_MONEY_DECIMALS} decimal places"
            )
            raise ValueError(msg)
        return _rounded(Decimal(value.strip())) if value.strip() else None
    return _rounded(Decimal(repr(value))) if isinstance(value, float) else value


def _rounded(amount: Decimal) -> Decimal:
    exponent = amount.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -MAX_MONEY_DECIMALS:
        amount = round(amount, MAX_MONEY_DECIMALS)
    return amount or Decimal(0)  # nil has no sign


Money = Annotated[
    Annotated[
        Decimal,
        Field(ge=0, le=MAX_MONEY, decimal_places=MAX_MONEY_DECIMALS, allow_inf_nan=False),
    ]
    | None,
    BeforeValidator(
        decimal_from_json,
        json_schema_input_type=Annotated[float, Field(ge=_HALF_OF_LEAST, le=float(MAX_MONEY))]
        | Annotated[str, StringConstraints(pattern=_AMOUNT), Field(examples=["49.99"])]
        | None,
    ),
]
"""An amount in base units of its currency (49.99, not cents)."""


_CURRENCY: Final = rf"^{_SPACE}([A-Za-z]{{3}})?{_SPACE}$"


def _known_currency(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(_CURRENCY, value):
        msg = "must be an ISO 4217 code of three letters, such as EUR"
        raise ValueError(msg)
    return value.strip().upper() or None


Currency = Annotated[
    str | None,
    BeforeValidator(
        _known_currency,
        json_schema_input_type=Annotated[
            str, StringConstraints(pattern=_CURRENCY), Field(examples=["EUR"])
        ]
        | None,
    ),
]


_WHOLE: Final = (
    rf"^{_SPACE}([0-9]{{1,{len(str(MAX_QUANTITY)) - 1}}}|{MAX_QUANTITY})(\.0*)?{_SPACE}$"
)
_WholeNumber = Annotated[int, Field(ge=0, le=MAX_QUANTITY)]


def _whole_number(value: Any) -> Any:
    is_text = isinstance(value, str)
    if isinstance(value, bool) or (is_text and not re.fullmatch(_WHOLE, value)):
        msg = f"must be a valid integer, 0 to {MAX_QUANTITY}"
        raise ValueError(msg)
    return int(value.strip().partition(".")[0]) if is_text else value


Quantity = Annotated[
    _WholeNumber,
    BeforeValidator(
        _whole_number,
        json_schema_input_type=_WholeNumber
        | Annotated[str, StringConstraints(pattern=_WHOLE), Field(examples=["2.0000"])],
    ),
]
"""A number of things; shops that keep fractions write ``"2.0000"``."""


def _to_milliseconds(value: Any) -> Any:
    """Unix seconds (with or without a fraction) or Unix milliseconds, told apart by size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = "must be a number: Unix time in seconds, such as 1767225600"
        raise ValueError(msg)  # noqa: TRY004 - pydantic turns ValueError into a field error
    if not value >= MIN_EVENT_TIME_SECONDS:
        msg = "must be Unix time in seconds, after 2001"
        raise ValueError(msg)
    milliseconds = value if value >= MAX_EVENT_TIME_SECONDS else value * 1000
    if milliseconds >= MAX_EVENT_TIME_SECONDS * 1000:
        msg = "must be Unix time in seconds or milliseconds"
        raise ValueError(msg)
    return round(milliseconds)


_TIME_AS_TEXT: Final = rf"^{_SPACE}([1-9][0-9]{{9,10}}(\.[0-9]*)?|[1-9][0-9]{{11,13}})?{_SPACE}$"
_TimeNumber = Annotated[float, Field(ge=MIN_EVENT_TIME_SECONDS, lt=MAX_EVENT_TIME_SECONDS * 1000)]
EventTime = Annotated[
    int,
    BeforeValidator(_to_milliseconds, json_schema_input_type=_TimeNumber),
]
"""Unix milliseconds; comes as seconds or milliseconds."""


def _time_from_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    return float(value.strip()) if re.fullmatch(_TIME_AS_TEXT, value) else value


LooseEventTime = Annotated[
    EventTime | None,
    BeforeValidator(
        _time_from_text,
        json_schema_input_type=_TimeNumber
        | Annotated[str, StringConstraints(pattern=_TIME_AS_TEXT), Field(examples=["1767225600"])]
        | None,
    ),
]
"""The same, and as text, or left blank."""


_CODE: Final = "[A-Za-z0-9_-]{1,64}"


def _blank_text_is_absent(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


TestEventCode = Annotated[
    Annotated[str, StringConstraints(pattern=f"^{_CODE}$")] | None,
    BeforeValidator(
        _blank_text_is_absent,
        json_schema_input_type=Annotated[
            str,
            StringConstraints(pattern=rf"^{_SPACE}({_CODE})?{_SPACE}$"),
            Field(examples=["TEST12345"]),
        ]
        | None,
    ),
]
"""The code that makes a platform show events in its test view; blank means none."""
