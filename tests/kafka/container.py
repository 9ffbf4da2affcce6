"""A Kafka node in a container."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from testcontainers.core.container import DockerContainer

from tests.kafka.jars import kafka_version
from tests.kafka.node import (
    CLUSTER_ID,
    STOP_TIMEOUT_SECONDS,
    KafkaUnavailableError,
    free_ports,
    node_settings,
    wait_for_answer,
)

IMAGE: Final = f"apache/kafka:{kafka_version()}"
_ASK_TIMEOUT_SECONDS: Final = 5


class ContainerNode:
    """Runs Apache's own image; its data live as long as the container, running or not."""

    def __init__(self) -> None:
        """Choose the port; nothing is running yet."""
        port, controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        self._is_created = False
        # The broker must know before it starts what clients will call it, hence a port of our
        # choice. It is the same one inside, where the broker calls itself by that name, too.
        settings = node_settings(port=port, controller_port=controller_port, bind="0.0.0.0")
        self._container = DockerContainer(IMAGE, env=_as_environment(settings))
        # docker-py takes (address, port); testcontainers' annotation knows of ports alone.
        self._container.ports[f"{port}/tcp"] = ("127.0.0.1", port)  # type: ignore[assignment]

    def start(self) -> None:
        """See ``KafkaNode.start``."""
        if self._is_created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._is_created = True
        try:
            wait_for_answer(self.bootstrap, lambda: self._is_running)
        except KafkaUnavailableError as error:
            last_words = self.log()[-4000:]
            raise KafkaUnavailableError(f"Kafka did not start: {error}\n{last_words}") from None

    def kill(self) -> None:
        """See ``KafkaNode.kill``."""
        if self._is_running:
            self._container.get_wrapped_container().kill()

    def stop(self) -> None:
        """See ``KafkaNode.stop``."""
        if self._is_running:
            self._container.get_wrapped_container().stop(timeout=STOP_TIMEOUT_SECONDS)

    def log(self) -> str:
        """Everything the broker has printed."""
        if not self._is_created:
            return ""
        printed: bytes = self._container.get_wrapped_container().logs()
        return printed.decode(errors="replace")

    def remove(self) -> None:
        """Remove the container with its data."""
        self._container.stop()

    @property
    def _is_running(self) -> bool:
        if not self._is_created:
            return False
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return bool(wrapped.status == "running")


def _as_environment(settings: dict[str, str]) -> dict[str, str]:
    """The broker's settings the way the image takes them."""
    named = {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()}
    return {"CLUSTER_ID": CLUSTER_ID} | named


def docker_answers() -> bool:
    """Whether a Docker engine can be used from here; found out in seconds."""
    if shutil.which("docker") is None:
        return False
    # By the command line: docker-py leaves a socket open when nobody answers.
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        run = subprocess.run(ask, capture_output=True, timeout=_ASK_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0


@contextmanager
def container_node(directory: Path) -> Iterator[ContainerNode]:
    """A node that is not started yet; at the end its log is in ``directory`` and it is removed."""
    node = ContainerNode()
    try:
        yield node
    finally:
        node.stop()
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "kafka.log").write_text(node.log())
        node.remove()
