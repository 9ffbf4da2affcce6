"""What each step of the streams stage costs an event."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import orjson

from benchmarks.streams_work import SHOP, raw_record, records_of, wanted_of
from platforms.registry import PLATFORMS
from runtime.producer import RecordProducer
from runtime.settings import Settings
from schemas.delivery import Delivery
from schemas.raw_event import RawEvent
from schemas.record import Record
from streams.decode import decode
from streams.dedupe import source_token
from streams.enrich import enrich
from streams.remember import ask
from streams.route import route

_TOPIC: Final = "raw-events"
_BATCH: Final = 100
_PASSES: Final = 6


class Laps:
    """Seconds by step, of one event after the other."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._since = 0.0

    def start(self) -> None:
        """From here on."""
        self._since = time.perf_counter()

    def end(self, step: str) -> None:
        """Everything since the start or the last end was this step."""
        now = time.perf_counter()
        self.seconds[step] += now - self._since
        self._since = time.perf_counter()


def measure_transforms(count: int) -> dict[str, float]:
    """Step → microseconds of an event, the least of some passes over ``count`` events each.

    The events are taken through all steps one after the other, so that what is remembered from one
    step or event to the next (a phone number that was read, a hash) is remembered here too.
    """
    now_ms = time.time_ns() // 1_000_000
    passes = []
    for first in range(0, _PASSES * count, count):
        laps = Laps()
        for number in range(first, first + count):
            _take_through(laps, raw_record(number, now_ms, "steps")[1], number)
        passes.append(laps.seconds)
    return {step: min(one[step] for one in passes) / count * 1e6 for step in passes[0]}


def _take_through(laps: Laps, value: bytes, number: int) -> None:
    laps.start()
    raw = decode(value)
    laps.end("decode")
    token = source_token(_TOPIC, number % 12, number)
    wanted_of(raw, token)
    laps.end("claim text")
    ask(raw, SHOP, token)
    laps.end("ask memory")
    if raw.event is None:
        raise AssertionError  # every event here is a canonical one
    event = enrich(raw.event, SHOP)
    laps.end("enrich")
    for destination in SHOP.destinations:
        payload = orjson.dumps(route(raw, event, destination, PLATFORMS[destination.platform]))
        laps.end(f"payload {destination.platform}")
        _record(raw, destination.id, destination.platform, token, payload)
        laps.end("records")


def _record(
    raw: RawEvent, destination_id: str, platform: str, token: str, payload: bytes
) -> Record:
    return Delivery(
        domain_id=raw.domain_id,
        destination_id=destination_id,
        platform=platform,
        event_id=raw.said.event_id,
        event_name=raw.event_name,
        event_time=raw.said.event_time,
        received_at=raw.received_at,
        source=token,
    ).to_record(payload)


async def measure_produce(settings: Settings, count: int) -> dict[str, float]:
    """The same for handing an event's records to librdkafka and for their delivery reports, both on
    the loop's thread, and for what librdkafka's own threads do meanwhile."""
    now_ms = time.time_ns() // 1_000_000
    raws = [decode(raw_record(number, now_ms, "steps")[1]) for number in range(count)]
    made = [
        records_of(raw, source_token(_TOPIC, number % 12, number), None, now_ms)
        for number, raw in enumerate(raws)
    ]
    batches = [
        [record for records in made[first : first + _BATCH] for record in records]
        for first in range(0, count, _BATCH)
    ]
    producer = RecordProducer(settings.kafka, delivery_timeout_seconds=30.0)
    await _produce(producer, batches[:1])  # what is connected and allocated once
    process, thread = time.process_time(), time.thread_time()
    calls = await _produce(producer, batches)
    own = time.thread_time() - thread
    others = time.process_time() - process - own
    await producer.close(30.0)
    found = {
        "produce calls": calls,
        "delivery reports": own - calls,
        "librdkafka's threads": others,
    }
    return {step: seconds / count * 1e6 for step, seconds in found.items()}


async def _produce(producer: RecordProducer, batches: Sequence[Sequence[Record]]) -> float:
    """Processor seconds of the calls alone."""
    waiting: list[asyncio.Future[Any]] = []
    calls = 0.0
    for batch in batches:
        started = time.thread_time()
        waiting.append(producer.produce(batch))
        calls += time.thread_time() - started
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    return calls
