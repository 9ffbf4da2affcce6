"""The same work in Quix Streams, which hands over one record at a time.

It runs in an environment of its own (``benchmarks.quix_home``), for Quix holds librdkafka's client
below the version that we need. ``python -m benchmarks.streams_quix --data DIR``.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from quixstreams import (  # type: ignore[import-not-found] # as the next
    Application,
    message_context,
)
from quixstreams.models import (  # type: ignore[import-not-found] # not where types are checked
    Serializer,
)
from typing_extensions import override

from benchmarks.streams_work import FED, GROUP, WaitingClaims, records_of, wanted_of
from runtime.settings import Settings, load_settings
from schemas.record import Record
from schemas.topics import AUDIT, RAW_EVENTS, deliveries
from streams.decode import decode
from streams.dedupe import source_token


class RecordValue(Serializer):  # type: ignore[misc] # the same
    """The bytes of a record that is made already."""

    @override
    def __call__(self, value: Record, ctx: Any) -> bytes | None:
        return value.value


def _now_ms() -> int:
    return int(time.time() * 1000)


def create_app(settings: Settings) -> Any:
    """The application with its one dataframe."""
    kafka = settings.kafka
    app = Application(
        broker_address=kafka.bootstrap,
        consumer_group=settings.topic(GROUP),
        auto_offset_reset="earliest",
        commit_interval=1.0,
        consumer_extra_config={
            "session.timeout.ms": kafka.session_timeout_seconds * 1000,
            "heartbeat.interval.ms": kafka.session_timeout_seconds * 1000 // 3,
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 100,
        },
        producer_extra_config={
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
            "compression.type": "lz4",
        },
        state_dir=settings.data_dir / "quix",
        auto_create_topics=False,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    claims = WaitingClaims(settings.redis, kafka.topic_prefix)
    outputs = {
        name: app.topic(settings.topic(name), key_serializer="bytes", value_serializer=RecordValue())
        for name in (*map(deliveries, FED), AUDIT)
    }  # fmt: skip

    def work(value: bytes) -> list[Record]:
        place = message_context()
        token = source_token(place.topic, place.partition, place.offset)
        raw = decode(value)
        (holder,) = claims.take([wanted_of(raw, token)])
        return records_of(raw, token, holder, _now_ms())

    source = app.topic(
        settings.topic(RAW_EVENTS), key_deserializer="bytes", value_deserializer="bytes"
    )
    frame = app.dataframe(source).apply(work, expand=True)
    frame = frame.set_headers(lambda record, *_: record.headers)
    frame = frame.set_timestamp(lambda *_: _now_ms())
    frame.to_topic(lambda record, *_: outputs[record.topic], key=lambda record: record.key)
    return app


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    create_app(load_settings(parser.parse_args().data)).run()


if __name__ == "__main__":
    main()
