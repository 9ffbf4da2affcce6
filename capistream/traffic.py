"""Commands that move events: send some, see what became of them, drive them again, watch it all in
the demo.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from capistream import output
from capistream.options import AsJson, DataDir, settings_for
from runtime.clock import SystemClock
from runtime.errors import CapistreamError
from runtime.ids import new_id
from runtime.lifecycle import Shutdown, run_until_shutdown
from runtime.settings import Settings
from runtime.vault import DomainTokens
from schemas.config import DomainConfig


def send(
    file: Annotated[str, typer.Argument(help="A JSON file of events; - for standard input.")],
    host: Annotated[
        str | None,
        typer.Option(help="Send as this shop. [default: the only domain]", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(help="The domain token. [default: from the store]", show_default=False),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="The gateway. [default: the running stack's]", show_default=False),
    ] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Move the events in time so that the newest is of now.")
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Post events from a file to a gateway."""
    from capistream.send import bring_to_now, read_events, read_file, send_events

    settings = settings_for("send", data)
    clock = SystemClock()
    events = read_events(read_file(file))
    if now:
        events = bring_to_now(events, clock.now_ms() // 1000)

    async def post() -> None:
        shop, secret = host, token
        if shop is None or secret is None:
            domain = await configured_domain(settings, host)
            shop = domain.host
            secret = DomainTokens(settings.tokens).issue(domain.domain_id, domain.token_generation)
        gateway = url or f"http://{settings.gateway.host}:{settings.gateway.port}"
        sent = await send_events(events, url=gateway, host=shop, token=secret, clock=clock)
        output.print_fields(
            {"accepted": len(sent.event_ids), "eventIds": sent.event_ids, "warnings": sent.warnings}
            if as_json
            else {"accepted": len(sent.event_ids)}
            | {f"warning {n}": text for n, text in enumerate(sent.warnings, 1)},
            as_json=as_json,
        )

    asyncio.run(post())


async def configured_domain(settings: Settings, host: str | None) -> DomainConfig:
    """The domain of ``host``; without one, the only domain there is.

    Raises ``CapistreamError``.
    """
    from capistream.stack import open_store

    store = open_store(settings, SystemClock())
    try:
        await store.upgrade()
        configs = await store.configs()
    finally:
        await store.close()
    found = [config for config in configs if host is None or config.host == host.lower()]
    if len(found) == 1:
        return found[0]
    if host is not None:
        raise CapistreamError(f"{host} is not configured; add it with `capistream domain add`")
    if not found:
        raise CapistreamError("no domain is configured; add one with `capistream domain add`")
    hosts = ", ".join(config.host for config in found)
    raise CapistreamError(f"there are several domains, say which with --host: {hosts}")


def outcomes(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes.")] = False,
    domain: Annotated[
        str | None, typer.Option(help="Only of this domain: its host or its id.")
    ] = None,
    event_id: Annotated[str | None, typer.Option(help="Only of this event.")] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read the audit topic: what became of each delivery."""
    from audit.read import read_outcomes

    settings = settings_for("outcomes", data)
    wanted = asyncio.run(domain_id_of(settings, domain)) if domain else None
    try:
        for outcome in read_outcomes(settings, follow=follow):
            if wanted not in (None, outcome.domain_id) or event_id not in (None, outcome.event_id):
                continue
            output.print_outcome(outcome, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def alerts(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes.")] = False,
    domain: Annotated[
        str | None, typer.Option(help="Only of this domain: its host or its id.")
    ] = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read the audit topic: which destinations somebody has to mend."""
    from audit.read import read_alerts

    settings = settings_for("alerts", data)
    wanted = asyncio.run(domain_id_of(settings, domain)) if domain else None
    try:
        for alert in read_alerts(settings, follow=follow):
            if wanted in (None, alert.domain_id):
                output.print_alert(alert, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def domain_id_of(settings: Settings, domain: str) -> str:
    """The id of a domain that is named by its host or its id. An id is taken as it is: records may
    be left of a domain that was removed.

    Raises ``CapistreamError``.
    """
    if domain.startswith("dom_"):
        return domain
    return (await configured_domain(settings, domain)).domain_id


def replay(
    host: Annotated[str, typer.Argument(help="The shop whose events are driven again.")],
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Received at this time or later: ISO 8601, Unix seconds, or 2h or 3d ago. "
            "[default: all that Kafka holds]",
            show_default=False,
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--to", help="Received before this time. [default: now]", show_default=False),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--event", help="Only events of this name; may be repeated."),
    ] = None,
    event_ids: Annotated[
        list[str] | None,
        typer.Option("--event-id", help="Only the event of this id; may be repeated."),
    ] = None,
    destinations: Annotated[
        list[str] | None,
        typer.Option(
            "--destination",
            help="Only to this one, by its id or its platform; may be repeated. [default: all]",
            show_default=False,
        ),
    ] = None,
    include_withheld: Annotated[
        bool,
        typer.Option("--include-withheld", help="Also events that were withheld as a program's."),
    ] = False,
    rate: Annotated[int, typer.Option(min=1, help="Events per second, at most.")] = 500,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be driven again.")
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Drive events of raw-events again, to all or some destinations; Ctrl-C stops it."""
    from capistream.replay import Picker, Wanted, pick_destinations, read_moment, run_replay

    settings = settings_for("replay", data)
    clock = SystemClock()
    now_ms = clock.now_ms()
    from_ms = 0 if since is None else read_moment(since, now_ms)
    to_ms = now_ms if until is None else read_moment(until, now_ms)

    async def drive(shutdown: Shutdown) -> None:
        domain = await configured_domain(settings, host)
        picker = Picker(
            Wanted(domain.domain_id, from_ms, to_ms, tuple(names or ()), tuple(event_ids or ())),
            replay_id=new_id("rpl"),
            destination_ids=pick_destinations(domain, destinations or ()),
            include_withheld=include_withheld,
        )
        with output.progress(as_json=as_json) as tell:
            await run_replay(
                settings,
                picker,
                shutdown,
                clock,
                per_second=rate,
                dry_run=dry_run,
                tell=lambda far: tell(
                    f"{far.scanned} read, {far.found} found, {far.replayed} sent"
                ),
            )
        output.print_fields(picker.summary(domain, stopped=shutdown.is_asked), as_json=as_json)

    run_until_shutdown(drive)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Stay up afterwards and print the addresses.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The gateway's port; 0: any free one.")
    ] = 0,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Directory of state. [default: a new one]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole road once on the embedded stack and show what became of each event."""
    from capistream.demo import run_demo

    run_until_shutdown(
        lambda shutdown: run_demo(shutdown, keep=keep, port=port, data=data, as_json=as_json)
    )
