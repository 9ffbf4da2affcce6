"""``python -m tests.kafka``: fetch the broker's jars, so that the tests need no network."""

import sys
import time

from tests.kafka.jars import fetched_jars, jar_directory, kafka_version
from tests.kafka.node import KafkaUnavailableError


def main() -> None:
    """Fetch the jars unless they are there, and say what was done."""
    kafka = f"Apache Kafka {kafka_version()}"
    if jar_directory().is_dir():
        print(f"{kafka} is in {jar_directory()}")
        return
    print(f"{kafka}: fetching from Maven Central …", flush=True)
    started_at = time.monotonic()
    try:
        jars = list(fetched_jars().iterdir())
    except KafkaUnavailableError as error:
        sys.exit(f"{kafka}: {error}")
    seconds = time.monotonic() - started_at
    megabytes = sum(jar.stat().st_size for jar in jars) / 1e6
    print(f"{kafka}: {len(jars)} jars, {megabytes:.0f} MB in {seconds:.0f} s → {jar_directory()}")


if __name__ == "__main__":
    main()
