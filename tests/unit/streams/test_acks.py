"""Offsets move in the order of the log, and only over what Kafka has acknowledged."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from streams import faust_batches
from streams.faust_batches import InOrderAcks

PARTITION = ("raw-events", 3)


class FaustApp:
    """What the ledger asks of Faust's app."""

    def __init__(self) -> None:
        self.consumer_generation_id = 1
        self.consumer = SimpleNamespace(next_offsets={})
        self.acknowledged: list[int] = []

    def event(self, offset: int) -> Any:
        """A batch that ends at an offset."""
        message = SimpleNamespace(tp=PARTITION, offset=offset, generation_id=1)
        return SimpleNamespace(message=message, ack=self._ack(offset))

    def _ack(self, offset: int) -> Callable[[], None]:
        return lambda: self.acknowledged.append(offset)

    @property
    def offset(self) -> int | None:
        """What a commit of this moment would name."""
        found: int | None = self.consumer.next_offsets.get(PARTITION)
        return found


async def taken(app: FaustApp, *offsets: int, depth: int = 8) -> list[asyncio.Future[None]]:
    """Take batches; answers the futures of their output."""
    acks = InOrderAcks(app, depth)
    futures = []
    for offset in offsets:
        await acks.wait_for_room()
        futures.append(asyncio.get_running_loop().create_future())
        acks.add(futures[-1], app.event(offset))
    return futures


async def test_no_offset_moves_over_a_batch_that_is_under_way() -> None:
    app = FaustApp()
    first, second, third = await taken(app, 9, 19, 29)
    second.set_result(None)
    await asyncio.sleep(0)
    assert (app.offset, app.acknowledged) == (None, [])
    first.set_result(None)
    await asyncio.sleep(0)
    assert (app.offset, app.acknowledged) == (20, [9, 19])
    third.set_result(None)
    await asyncio.sleep(0)
    assert (app.offset, app.acknowledged) == (30, [9, 19, 29])


async def test_a_partition_that_was_given_away_is_not_committed_for() -> None:
    app = FaustApp()
    (output,) = await taken(app, 9)
    app.consumer_generation_id = 2
    output.set_result(None)
    await asyncio.sleep(0)
    assert (app.offset, app.acknowledged) == (None, [9])


class StoppedError(Exception):
    """The process would have ended."""


@pytest.mark.parametrize("failing", ["cancelled", "refused"])
async def test_output_that_is_not_acknowledged_stops_the_process(
    monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def stop() -> None:
        raise StoppedError

    monkeypatch.setattr(faust_batches, "stop_at_once", stop)
    raised: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: raised.append(context["exception"]))
    app = FaustApp()
    first, second = await taken(app, 9, 19)
    second.set_result(None)
    if failing == "cancelled":
        first.cancel()
    else:
        first.set_exception(OSError("refused"))
    await asyncio.sleep(0)
    assert {type(error) for error in raised} == {StoppedError}
    assert (app.offset, app.acknowledged) == (None, [])


async def test_no_more_batches_are_taken_than_there_is_room_for() -> None:
    app = FaustApp()
    acks = InOrderAcks(app, 2)
    outputs: list[asyncio.Future[None]] = []
    for offset in (9, 19):
        await acks.wait_for_room()
        outputs.append(asyncio.get_running_loop().create_future())
        acks.add(outputs[-1], app.event(offset))
    waiting = asyncio.create_task(acks.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    outputs[0].set_result(None)
    await asyncio.wait_for(waiting, 1)
