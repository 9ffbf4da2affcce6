"""The demo: a shop that feeds every platform, a file of events, and what became of each."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.table import Table

from audit.read import read_outcomes
from capistream import output
from capistream.options import settings_for
from capistream.send import bring_to_now, read_events, read_file, send_events
from capistream.stack import Stack
from manage.publish import publish
from platforms.registry import PLATFORMS
from runtime.clock import Clock, SystemClock
from runtime.errors import CapistreamError
from runtime.lifecycle import Shutdown
from runtime.settings import Settings
from runtime.vault import DomainTokens
from schemas.config import DomainConfig
from schemas.outcome import Outcome

EVENTS_FILE: Final = Path(__file__).parent.parent / "examples" / "events.json"
HOST: Final = "shop.example"
OUTCOME_SECONDS: Final = 60.0


async def run_demo(
    shutdown: Shutdown, *, keep: bool, port: int, data: Path | None, as_json: bool
) -> None:
    """Start, send, wait for every outcome, show them, stop.

    Raises ``CapistreamError`` when an event is left without its outcomes.
    """
    with ExitStack() as cleanup:
        directory = data or Path(
            cleanup.enter_context(tempfile.TemporaryDirectory(prefix="capistream-demo-"))
        )
        settings_for("demo", directory)
        clock = SystemClock()
        say = _silent if as_json else output.console.print
        say("Starting Kafka, Valkey, the sandbox, gateway, streams, sinks and audit …")
        # Whom the demo is over for has nothing to manage.
        async with Stack(
            directory, clock, embedded=True, port=port, manages=keep, quiet=True
        ) as stack:
            domain, token = await register_demo_shop(stack)
            events = bring_to_now(read_events(read_file(str(EVENTS_FILE))), clock.now_ms() // 1000)
            say(f"Sending {len(events)} events as {HOST} to {stack.gateway_url} …")
            sent = await send_events(
                events, url=stack.gateway_url, host=HOST, token=token, clock=clock
            )
            expected = len(events) * len(domain.destinations)
            say(f"Waiting for {expected} outcomes …\n")
            outcomes = await _collect(stack.settings, expected, shutdown, clock)
            received = await _received(stack)
            if as_json:
                _print_json(events, sent.event_ids, outcomes, received)
            else:
                output.console.print(_outcome_table(events, sent.event_ids, outcomes))
                output.console.print(_received_table(received))
            if (told := _fates(outcomes)) < expected:
                raise CapistreamError(f"only {told} of {expected} outcomes came")
            if keep:
                output.print_fields(
                    stack.describe() | {"host": HOST, "domainToken": token}, as_json=as_json
                )
                say("\nRunning until Ctrl-C.")
                await shutdown.wait()


async def register_demo_shop(stack: Stack) -> tuple[DomainConfig, str]:
    """The demo shop, with one destination per platform, all pointing at the sandbox."""
    store = stack.store()
    try:
        found = [config for config in await store.configs() if config.host == HOST]
        if not found:
            added = await store.add_domain(HOST, "Demo", {"defaultCountry": "DE"})
            found = [added.config]
        (config,) = found
        for slug, platform in PLATFORMS.items():
            fields = {"access_token": f"demo-token-of-{slug}", "pixel_id": f"demo{slug}1"}
            if platform.Credentials.account_field == "ad_account_id":
                fields["ad_account_id"] = "549755885175"
            changed = await store.set_destination(HOST, slug, fields)
            config = changed.config
    finally:
        await store.close()
    await publish(stack.settings, [config])
    tokens = DomainTokens(stack.settings.tokens)
    return config, tokens.issue(config.domain_id, config.token_generation)


async def _collect(
    settings: Settings, expected: int, shutdown: Shutdown, clock: Clock
) -> list[Outcome]:
    """Final outcomes, until there are as many as expected or the time is over."""
    deadline = clock.monotonic() + OUTCOME_SECONDS

    def should_stop() -> bool:
        return shutdown.is_asked or clock.monotonic() > deadline

    def read() -> list[Outcome]:
        found: list[Outcome] = []
        for outcome in read_outcomes(settings, follow=True, should_stop=should_stop):
            if outcome.outcome.is_final:
                found.append(outcome)
            if _fates(found) >= expected:
                break
        return found

    return await asyncio.to_thread(read)


async def _received(stack: Stack) -> Mapping[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stack.sandbox_url}/_sandbox/stats") as answer,
    ):
        found: Mapping[str, Any] = await answer.json()
        return found


def _rows(event_ids: Sequence[str], outcomes: Sequence[Outcome]) -> list[dict[str, Outcome]]:
    """For each event sent, its outcome by platform. An id that was sent twice has two rows: the
    record that lies first in the log is the one that was sent first."""
    by_record: dict[str, dict[str, dict[str, Outcome]]] = defaultdict(lambda: defaultdict(dict))
    for outcome in outcomes:
        row = by_record[outcome.event_id][outcome.source]
        row.update(dict.fromkeys(_platforms_of(outcome), outcome))
    queues = {
        event_id: iter(
            found for _, found in sorted(records.items(), key=lambda item: _offset(item[0]))
        )
        for event_id, records in by_record.items()
    }
    return [next(queues.get(event_id, iter(())), {}) for event_id in event_ids]


def _platforms_of(outcome: Outcome) -> Collection[str]:
    """Slugs of the platforms that it speaks of: that of an event as a whole, of all."""
    return PLATFORMS if outcome.platform is None else (outcome.platform,)


def _fates(outcomes: Sequence[Outcome]) -> int:
    """For how many deliveries these outcomes stand."""
    return sum(len(_platforms_of(outcome)) for outcome in outcomes)


def _offset(source: str) -> int:
    return int(source.rpartition("-")[2])


def _outcome_table(
    events: Sequence[Mapping[str, Any]], event_ids: Sequence[str], outcomes: Sequence[Outcome]
) -> Table:
    table = Table(title="What became of each event", title_justify="left")
    table.add_column("event", no_wrap=True)
    for platform in PLATFORMS.values():
        table.add_column(platform.NAME)
    for event, event_id, row in zip(events, event_ids, _rows(event_ids, outcomes), strict=True):
        cells = [output.fate_text(row[slug]) if slug in row else "-" for slug in PLATFORMS]
        table.add_row(f"{event['eventName']}\n[dim]{event_id[:28]}[/]", *cells)
    return table


def _received_table(stats: Mapping[str, Any]) -> Table:
    table = Table(title="What the platforms received", title_justify="left")
    for column in ("platform", "requests", "events accepted", "in refused requests", "repeated"):
        table.add_column(column, justify="left" if column == "platform" else "right")
    for slug, platform in PLATFORMS.items():
        found = stats["platforms"].get(slug, {})
        table.add_row(
            platform.NAME,
            *(str(found.get(key, 0)) for key in ("requests", "accepted", "refused", "duplicates")),
        )
    return table


def _print_json(
    events: Sequence[Mapping[str, Any]],
    event_ids: Sequence[str],
    outcomes: Sequence[Outcome],
    received: Mapping[str, Any],
) -> None:
    rows = [
        {
            "eventId": event_id,
            "eventName": event["eventName"],
            "outcomes": {
                slug: outcome.model_dump(mode="json", exclude_none=True)
                for slug, outcome in row.items()
            },
        }
        for event, event_id, row in zip(events, event_ids, _rows(event_ids, outcomes), strict=True)
    ]
    output.print_json({"events": rows, "received": received}, indent=True)


def _silent(_: str) -> None:
    """Says nothing: standard output is for the JSON document."""
