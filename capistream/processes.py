"""Commands that run: the whole stack, or one of its processes.

Each command imports its stage itself: a process loads only what it runs, and ``--help`` nothing.
"""

import asyncio
import sys
from enum import StrEnum
from typing import Annotated

import typer

from capistream import output
from capistream.changes import given
from capistream.options import AsJson, DataDir, LogsAsJson, settings_for
from runtime.clock import SystemClock
from runtime.errors import CapistreamError, ConfigError
from runtime.lifecycle import Heartbeat, Shutdown, first_of, run_until_shutdown
from runtime.settings import Settings


class ProcessName(StrEnum):
    """The processes that beat."""

    GATEWAY = "gateway"
    STREAMS = "streams"
    SINKS = "sinks"
    AUDIT = "audit"
    MANAGE = "manage"


def up(
    data: DataDir = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="Start a Kafka protocol broker and a Valkey (both in memory), SQLite and the "
            "sandbox too.",
        ),
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The gateway's port; 0: any free one.")
    ] = None,
    manage_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The management API's port; 0, or with --embedded: any free one."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole stack in one command, until a signal."""
    from capistream.stack import Stack

    settings = settings_for("up", data, as_json)

    async def serve(shutdown: Shutdown) -> None:
        async with Stack(
            settings.data_dir, SystemClock(), embedded=embedded, port=port, manage_port=manage_port
        ) as stack:
            output.print_fields(stack.describe(), as_json=as_json)
            await first_of(shutdown.wait(), stack.failed)
            if stack.failed.done():
                raise CapistreamError(stack.failed.result())

    run_until_shutdown(serve)


def gateway(
    data: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Processes that share the port.")
    ] = None,
    as_json: LogsAsJson = False,
) -> None:
    """Take events over HTTP and put them on raw-events."""
    settings = settings_for("gateway", data, as_json)
    changes = given(host=host, port=port, workers=workers)
    section = settings.gateway.model_copy(update=changes)
    settings = settings.model_copy(update={"gateway": section})
    if section.workers > 1:
        run_until_shutdown(lambda shutdown: _run_gateways(settings, shutdown))
        return
    from ingest.gateway import run_gateway

    run_until_shutdown(lambda shutdown: run_gateway(settings, shutdown))


async def _run_gateways(settings: Settings, shutdown: Shutdown) -> None:
    """Several gateways on one port; the kernel spreads the connections."""
    from capistream.supervisor import Child, Supervisor

    section = settings.gateway
    if section.port == 0:
        raise ConfigError("several workers need a port to share: name one with --port")
    command = [sys.executable, "-m", "capistream", "gateway", "--data", str(settings.data_dir)]
    command += ["--host", section.host, "--port", str(section.port), "--workers", "1"]
    supervisor = Supervisor(SystemClock())
    for number in range(section.workers):
        await supervisor.start(Child(f"gateway {number + 1}", command))
    await first_of(shutdown.wait(), supervisor.failed)
    await supervisor.stop_together()
    if supervisor.failed.done():
        raise CapistreamError(supervisor.failed.result())


def streams(data: DataDir = None, as_json: LogsAsJson = False) -> None:
    """Dedupe, enrich and route raw events into deliveries."""
    from streams.worker import run_streams

    settings = settings_for("streams", data, as_json)
    run_until_shutdown(lambda shutdown: run_streams(settings, shutdown))


def sinks(
    data: DataDir = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="Only this one; may be repeated. [default: all]", show_default=False),
    ] = None,
    as_json: LogsAsJson = False,
) -> None:
    """Post deliveries to the ad platforms and record their outcomes."""
    from platforms.registry import PLATFORMS
    from sinks.worker import run_sinks

    settings = settings_for("sinks", data, as_json)
    unknown = sorted({*(platform or ()), *settings.platforms} - PLATFORMS.keys())
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a platform; there are {', '.join(PLATFORMS)}")
    slugs = platform or list(PLATFORMS)
    run_until_shutdown(lambda shutdown: run_sinks(settings, shutdown, slugs))


def audit(data: DataDir = None, as_json: LogsAsJson = False) -> None:
    """Read outcomes and keep what became of each event, and of the keys that shops' servers ask
    for."""
    from audit.worker import run_audit

    settings = settings_for("audit", data, as_json)
    run_until_shutdown(lambda shutdown: run_audit(settings, shutdown))


def audit_rebuild(data: DataDir = None, as_json: AsJson = False) -> None:
    """Empty the event log and make it anew from the audit topic, beside whatever runs."""
    from audit.rebuild import rebuild

    settings = settings_for("audit-rebuild", data)
    with output.progress(as_json=as_json) as show:
        records = asyncio.run(rebuild(settings, lambda count: show(f"{count} records")))
    output.print_fields({"records": records}, as_json=as_json)


def manage(
    data: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    as_json: LogsAsJson = False,
) -> None:
    """Serve the management API, and keep Kafka's configuration as the database says."""
    from audit.log import open_log
    from manage.worker import run_manage

    settings = settings_for("manage", data, as_json)
    changes = given(host=host, port=port)
    section = settings.manage.model_copy(update=changes)
    settings = settings.model_copy(update={"manage": section})
    run_until_shutdown(lambda shutdown: run_manage(settings, shutdown, open_log))


def sandbox(
    data: DataDir = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 9700,
    as_json: LogsAsJson = False,
) -> None:
    """Stand in for the ad platforms' APIs: strict, recording, and able to misbehave."""
    from runtime.http_server import serving
    from sandbox.app import create_app

    settings_for("sandbox", data, as_json)
    clock = SystemClock()

    async def serve(shutdown: Shutdown) -> None:
        application = create_app(now=lambda: clock.now_ms() / 1000, sleep=clock.sleep)
        async with serving(application, host, port):
            await shutdown.wait()

    run_until_shutdown(serve)


def health(
    process: Annotated[ProcessName, typer.Argument(help="Which process.")],
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether a process of this data directory makes progress; exits 1 when it does not."""
    settings = settings_for("health", data)
    age = Heartbeat(settings.data_dir, process).age_seconds(SystemClock())
    alive = age is not None and age < Heartbeat.STALE_SECONDS
    output.print_fields(
        {"process": process, "alive": alive, "lastBeatSeconds": None if age is None else round(age)},
        as_json=as_json,
    )  # fmt: skip
    if not alive:
        raise typer.Exit(1)
