"""What lies on ``audit``, as whoever reads it has it."""

from collections.abc import Iterable

from schemas.audit import read_told
from schemas.outcome import Outcome
from schemas.record import Record
from schemas.routing import Routing
from schemas.topics import AUDIT


def outcome_of(record: Record) -> Outcome:
    """What a record of ``audit`` says of a delivery."""
    return Outcome.model_validate_json(record.value or b"")


def outcomes_in(values: Iterable[bytes | None]) -> list[Outcome]:
    """The outcomes among values of ``audit``."""
    return [told for value in values if isinstance(told := read_told(value), Outcome)]


def outcomes_among(records: Iterable[Record]) -> list[Outcome]:
    """The outcomes among records of any topics."""
    return outcomes_in(record.value for record in records if record.topic == AUDIT)


def routings_among(records: Iterable[Record]) -> list[Routing]:
    """The routings among records of any topics."""
    values = [record.value for record in records if record.topic == AUDIT]
    return [told for value in values if isinstance(told := read_told(value), Routing)]
