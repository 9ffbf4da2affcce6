"""The table of topics."""

import re

from platforms.registry import PLATFORMS
from schemas.topics import DOMAIN_CONFIGS, RAW_EVENTS, deliveries, retries, topic_table

TABLE = {row.name: row for row in topic_table(PLATFORMS)}
STAGES = {"ingest", "streams", "sinks", "audit", "manage", "capistream"}


def test_names_are_unique_and_fit_kafka() -> None:
    assert len(TABLE) == len(topic_table(PLATFORMS)) == 5 + 2 * len(PLATFORMS)
    assert all(re.fullmatch(r"[a-z.-]{1,100}", name) for name in TABLE)


def test_every_platform_has_its_topics() -> None:
    for slug in PLATFORMS:
        assert TABLE[deliveries(slug)].partitions == 12
        assert TABLE[retries(slug)].partitions == 6


def test_configurations_are_compacted_and_the_rest_is_kept_for_a_time() -> None:
    assert TABLE[DOMAIN_CONFIGS].settings == {"cleanup.policy": "compact"}
    assert TABLE[DOMAIN_CONFIGS].partitions == 1
    assert TABLE[RAW_EVENTS].settings == {
        "cleanup.policy": "delete",
        "retention.ms": str(7 * 24 * 3600 * 1000),
    }


def test_every_row_says_who_writes_and_who_reads() -> None:
    for row in TABLE.values():
        assert row.producers
        assert row.consumers
        assert {*row.producers, *row.consumers} <= STAGES
