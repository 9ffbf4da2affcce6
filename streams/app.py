"""The Faust app, with the settings that were measured to lose nothing (docs/adr/0002)."""

import asyncio
import ssl
from typing import Any, Final

import faust

from runtime.settings import KafkaSettings, Settings
from streams.faust_batches import LedgerTransport, batch_scheduler

GROUP: Final = "streams"


def create_app(settings: Settings) -> Any:
    """The app, without agents yet."""
    kafka = settings.kafka
    app = faust.App(
        settings.topic(GROUP),
        broker=[f"kafka://{host}" for host in kafka.bootstrap.split(",")],
        broker_credentials=_credentials(kafka),
        datadir=str(settings.data_dir / "faust"),
        ConsumerScheduler=batch_scheduler(
            settings.streams.batch_records, settings.streams.batch_bytes
        ),
        broker_commit_interval=settings.streams.commit_interval_seconds,
        broker_session_timeout=kafka.session_timeout_seconds,
        broker_heartbeat_interval=kafka.session_timeout_seconds // 3,
        broker_request_timeout=max(40, kafka.session_timeout_seconds),
        broker_max_poll_records=settings.streams.batch_records,
        consumer_auto_offset_reset="earliest",
        producer_acks=-1,
        # In batches, of which Faust's own default would let thousands pile up in memory.
        stream_buffer_maxsize=settings.streams.batches_in_flight,
        stream_wait_empty=True,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
    )
    app.transport = LedgerTransport(app.conf.broker_consumer, app)
    return app


async def stops(app: Any, within_seconds: float) -> bool:
    """Stop the app when what was taken is done; answers whether that was in time.

    Faust takes no cancellation for an answer while it waits for a batch that cannot go on, as when
    Redis is away: then it is left as it is.
    """
    stopping = asyncio.create_task(app.stop())
    done, _ = await asyncio.wait([stopping], timeout=within_seconds)
    for task in done:
        task.result()
    return bool(done)


def _credentials(kafka: KafkaSettings) -> Any:
    if kafka.security_protocol == "plaintext":
        return None
    context = None
    if kafka.security_protocol.endswith("ssl"):
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    if kafka.sasl_mechanism is None or kafka.sasl_password is None:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=kafka.sasl_username,
        password=kafka.sasl_password.get_secret_value(),
        mechanism=kafka.sasl_mechanism,
        ssl_context=context,
    )
