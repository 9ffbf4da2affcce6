"""A Faust agent as its manual shows one: an event at a time, with Faust's own producer.

It acknowledges by itself, and loses events when a transform raises (docs/adr/0002): it stands here
for what it costs. ``python -m benchmarks.streams_naive --data DIR``.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import faust

from benchmarks.streams_work import FED, GROUP, records_of, wanted_of
from runtime.clock import SystemClock
from runtime.redis import connect
from runtime.settings import Settings, load_settings
from schemas.topics import AUDIT, RAW_EVENTS, deliveries
from streams.claims import Claims
from streams.decode import decode
from streams.dedupe import source_token


def create_app(settings: Settings) -> Any:
    """The app with its one agent."""
    kafka = settings.kafka
    app = faust.App(
        settings.topic(GROUP),
        broker=f"kafka://{kafka.bootstrap}",
        datadir=str(settings.data_dir / "faust"),
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds // 3,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )

    def topic(name: str) -> Any:
        return app.topic(settings.topic(name), key_serializer="raw", value_serializer="raw")

    outputs = {name: topic(name) for name in (*map(deliveries, FED), AUDIT)}

    @app.agent(topic(RAW_EVENTS))  # type: ignore[untyped-decorator] # Faust's
    async def work(stream: Any) -> None:
        claims = Claims(connect(settings.redis), SystemClock(), kafka.topic_prefix)
        async for event in stream.events():
            message = event.message
            token = source_token(message.topic, message.partition, message.offset)
            raw = decode(event.value)
            (holder,) = await claims.take([wanted_of(raw, token)])
            for record in records_of(raw, token, holder, int(time.time() * 1000)):
                await outputs[record.topic].send(
                    key=record.key, value=record.value, headers=record.headers
                )

    return app


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    app = create_app(load_settings(parser.parse_args().data))
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main()
