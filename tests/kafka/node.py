"""What a broker for tests is, however it is run: its life, its settings, when it is ready."""

import random
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

CLUSTER_ID: Final = "Y2FwaXN0cmVhbS10ZXN0cw"
"""Any 16 bytes in URL-safe base64; fixed, as every node starts from empty storage."""

START_TIMEOUT_SECONDS: Final = 90.0
"""Enough for a JVM on a busy two-core CI machine; a start takes a few seconds otherwise."""

STOP_TIMEOUT_SECONDS: Final = 20

# Below Linux's range for outgoing connections (32768 and up): a client that keeps dialling a
# killed broker's port must not be given that very port as its own and so connect to itself.
_PORTS: Final = range(20_000, 32_000)


class KafkaUnavailableError(RuntimeError):
    """No broker can be had, and why."""


class KafkaNode(Protocol):
    """A broker that a test may kill and start again: same address, same data."""

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients, the same for the node's whole life."""
        ...

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises ``KafkaUnavailableError`` when it ends instead, or does not answer in time.
        """
        ...

    def kill(self) -> None:
        """End it with SIGKILL: nothing is flushed, nobody is told."""
        ...

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL when that is not enough."""
        ...


def node_settings(*, port: int, controller_port: int, bind: str) -> dict[str, str]:
    """Settings of a broker and controller in one, for clients on this machine.

    ``bind`` is the address that clients' connections arrive at. What is replicated in production
    exists once here. Kafka's own topics get few partitions: the usual fifty of each are fifty
    directories to make before the first commit is answered.
    """
    return {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{bind}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        # A killed broker that comes back is let in only when its old session has run out.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "5",
    }


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports that nothing on this machine listens on right now."""
    free = (port for port in random.sample(_PORTS, len(_PORTS)) if _is_free(port))
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the broker does: what an ended connection left behind is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(bootstrap: str, timeout_seconds: float) -> bool:
    """Whether a cluster with at least one broker answers at ``bootstrap``."""
    # Refused connections are what waiting consists of: librdkafka need not print them.
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=timeout_seconds).brokers)
    except KafkaException:
        return False


def wait_for_answer(bootstrap: str, is_running: Callable[[], bool]) -> None:
    """Return as soon as the node answers; give up at once when it is no longer running."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while is_running():
        if answers(bootstrap, timeout_seconds=1.0):
            return
        if time.monotonic() > deadline:
            raise KafkaUnavailableError(f"no answer within {START_TIMEOUT_SECONDS:.0f} s")
    raise KafkaUnavailableError("it ended before it answered")
