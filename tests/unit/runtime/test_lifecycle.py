"""How a process stops, and how it is seen to be alive."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.errors import EXIT_CRASHED
from runtime.lifecycle import Heartbeat, Shutdown, first_of
from tests.unit.runtime.clocks import JumpingClock

PROGRAM = """
import asyncio
from runtime.lifecycle import run_until_shutdown
from runtime.logs import configure_logs
from runtime.settings import LogSettings
configure_logs(LogSettings(), "test")
async def main(shutdown):
    print("ready", flush=True)
    await shutdown.wait()
    print("draining", flush=True)
    await asyncio.sleep({drain})
    print("drained", flush=True)
run_until_shutdown(main)
"""


@contextmanager
def start(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program; it does not outlive the test."""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains_and_the_second_stops_at_once(sign: signal.Signals) -> None:
    with start(PROGRAM.format(drain=3600)) as process:
        assert next_line(process) == "ready"
        process.send_signal(sign)
        assert next_line(process) == "draining"
        process.send_signal(sign)
        assert process.wait(10) == 128 + sign
        assert next_line(process) == ""


def test_a_drain_that_ends_is_no_failure() -> None:
    with start(PROGRAM.format(drain=0)) as process:
        assert next_line(process) == "ready"
        process.terminate()
        assert process.wait(10) == 0


def test_stopping_at_once_runs_nothing_on_the_way_out() -> None:
    program = """
import atexit
from runtime.lifecycle import stop_at_once
atexit.register(print, "flushed")
try:
    stop_at_once()
finally:
    print("cleaned up")
"""
    with start(program) as process:
        assert process.wait(10) == EXIT_CRASHED
        assert next_line(process) == ""


def test_a_feed_that_cannot_go_on_ends_its_process() -> None:
    program = """
import asyncio
from runtime.config_feed import ConfigFeed
from runtime.settings import KafkaSettings, Settings
async def main():
    feed = ConfigFeed(Settings(kafka=KafkaSettings(bootstrap="a:1", ssl_ca_file="/nowhere",
                                                   security_protocol="ssl")))
    feed.start()
    await feed.wait_until_caught_up()
asyncio.run(main())
"""
    with start(program) as process:
        assert process.wait(20) == EXIT_CRASHED


async def test_a_drain_can_be_asked_for_from_inside() -> None:
    shutdown = Shutdown()
    assert not shutdown.is_asked
    shutdown.ask()
    await shutdown.wait()
    assert shutdown.is_asked


async def test_first_of_waits_for_one_and_cancels_the_other_waits() -> None:
    kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    await first_of(asyncio.sleep(0), forever(), kept)
    await asyncio.wait_for(ended.wait(), 1)
    assert not kept.cancelled()


def test_a_heart_that_never_beat_has_no_age(tmp_path: Path) -> None:
    assert Heartbeat(tmp_path, "sinks").age_seconds(JumpingClock()) is None


def test_the_age_of_a_heartbeat(tmp_path: Path) -> None:
    heart = Heartbeat(tmp_path / "new", "sinks")
    heart.beat()
    os.utime(tmp_path / "new" / "sinks.heartbeat", (1000, 1000))
    assert heart.age_seconds(JumpingClock(1_020_000)) == 20


async def test_a_heart_beats_while_its_loop_runs(tmp_path: Path) -> None:
    clock = JumpingClock()
    heart = asyncio.create_task(Heartbeat(tmp_path, "sinks").keep_beating(clock))
    while len(clock.slept) < 3:
        await asyncio.sleep(0)
    heart.cancel()
    assert set(clock.slept) == {Heartbeat.INTERVAL_SECONDS}
    assert (tmp_path / "sinks.heartbeat").exists()
