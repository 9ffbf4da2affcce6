"""What lies on ``audit``: outcomes, alerts and routings."""

from typing import Annotated, Final, TypeAlias

from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from schemas.alert import Alert
from schemas.outcome import Outcome
from schemas.routing import Routing

Told: TypeAlias = Outcome | Alert | Routing
"""The value of one record."""


def _kind(value: object) -> object:
    """Outcomes had no kind before there were alerts."""
    return value.get("kind", "outcome") if isinstance(value, dict) else "outcome"


_VALUES: Final[TypeAdapter[Told]] = TypeAdapter(
    Annotated[
        Annotated[Outcome, Tag("outcome")]
        | Annotated[Alert, Tag("alert")]
        | Annotated[Routing, Tag("routing")],
        Discriminator(_kind),
    ]
)


def read_told(value: bytes | None) -> Told | None:
    """What the value of a record tells; None if it is nothing of ours, or newer than this code."""
    try:
        return _VALUES.validate_json(value or b"")
    except ValidationError:
        return None
