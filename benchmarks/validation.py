"""How long the validation of one event takes: the gateway's whole, its pydantic part, msgspec's."""

import json
import statistics
import timeit
from typing import Final

import orjson

from benchmarks import msgspec_events
from benchmarks.bare import validate
from benchmarks.load import purchase
from schemas.event import Event

EVENTS: Final = 50
ROUNDS: Final = 5


def with_pydantic(body: bytes) -> list[Event]:
    """The events of a body, as the schema alone has them."""
    return [Event.model_validate(event) for event in orjson.loads(body)["events"]]


def measure_validation(*, quick: bool) -> dict[str, float]:
    """Microseconds per event, each way taking its turn in every round."""
    body = json.dumps({"events": [purchase(f"bench-{n:012d}") for n in range(EVENTS)]}).encode()
    repeats = 40 if quick else 400
    ways = {
        "gateway": validate,
        "pydantic": with_pydantic,
        "msgspec": msgspec_events.decode,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            seconds[name].append(timeit.timeit(lambda: way(body), number=repeats))  # noqa: B023 - called at once
    return {
        name: round(statistics.median(taken) / repeats / EVENTS * 1e6, 2)
        for name, taken in seconds.items()
    }
