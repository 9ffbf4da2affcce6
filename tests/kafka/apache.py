"""Apache Kafka for a test: the one that is given, else a container, else a Java process."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from tests.kafka.container import container_node, docker_answers
from tests.kafka.node import KafkaNode, KafkaUnavailableError, answers
from tests.kafka.process import java_is_there, process_node

BOOTSTRAP_VARIABLE: Final = "KAFKA_BOOTSTRAP"
_GIVEN_TIMEOUT_SECONDS: Final = 15.0


@contextmanager
def apache_kafka(directory: Path) -> Iterator[str]:
    """The bootstrap address of a cluster that answers; what is started here is also ended here.

    ``KAFKA_BOOTSTRAP`` names a cluster to use as it is. ``directory`` receives the log and, of a
    Java process, the data. Raises ``KafkaUnavailableError``, and says what would help.
    """
    given = os.environ.get(BOOTSTRAP_VARIABLE)
    if not given:
        with kafka_node(directory) as node:
            yield node.bootstrap
        return
    if not answers(given, _GIVEN_TIMEOUT_SECONDS):
        raise KafkaUnavailableError(f"{BOOTSTRAP_VARIABLE} is {given}, and nothing answers there")
    yield given


@contextmanager
def kafka_node(directory: Path) -> Iterator[KafkaNode]:
    """A started node of one's own, whatever ``KAFKA_BOOTSTRAP`` says: to be killed and restarted.

    Raises ``KafkaUnavailableError``, and says what would help.
    """
    with _node_in(directory) as node:
        node.start()
        yield node


def _node_in(directory: Path) -> AbstractContextManager[KafkaNode]:
    if docker_answers():
        return container_node(directory)
    if java_is_there():
        return process_node(directory)
    raise KafkaUnavailableError(
        "Apache Kafka cannot be started: no Docker engine answers and there is no java on the PATH. "
        f"Start Docker, install Java 17 and Maven, or name a cluster in {BOOTSTRAP_VARIABLE}."
    )
