"""Records of a partition are cut into batches: within the bounds, none lost, none turned around."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.faust_batches import batch_scheduler


@dataclass(frozen=True, slots=True)
class Fetched:
    """As much of a consumer's record as a batch looks at."""

    offset: int
    serialized_value_size: int
    topic: str = "raw-events"
    partition: int = 0
    timestamp: int = 0
    timestamp_type: int = 0


def cut(sizes: list[int], most: int, most_bytes: int) -> list[list[Any]]:
    records = [Fetched(offset, size) for offset, size in enumerate(sizes)]
    scheduler = batch_scheduler(most, most_bytes)()
    return [batch.value for _, batch in scheduler.iterate({"p": records})]


@given(st.lists(st.integers(-1, 50), max_size=60), st.integers(1, 20), st.integers(1, 100))
def test_batches_keep_both_bounds_and_every_record(
    sizes: list[int], most: int, most_bytes: int
) -> None:
    batches = cut(sizes, most, most_bytes)
    assert [record.offset for batch in batches for record in batch] == list(range(len(sizes)))
    for batch in batches:
        assert 1 <= len(batch) <= most
        taken = sum(max(record.serialized_value_size, 0) for record in batch)
        assert taken <= most_bytes or len(batch) == 1
    for batch, after in pairwise(batches):
        taken = sum(max(record.serialized_value_size, 0) for record in [*batch, after[0]])
        assert len(batch) == most or taken > most_bytes, "no smaller than need be"


def test_a_batch_is_acknowledged_by_its_last_record() -> None:
    scheduler = batch_scheduler(2, 100)()
    found = list(scheduler.iterate({"a": [Fetched(7, 1), Fetched(9, 1), Fetched(10, 1)]}))
    assert [(partition, batch.offset) for partition, batch in found] == [("a", 9), ("a", 10)]
