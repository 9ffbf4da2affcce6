"""The whole road on the embedded stack: how fast events are taken, and how fast they arrive.

One machine runs everything, the load and the platforms' stand-ins included, so the figures say how
the parts relate and not what a cluster does.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

from audit.read import read_outcomes
from benchmarks.command import run_benchmark
from capistream.demo import HOST, register_demo_shop
from capistream.stack import Stack
from platforms.registry import PLATFORMS
from runtime.clock import SystemClock

EVENTS_PER_REQUEST = 50
CONNECTIONS = 8
OUTCOME_SECONDS = 120.0


def purchase(number: int) -> dict[str, Any]:
    """A purchase like the first one of a browser session, with an id of its own."""
    return {
        "eventId": f"bench-{number}",
        "eventName": "Purchase",
        "eventTime": int(time.time()),
        "eventSourceUrl": "https://shop.example/thanks",
        "userData": {
            "email": f"customer{number}@example.com",
            "ipAddress": "203.0.113.7",
            "userAgent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0",
            "fbp": "fb.1.1767222000000.1234567890",
            "kwaiClickId": f"click{number}",
        },
        "customData": {
            "currency": "EUR",
            "value": 49.99,
            "orderId": f"T-{number}",
            "contents": [{"id": "SKU-1", "quantity": 2, "price": 24.995}],
        },
    }


async def post_all(url: str, token: str, count: int) -> list[float]:
    """Post ``count`` events over a few connections; answers each request's seconds."""
    bodies = iter(
        [
            json.dumps(
                {"events": [purchase(n) for n in range(first, min(first + EVENTS_PER_REQUEST, count))]}
            ).encode()
            for first in range(0, count, EVENTS_PER_REQUEST)
        ]
    )  # fmt: skip
    headers = {"Host": HOST, "X-SSP-Token": token, "Content-Type": "application/json"}
    seconds: list[float] = []

    async def connection(session: aiohttp.ClientSession) -> None:
        for body in bodies:
            started = time.perf_counter()
            async with session.post(f"{url}/v1/events", data=body) as answer:
                assert answer.status == 200, await answer.text()  # noqa: S101 - a broken run must not count
            seconds.append(time.perf_counter() - started)

    async with aiohttp.ClientSession(headers=headers) as session:
        await asyncio.gather(*(connection(session) for _ in range(CONNECTIONS)))
    return seconds


def collect(stack: Stack, expected: int) -> list[int]:
    """Milliseconds from receipt to final outcome, of every delivery."""
    deadline = time.monotonic() + OUTCOME_SECONDS
    taken: list[int] = []
    for outcome in read_outcomes(
        stack.settings, follow=True, should_stop=lambda: time.monotonic() > deadline
    ):
        if outcome.outcome.is_final:
            taken.append(outcome.at - outcome.received_at)
        if len(taken) == expected:
            return taken
    raise SystemExit(f"only {len(taken)} of {expected} outcomes came in {OUTCOME_SECONDS:g} s")


async def measure(count: int) -> dict[str, dict[str, float]]:
    """One run."""
    with tempfile.TemporaryDirectory(prefix="capistream-bench-") as directory:
        async with Stack(
            Path(directory), SystemClock(), embedded=True, port=0, quiet=True
        ) as stack:
            config, token = await register_demo_shop(stack)
            async with aiohttp.ClientSession() as session:
                await _until_known(session, stack.gateway_url, token)
                started = time.perf_counter()
                requests = await post_all(stack.gateway_url, token, count)
                accepted = time.perf_counter() - started
                expected = count * len(config.destinations)
                lags = await asyncio.to_thread(collect, stack, expected)
                finished = time.perf_counter() - started
                async with session.get(f"{stack.sandbox_url}/_sandbox/stats") as answer:
                    posts = (await answer.json())["requests"]
    percentiles = statistics.quantiles(lags, n=100)
    return {
        "figures": {
            "events": count,
            "accepted_events_per_second": round(count / accepted, 1),
            "request_seconds_median": round(statistics.median(requests), 4),
            "deliveries_per_second": round(expected / finished, 1),
            "receipt_to_outcome_ms_p50": round(percentiles[49], 1),
            "receipt_to_outcome_ms_p99": round(percentiles[98], 1),
        },
        "ratios": {
            "deliveries_per_platform_request": round(expected / posts, 1),
            "outcome_time_vs_accept_time": round(finished / accepted, 2),
        },
    }


async def _until_known(session: aiohttp.ClientSession, url: str, token: str) -> None:
    headers = {"Host": HOST, "X-SSP-Token": token, "Content-Type": "application/json"}
    for _ in range(100):
        async with session.post(f"{url}/v1/events", headers=headers, data=b"{}") as answer:
            if answer.status == 400:
                return
        await asyncio.sleep(0.1)
    raise SystemExit("the gateway does not know the shop")


def _print_groups(found: dict[str, Any]) -> None:
    for group, values in found.items():
        print(group)
        for name, value in values.items():
            print(f"  {name:<34} {value:>12,}" + (f"  of {len(PLATFORMS)} platforms" if name == "deliveries_per_second" else ""))  # fmt: skip


def main() -> None:
    """Read the options, measure, print."""
    os.environ["CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE"] = "0"  # one client sends it all
    run_benchmark(
        __doc__,
        "a tenth of the events",
        lambda quick: measure(2_000 if quick else 20_000),
        _print_groups,
    )


if __name__ == "__main__":
    main()
