"""A topic that was deleted and made anew is told from the one before."""

import itertools
import os
import time

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.settings import KafkaSettings
from runtime.topic_identity import TopicIdentity
from tests.integration.system import eventually

_numbers = itertools.count()


class QuickClock:
    """Nobody waits for the next look."""

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return 0

    def monotonic(self) -> float:
        """Seconds, sixty to one."""
        return time.monotonic() * 60

    async def sleep(self, seconds: float) -> None:
        """Not asked for."""


@pytest.fixture
def topic() -> str:
    """A name that no topic has had."""
    return f"identity-{os.getpid()}-{next(_numbers)}"


def make(admin: AdminClient, topic: str) -> None:
    """Make the topic; a broker that is deleting it still is asked again."""

    def is_made() -> bool:
        (made,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
        return made.exception(10) is None

    eventually(is_made, within=20, until=bool)


def changes(identity: TopicIdentity, seconds: float) -> int:
    """How often it has changed, by asking for so long."""
    until, found = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        found += identity.has_changed()
        time.sleep(0.01)
    return found


def test_a_topic_that_is_made_anew_is_another_one(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    identity = TopicIdentity(KafkaSettings(bootstrap=bootstrap), topic, QuickClock())
    assert changes(identity, 0.5) == 0, "there is none yet"
    make(admin, topic)
    eventually(identity.has_changed, within=20, until=bool)
    assert changes(identity, 1) == 0, "the same is no change"
    admin.delete_topics([topic])[topic].result(10)
    assert changes(identity, 0.5) == 0, "what is gone is no other one"
    make(admin, topic)
    eventually(identity.has_changed, within=20, until=bool)
    assert changes(identity, 1) == 0


def test_where_no_broker_answers_nothing_has_changed(topic: str) -> None:
    identity = TopicIdentity(KafkaSettings(bootstrap="127.0.0.1:1"), topic, QuickClock())
    assert changes(identity, 0.5) == 0
