"""The OpenAPI document of the management API is held against the running process, on both databases,
and nothing that it answers or logs says what it must not."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from manage.api import ROUTES
from manage.routes import Route
from tests.integration.manage_api import Api, running_api
from tests.unit.manage.tenants import CANARY

IS_NIGHT: Final = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES: Final = 500 if IS_NIGHT else 10
RUN_SECONDS: Final = 1500 if IS_NIGHT else 150
ROOT: Final = Path(__file__).parents[2]

STREAM: Final = "/v1/org/events/live"
"""It has no end to wait for."""
LEAVING: Final = ("/v1/auth/logout", "/v1/org", "/v1/orgs")
"""After these, a session has no organisation with anything in it."""
BEYOND: Final = (STREAM, "/v1/auth/callback", "/v1/sync/register-callback")
"""What no fuzzer gets to: it would need a mail, or a shop on the internet."""

UNSAID: Final = re.compile(
    r"Traceback|File \"|\.py\b|sqlalchemy|sqlite|asyncpg|postgres|SELECT |INSERT |UPDATE |DELETE FROM"
    r"|IntegrityError|OperationalError|pydantic"
)
"""Words of the inside, in answers."""

CONFIG: Final = """
[auth.openapi.session]
api_key = "{session}"
[auth.openapi.syncToken]
bearer = "{sync_token}"

# What no schema says: what is a country, an address, an account, a host or a mailbox of this world.
[[operations]]
include-path-regex = "^/v1/(domains(/[^/]+(/destinations.*)?)?|sync/register-callback|auth/login)$"
[operations.checks]
positive_data_acceptance.enabled = false

# And "invite" fits where a member's id stands, whose methods are others.
[[operations]]
include-path = "/v1/org/members/invite"
[operations.checks]
positive_data_acceptance.enabled = false
allow_header_conformance.enabled = false
"""


class Exchange(NamedTuple):
    """One request and its answer."""

    method: str
    path: str
    status: int
    answer: str

    def is_good(self, route: Route) -> bool:
        """Whether the route has done what it is for."""
        path = re.sub(r"{\w+}", "[^/]+", route.path)
        is_there = self.method == route.method and re.fullmatch(path, self.path) is not None
        return is_there and self.status == route.status


def held(api: Api, directory: Path, *more: str) -> list[Exchange]:
    """Hold the document against the process; answers all that was said."""
    recorded = directory / f"run{len(api.cookies)}.har"
    (directory / "schemathesis.toml").write_text(
        CONFIG.format(session=asyncio.run(api.log_in()), sync_token=api.shop.sync_token)
    )
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{api.url}/openapi.json", *more),
            *("--max-examples", str(EXAMPLES), "--seed", "20261125"),
            *("--generation-database", "none", "--generation-allow-x00", "false", "--no-color"),
            *("--output-sanitize", "false", "--report-har-path", str(recorded)),
        ],
        cwd=directory,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "tests.integration.manage_hooks",
            "PYTHONPATH": str(ROOT),
            "KNOWN_IDS": json.dumps(api.known),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    assert run.returncode == 0, run.stdout[-12000:] + run.stderr[-2000:]
    return list(_exchanges(recorded))


def _exchanges(recorded: Path) -> Iterator[Exchange]:
    for entry in json.loads(recorded.read_text())["log"]["entries"]:
        request, response = entry["request"], entry["response"]
        path = "/" + request["url"].split("/", 3)[3].partition("?")[0]
        said = response["content"].get("text", "") + json.dumps(response["headers"])
        yield Exchange(request["method"], path, int(response["status"]), said)


@pytest.fixture
def api(bootstrap: str, database_url: str, tmp_path: Path) -> Iterator[Api]:
    """A process on each of the databases."""
    with running_api(bootstrap, database_url, tmp_path) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(2 * RUN_SECONDS + 60)
def test_it_does_what_its_document_says_and_says_no_more(api: Api, tmp_path: Path) -> None:
    beside = [f"--exclude-path={path}" for path in (STREAM, *LEAVING)]
    said = held(api, tmp_path, *beside, "--exclude-method=DELETE")
    said += held(api, tmp_path, *beside, "--include-method=DELETE")
    said += held(api, tmp_path, *(f"--include-path={path}" for path in LEAVING))

    statuses = Counter(one.status for one in said)
    assert [one for one in said if one.status >= 500] == []
    assert statuses[200] > 200, statuses
    assert statuses[400] > 200, statuses
    assert statuses[404] > 20, statuses
    idle = [route for route in ROUTES if not any(one.is_good(route) for one in said)]
    assert [(one.method, one.path) for one in idle if one.path not in BEYOND] == []
    assert [one for one in said if UNSAID.search(one.answer)] == []
    # The vault's secrets are told to nobody, and of others nothing at all.
    assert [one for one in said if "token-of-" in one.answer] == []
    assert [one for one in said if f"theirs{CANARY}" in one.answer] == []

    written = (api.system.directory.parent / "manage.log").read_text()
    # The rest are mails, which go there in development.
    lines = [line for line in written.splitlines() if line.startswith("{")]
    assert [line for line in lines if is_failure(line)] == []
    logged = "\n".join(lines)
    secrets = ["token-of-", api.shop.sync_token, f"@ours{CANARY}", f"@theirs{CANARY}", *api.cookies]
    assert [secret for secret in secrets if secret in logged] == []


def is_failure(line: str) -> bool:
    """Whether a line of the log tells of a failure of ours. What is no HTTP is not."""
    return "Traceback" in line and "aiohttp.http_exceptions.BadHttpMessage" not in line
