"""Which topic it is that a name stands for."""

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from runtime.clock import Clock, SystemClock
from runtime.kafka import client_config
from runtime.logs import get_logger
from runtime.settings import KafkaSettings

if TYPE_CHECKING:
    from concurrent.futures import Future

log = get_logger(__name__)

_LOOK_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.5
"""While the topic has not been seen, or is gone."""

_TIMEOUT_SECONDS: Final = 5.0


class TopicIdentity:
    """Notices when a topic that was deleted has been made anew under its name.

    No consumer is told: it goes on at the offset that it had in the old one, past all that lies before
    it in the new one.
    """

    def __init__(self, settings: KafkaSettings, topic: str, clock: Clock | None = None) -> None:
        """``topic`` is its name on the cluster."""
        self._client = AdminClient(client_config(settings))
        self._topic = topic
        self._clock = clock or SystemClock()
        self._known: str | None = None
        self._is_missing = False
        self._asked: Future[TopicDescription] | None = None
        self._next_look = self._clock.monotonic()

    def has_changed(self) -> bool:
        """Whether the topic is another one than when this was true last: first when it is seen at
        all. To be called often; it does not wait."""
        if self._asked is None:
            if self._clock.monotonic() >= self._next_look:
                self._ask()
            return False
        if not self._asked.done():
            return False
        found = self._found(self._asked)
        self._asked = None
        pause = _LOOK_AGAIN_SECONDS if found is None else _LOOK_SECONDS
        self._next_look = self._clock.monotonic() + pause
        if found in (None, self._known):
            return False
        if self._known is not None:
            log.warning("A topic was made anew; reading it from its start.", topic=self._topic)
        self._known = found
        return True

    def _ask(self) -> None:
        topics = TopicCollection([self._topic])
        asked = self._client.describe_topics(topics, request_timeout=_TIMEOUT_SECONDS)
        self._asked = asked[self._topic]

    def _found(self, asked: "Future[TopicDescription]") -> str | None:
        try:
            found = str(asked.result().topic_id)
        except KafkaException as error:
            # Whether Kafka answers at all is told by whoever reads the topic.
            is_missing = error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            if is_missing and not self._is_missing:
                log.warning("A topic is not there.", topic=self._topic)
            self._is_missing = is_missing
            return None
        self._is_missing = False
        return found
