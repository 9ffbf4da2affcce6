"""The table of topics."""

import re

import pytest

from platforms.registry import PLATFORMS
from schemas.topics import (
    DAY_SECONDS,
    DOMAIN_CONFIGS,
    RAW_EVENTS,
    RETRY_TIERS,
    deliveries,
    parked,
    retries,
    topic_table,
    waiting,
)

TABLE = {row.name: row for row in topic_table(PLATFORMS)}
STAGES = {"ingest", "streams", "sinks", "audit", "manage", "capistream"}


def test_names_are_unique_and_fit_kafka() -> None:
    assert len(TABLE) == len(topic_table(PLATFORMS)) == 5 + 5 * len(PLATFORMS)
    assert all(re.fullmatch(r"[a-z.-]{1,90}[1-9]?", name) for name in TABLE)


@pytest.mark.parametrize("slug", PLATFORMS)
def test_every_platform_has_its_topics(slug: str) -> None:
    assert TABLE[deliveries(slug)].partitions == 12
    assert waiting(slug) == (retries(slug, 1), retries(slug, 2), retries(slug, 3), parked(slug))
    assert len(RETRY_TIERS) == 3
    for name in waiting(slug):
        row = TABLE[name]
        assert row.partitions == 3
        assert row.producers == row.consumers == ("sinks",)
        assert (row.key, row.value) == (TABLE[deliveries(slug)].key, TABLE[deliveries(slug)].value)


@pytest.mark.parametrize("slug", PLATFORMS)
def test_what_waits_is_kept_until_its_platform_would_not_take_it_any_more(slug: str) -> None:
    most = PLATFORMS[slug].LIMITS.max_age_seconds
    kept = TABLE[parked(slug)].retention_seconds
    assert kept is not None
    assert kept > most
    for tier in RETRY_TIERS:
        assert TABLE[retries(slug, tier)].retention_seconds == 14 * DAY_SECONDS


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
