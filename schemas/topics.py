"""The topics: one row each. ``capistream topics`` creates and checks what stands here."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from schemas.wire import SCHEMA_VERSION

RAW_EVENTS: Final = "raw-events"
REPLAY_EVENTS: Final = "replay-events"
AUDIT: Final = "audit"
DEAD_LETTERS: Final = "dead-letters"
DOMAIN_CONFIGS: Final = "domain-configs"

DAY_SECONDS: Final = 24 * 3600

RETRY_TIERS: Final = (1, 2, 3)
"""Short, longer, long: how long each is, is a setting."""


def deliveries(platform: str) -> str:
    """Topic of what is to be sent to a platform."""
    return f"deliveries.{platform}"


def retries(platform: str, tier: int) -> str:
    """Topic of what is to be sent to a platform again after a while; ``tier`` (from 1) says how
    long. One topic for each, so that whatever lies first is due first."""
    return f"deliveries.{platform}.retry.{tier}"


def parked(platform: str) -> str:
    """Topic of what waits for its destination's token or account to be mended."""
    return f"deliveries.{platform}.parked"


def waiting(platform: str) -> tuple[str, ...]:
    """Every topic from which deliveries to a platform come back later."""
    return (*(retries(platform, tier) for tier in RETRY_TIERS), parked(platform))


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic's contract."""

    name: str
    key: str
    value: str
    partitions: int
    retention_seconds: int | None
    """None: kept for as long as its key lives (compacted)."""
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def settings(self) -> dict[str, str]:
        """The broker-side settings this row stands for."""
        if self.retention_seconds is None:
            return {"cleanup.policy": "compact"}
        return {"cleanup.policy": "delete", "retention.ms": str(self.retention_seconds * 1000)}


def topic_table(platforms: Iterable[str]) -> tuple[Topic, ...]:
    """Every topic of a system that feeds ``platforms`` (slugs)."""
    rows = [
        Topic(RAW_EVENTS, "domain_id:event_id", "RawEvent", 12, 7 * DAY_SECONDS, ("ingest",), ("streams",)),
        Topic(REPLAY_EVENTS, "domain_id:event_id", "RawEvent", 12, 2 * DAY_SECONDS, ("capistream",), ("streams",)),
        Topic(AUDIT, "domain_id", "Outcome, Alert or Routing", 12, 30 * DAY_SECONDS, ("streams", "sinks"), ("audit",)),
        Topic(DEAD_LETTERS, "key of the origin", "the origin's bytes", 6, 30 * DAY_SECONDS, ("streams", "sinks"), ("audit",)),
        Topic(DOMAIN_CONFIGS, "domain_id", "DomainConfig", 1, None, ("manage",), ("ingest", "streams", "sinks", "audit")),
    ]  # fmt: skip
    for slug in platforms:
        key, value = (
            "destination_id:event_id",
            "the JSON object that goes into the platform's batch",
        )
        rows += [
            Topic(deliveries(slug), key, value, 12, 7 * DAY_SECONDS, ("streams",), ("sinks",)),
            *(Topic(retries(slug, tier), key, value, 3, 14 * DAY_SECONDS, ("sinks",), ("sinks",)) for tier in RETRY_TIERS),
            # Longer than any platform takes an event for: what is too old is told so, not lost.
            Topic(parked(slug), key, value, 3, 30 * DAY_SECONDS, ("sinks",), ("sinks",)),
        ]  # fmt: skip
    return tuple(rows)
