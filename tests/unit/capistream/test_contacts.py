"""What is remembered of a contact is shown and forgotten from the command line."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from typer.testing import CliRunner, Result

from capistream import contacts
from capistream.cli import app
from runtime.settings import RedisSettings, Settings
from schemas.config import DomainConfig
from tests.unit.streams.contacts import PREFIX, WHO, at, shop, visit
from tests.unit.streams.road import RECEIVED_AT

if TYPE_CHECKING:
    from redis.asyncio import Redis

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def run(valkey: RedisSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command against the shop and the Valkey of the tests."""

    async def configured(_: Settings, host: str) -> DomainConfig:
        return shop(host=host)

    url = valkey.url.get_secret_value()
    monkeypatch.setenv("CAPISTREAM_REDIS__URL", url)
    monkeypatch.setenv("CAPISTREAM_KAFKA__TOPIC_PREFIX", PREFIX)
    monkeypatch.setattr(contacts, "configured_domain", configured)

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["contacts", *arguments, "--data", str(tmp_path)])

    return command


async def remember(client: "Redis") -> None:
    await at(client).work([visit(0, 1, ttclid="T1"), visit(1, 0, ttclid="T0")])


@pytest.mark.parametrize("who", [("--email", WHO["email"]), ("--external-id", WHO["externalId"])])
async def test_a_contact_is_shown_and_then_forgotten(
    redis_client: "Redis", run: Run, who: tuple[str, str]
) -> None:
    await remember(redis_client)

    async def told(command: str) -> Any:
        ran = await asyncio.to_thread(run, command, "shop.example", *who, "--json")
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    page: dict[str, Any] = {"utm": {}, "page": "https://shop.example/thanks", "referrer": None}
    assert await told("show") == {
        "touches": [
            {"receivedAt": RECEIVED_AT, "clickIds": {"ttclid": "T0"}, "source": "raw-events-3-1"}
            | page,
            {
                "receivedAt": RECEIVED_AT + 1000,
                "clickIds": {"ttclid": "T1"},
                "source": "raw-events-3-0",
            }
            | page,
        ]
    }
    plain = await asyncio.to_thread(run, "show", "shop.example", *who)
    assert "T0" in plain.stdout
    assert "canary" not in plain.stdout.lower()
    assert await told("forget") == {"forgotten": 2}
    assert await told("show") == {"touches": []}
    empty = await asyncio.to_thread(run, "show", "shop.example", *who)
    assert empty.stdout == "Nothing is remembered of this contact.\n"


def test_whom_must_be_said(run: Run) -> None:
    for command in ("show", "forget"):
        for blank in ([], ["--email", "nobody"], ["--external-id", " "]):
            ran = run(command, "shop.example", *blank)
            assert ran.exit_code == 2
            assert "--external-id or --email" in ran.output


def test_without_redis_it_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPISTREAM_REDIS__URL", "redis://127.0.0.1:1/0")
    ran = run("show", "shop.example", "--email", "ada@example.com")
    assert ran.exit_code == 1
    assert "CAPISTREAM_REDIS__URL" in str(ran.exception)
