"""The base of every model that crosses a wire: camelCase outside, snake_case inside."""

from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel

from schemas.limits import MAX_MONEY_DECIMALS

SCHEMA_VERSION: Final = 1
"""Version of the records this code writes; readers refuse a record with a newer one."""


class Wire(BaseModel):
    """Immutable, camelCase on the wire, unknown keys ignored.

    Ignoring is right for records that travel between our own processes (an older reader meets a
    newer writer). What a shop sends is checked for unknown keys before it gets here, in
    ``ingest.validate``.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
        serialize_by_alias=True,
        frozen=True,
        extra="ignore",
    )


def _blank_is_absent(value: Any) -> Any:
    """Shops send ``""`` for what they do not know; an empty value must never be hashed or sent."""
    if isinstance(value, str):
        return value.strip() or None
    return value


def _number_is_id(value: Any) -> Any:
    """Shops number their orders and products; the platforms want those ids as strings."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


blank_is_absent: Final = BeforeValidator(_blank_is_absent)
number_is_id: Final = BeforeValidator(_number_is_id)


def decimal_from_json(value: Any) -> Any:
    """Read a JSON number or a numeric string as the decimal that was meant.

    A number is taken by its shortest text (49.99 is 49.99), and without the noise that browsers'
    arithmetic leaves (3 x 19.99 is 59.97, not 59.97000000000001).
    """
    if isinstance(value, float):
        written = Decimal(repr(value))
        exponent = written.as_tuple().exponent
        if isinstance(exponent, int) and exponent < -MAX_MONEY_DECIMALS:
            return round(written, MAX_MONEY_DECIMALS)
        return written
    if isinstance(value, str):
        return value.strip() or None
    return value
