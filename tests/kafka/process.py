"""A Kafka node as a Java process of this machine."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kafka.jars import fetched_jars
from tests.kafka.node import (
    CLUSTER_ID,
    STOP_TIMEOUT_SECONDS,
    KafkaUnavailableError,
    free_ports,
    node_settings,
    wait_for_answer,
)


class ProcessNode:
    """Runs the broker's main class; everything it writes is in ``directory``."""

    def __init__(self, directory: Path) -> None:
        """Choose the ports and prepare empty storage; nothing is running yet."""
        port, controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{port}"
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._log = self._directory / "kafka.log"
        self._settings = self._directory / "kafka.properties"
        self._jars = fetched_jars()
        self._process: subprocess.Popen[bytes] | None = None

        settings = node_settings(port=port, controller_port=controller_port, bind="127.0.0.1")
        settings["log.dirs"] = str(self._directory / "data")
        self._settings.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self._run("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c")

    def start(self) -> None:
        """See ``KafkaNode.start``."""
        self._process = self._spawn("kafka.Kafka")
        try:
            wait_for_answer(self.bootstrap, lambda: self._is_running)
        except KafkaUnavailableError as error:
            self.kill()
            raise KafkaUnavailableError(
                f"Kafka did not start: {error}\n{self._last_words}"
            ) from None

    def kill(self) -> None:
        """See ``KafkaNode.kill``."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """See ``KafkaNode.stop``."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    @property
    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]

    def _run(self, main_class: str, *arguments: str) -> None:
        if self._spawn(main_class, *arguments).wait(timeout=60) != 0:
            raise KafkaUnavailableError(f"{main_class} failed:\n{self._last_words}")

    def _spawn(self, main_class: str, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    "java",
                    "-Xmx512m",
                    "-Djava.awt.headless=true",
                    # Without a file of settings, log4j prints errors only.
                    "-Dlog4j2.level=INFO",
                    "-cp",
                    f"{self._jars}/*",
                    main_class,
                    *arguments,
                    str(self._settings),
                ],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def java_is_there() -> bool:
    """Whether a ``java`` can be started from here."""
    return shutil.which("java") is not None


@contextmanager
def process_node(directory: Path) -> Iterator[ProcessNode]:
    """A node that is not started yet, and is stopped at the end."""
    node = ProcessNode(directory)
    try:
        yield node
    finally:
        node.stop()
