"""The OpenAPI document is held against a running gateway, as a user would do it."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.parts import Door, beside, gateway, until_known
from tests.integration.system import System

IS_NIGHT: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES: Final = 2000 if IS_NIGHT else 20
RUN_SECONDS: Final = 1500 if IS_NIGHT else 120
TAKING: Final = ("/v1/events", "/v1/pmw-events", "/v1/sync/purchase-events")


@pytest.fixture
def door(system: System) -> Iterator[Door]:
    """A gateway of the test's own that writes to a log of its own, where nobody reads."""
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    apart = beside(system, CAPISTREAM_KAFKA__TOPIC_PREFIX=f"{prefix}openapi-")
    apart.cli("topics", "apply")
    with gateway(apart, CAPISTREAM_GATEWAY__REQUESTS_PER_MINUTE="0") as opened:
        yield opened


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_the_gateway_does_what_its_document_says(door: Door, tmp_path: Path) -> None:
    shop = door.system.make_shop("openapi")
    until_known(shop)

    recorded = tmp_path / "run.har"
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{door.system.description['gateway']}/openapi.json"),
            *("--header", f"Host: {shop.host}"),
            *("--header", f"X-SSP-Token: {shop.token}"),
            *("--header", f"Authorization: Bearer {shop.sync_token}"),
            *("--max-examples", str(EXAMPLES), "--seed", "20261121"),
            *("--generation-database", "none", "--no-color"),
            *("--output-sanitize", "false", "--report-har-path", str(recorded)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )

    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    exchanges = _exchanges(recorded)
    statuses = Counter((path, status) for path, status, _ in exchanges)
    assert [found for found in statuses if found[1] >= 500] == []
    for path in TAKING:
        assert statuses[path, 200] > 20, statuses
        assert statuses[path, 400] > 20, statuses
    taken = [
        event_id
        for path, status, answer in exchanges
        if path in TAKING and status == 200 and not json.loads(answer).get("alreadyAccepted")
        for event_id in json.loads(answer)["eventIds"]
    ]
    kept = [_event_id(record.value()) for record in door.system.records("raw-events")]
    assert Counter(kept) == Counter(taken)


def _exchanges(recorded: Path) -> list[tuple[str, int, str]]:
    """Path, status and answer of everything that was sent."""
    found = []
    for entry in json.loads(recorded.read_text())["log"]["entries"]:
        path = "/" + entry["request"]["url"].split("/", 3)[3].partition("?")[0]
        response = entry["response"]
        found.append((path, int(response["status"]), response["content"].get("text", "")))
    return found


def _event_id(record: bytes) -> Any:
    document = json.loads(record)
    return (document.get("event") or document["blocks"])["eventId"]
