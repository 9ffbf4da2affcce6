"""As fast as Python goes here: librdkafka on both sides, a thousand records at a time, one thread.

No framework, no asyncio, no memory, no guard around a transform. ``python -m
benchmarks.streams_limit --data DIR``.
"""

import argparse
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from benchmarks.streams_work import GROUP, WaitingClaims, records_of, wanted_of
from runtime.kafka import client_config, consumer_config
from runtime.lifecycle import settle_memory
from runtime.settings import Settings, load_settings
from schemas.topics import RAW_EVENTS
from streams.decode import decode
from streams.dedupe import source_token

BATCH: Final = 1000
IN_FLIGHT: Final = 8
COMMIT_SECONDS: Final = 1.0


class Batch:
    """Records taken together, until all that came of them is acknowledged."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.left = 0
        self.ends: dict[tuple[str, int], int] = {}
        for message in messages:
            self.ends[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1

    def on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        """Count one delivery report."""
        if error is not None:
            raise SystemExit(f"a record was not acknowledged: {error.str()}")
        self.left -= 1


class Loop:
    """Consume, work, produce; commit what is acknowledged."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.kafka.topic_prefix
        self._consumer = Consumer(consumer_config(settings.kafka, GROUP))
        self._producer = Producer(
            client_config(settings.kafka)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "queue.buffering.max.messages": 500_000,
                "compression.type": "lz4",
            }
        )
        self._claims = WaitingClaims(settings.redis, self._prefix)
        self._under_way: deque[Batch] = deque()
        self._ends: dict[tuple[str, int], int] = {}
        self._committed_at = time.monotonic()

    def run(self) -> None:
        """Until the process is ended."""
        self._consumer.subscribe([self._prefix + RAW_EVENTS])
        while True:
            messages = [
                message for message in self._consumer.consume(BATCH, 0.05) if not message.error()
            ]
            if messages:
                self._under_way.append(self._work(messages))
            self._settle()

    def _work(self, messages: Sequence[Message]) -> Batch:
        batch = Batch(messages)
        tokens = [source_token(m.topic() or "", m.partition() or 0, m.offset() or 0) for m in messages]  # fmt: skip
        raws = [decode(message.value()) for message in messages]
        wanted = [wanted_of(raw, token) for raw, token in zip(raws, tokens, strict=True)]
        holders = self._claims.take(wanted)
        now_ms = int(time.time() * 1000)
        produce, prefix, on_delivery = self._producer.produce, self._prefix, batch.on_delivery
        for raw, token, holder in zip(raws, tokens, holders, strict=True):
            for record in records_of(raw, token, holder, now_ms):
                produce(
                    prefix + record.topic,
                    record.value,
                    record.key,
                    on_delivery=on_delivery,
                    headers=record.headers or None,
                )
                batch.left += 1
            self._producer.poll(0)
        return batch

    def _settle(self) -> None:
        self._producer.poll(0)
        while self._under_way and (not self._under_way[0].left or len(self._under_way) > IN_FLIGHT):
            if self._under_way[0].left:
                self._producer.poll(0.01)
            else:
                self._ends |= self._under_way.popleft().ends
        if self._ends and time.monotonic() - self._committed_at > COMMIT_SECONDS:
            offsets = [TopicPartition(*place, end) for place, end in self._ends.items()]
            self._consumer.commit(offsets=offsets, asynchronous=True)
            self._ends = {}
            self._committed_at = time.monotonic()


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    loop = Loop(load_settings(parser.parse_args().data))
    settle_memory(200_000)
    loop.run()


if __name__ == "__main__":
    main()
