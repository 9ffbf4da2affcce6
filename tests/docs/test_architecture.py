"""The road that ARCHITECTURE.md describes is the one that the code takes."""

import re
from typing import Final

import pytest

from platforms.base import Fate, Verdict
from platforms.registry import PLATFORMS
from schemas import topics
from schemas.topics import topic_table
from sinks.settle import settle
from tests.docs.markdown import ROOT, codes, section, table

TEXT: Final = (ROOT / "ARCHITECTURE.md").read_text()
ROAD: Final = table(section(TEXT, "The road of an event"), "")
MOST_FILES: Final = 10

# How a file speaks of a topic: by its name in schemas.topics, or by the record that goes there.
MARKS: Final = {
    topics.RAW_EVENTS: ["RAW_EVENTS"],
    topics.AUDIT: ["AUDIT", ".outcome_record("],
    topics.DEAD_LETTERS: ["DeadLetter(", "DeadLetter.of("],
    topics.deliveries("<platform>"): ["deliveries(", "Delivery("],
    f"{topics.deliveries('<platform>')}.retry.<tier>": ["retries(", "waiting("],
    topics.parked("<platform>"): ["parked("],
}


_TIER: Final = re.compile(r"\.retry\.\d+$")


def test_the_road_is_short_and_in_order() -> None:
    assert [row[0] for row in ROAD] == [str(number) for number in range(1, len(ROAD) + 1)]
    assert len(ROAD) <= MOST_FILES


@pytest.mark.parametrize("row", ROAD, ids=lambda row: row[1])
def test_each_file_exists_and_touches_the_topics_it_is_said_to(row: list[str]) -> None:
    source = (ROOT / codes(row[1])[0]).read_text()

    for topic in codes(row[3]) + codes(row[4]):
        assert any(mark in source for mark in MARKS[topic]), topic


@pytest.mark.parametrize("topic", MARKS)
def test_what_is_written_is_read(topic: str) -> None:
    reads = {code for row in ROAD for code in codes(row[3])}
    writes = {code for row in ROAD for code in codes(row[4])}

    assert topic in writes
    assert topic in reads or topic == topics.DEAD_LETTERS  # those are for people


def test_topics() -> None:
    stated = {
        codes(row[0])[0]: (row[1].strip("`"), int(row[3]), row[4])
        for row in table(section(TEXT, "Topics"), "Topic")
    }
    slug = next(iter(PLATFORMS))

    assert stated == {
        _TIER.sub(".retry.<tier>", topic.name.replace(f".{slug}", ".<platform>")): (
            topic.key,
            topic.partitions,
            _days(topic.retention_seconds),
        )
        for topic in topic_table([slug])
    }


def _days(seconds: int | None) -> str:
    return "compacted" if seconds is None else str(seconds // 86_400)


@pytest.mark.parametrize("fate", Fate)
def test_the_table_of_fates(fate: Fate) -> None:
    record = (ROOT / "docs/adr/0004-fates-settle-and-bisecting.md").read_text()
    row = next(row for row in table(record, "Fate") if codes(row[0]) == [fate])
    settlement = settle(Verdict(fate))

    assert codes(row[2]) == ([] if settlement.outcome is None else [settlement.outcome])
    assert ("dead letter" in row[2]) is settlement.dead_letter
