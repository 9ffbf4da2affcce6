"""The base of every model that crosses a wire: camelCase outside, snake_case inside."""

from typing import Final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

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
        # What stands below a field is its description in the OpenAPI document.
        use_attribute_docstrings=True,
    )
