"""What the feed makes of the records of ``domain-configs``."""

import asyncio
from typing import Any

import pytest

from runtime.config_feed import ConfigFeed
from runtime.kafka import ConsumedRecord
from runtime.settings import Settings
from schemas.config import DomainConfig

DOMAIN = DomainConfig(
    domainId="dom_1", orgId="org", host="shop.example", revision=1, syncTokenSha256=""
)


@pytest.fixture
async def feed() -> ConfigFeed:
    return ConfigFeed(Settings())


def take(feed: ConfigFeed, value: bytes | None, key: bytes = b"dom_1") -> DomainConfig | None:
    return feed._apply(ConsumedRecord("domain-configs", 0, 0, key, value, ()))


def revision(number: int, **changes: Any) -> bytes:
    changed = DOMAIN.model_copy(update={"revision": number} | changes)
    return changed.model_dump_json().encode()


async def test_a_domain_is_found_by_host_and_by_id(feed: ConfigFeed) -> None:
    assert take(feed, revision(1)) == DOMAIN
    assert feed.by_host("shop.example") == feed.by_id("dom_1") == DOMAIN
    assert feed.by_host("other.example") is None


async def test_the_highest_revision_counts(feed: ConfigFeed) -> None:
    take(feed, revision(3, strict=True))
    assert take(feed, revision(2)) is None
    found = feed.by_id("dom_1")
    assert found is not None
    assert found.strict


async def test_a_host_that_was_given_up_is_free(feed: ConfigFeed) -> None:
    take(feed, revision(1))
    take(feed, revision(2, host="new.example"))
    assert feed.by_host("shop.example") is None
    assert feed.by_host("new.example") is not None


async def test_a_removed_domain_is_gone(feed: ConfigFeed) -> None:
    take(feed, revision(1))
    take(feed, None)
    assert feed.by_host("shop.example") is feed.by_id("dom_1") is None


async def test_what_lies_on_the_topic_is_told_once_it_was_read_to_its_end(feed: ConfigFeed) -> None:
    take(feed, revision(3))
    assert feed.on_topic() is None
    feed._read_to_end = True
    assert feed.on_topic() == {"dom_1": 3}
    # The last record of a key is all that is left of it in the end.
    take(feed, revision(2))
    assert feed.on_topic() == {"dom_1": 2}
    assert [domain.revision for domain in feed] == [3]
    take(feed, None)
    assert feed.on_topic() == {}
    assert list(feed) == []


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b"[]"])
async def test_what_cannot_be_read_leaves_the_previous_in_force(
    feed: ConfigFeed, value: bytes
) -> None:
    take(feed, revision(1))
    assert take(feed, value, b"\xff") is None
    assert feed.by_id("dom_1") == DOMAIN


async def test_a_domain_on_its_way_is_waited_for(feed: ConfigFeed) -> None:
    assert await feed.wait_for("dom_1", 0) is None
    waiting = asyncio.create_task(feed.wait_for("dom_1", 10))
    await asyncio.sleep(0)
    take(feed, revision(1))
    await feed._announce([DOMAIN], caught_up=True)
    assert await waiting == DOMAIN
    assert feed.is_caught_up
