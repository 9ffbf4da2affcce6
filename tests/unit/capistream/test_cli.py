"""The command line: help for everything, one line for every failure, no secret anywhere."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from capistream.cli import app
from capistream.embedded import ensure_secrets, free_port, is_free
from capistream.stack import open_store
from manage.store import RefusedChangeError
from platforms.registry import PLATFORMS
from runtime.clock import SystemClock
from runtime.settings import SECRETS_FILE, load_settings

KEY = base64.b64encode(b"canary" * 5 + b"ab").decode()
KEYS = {"VAULT__KEYS": json.dumps({"k1": KEY}), "TOKENS__SECRET": KEY}
MANAGES = KEYS | {"MANAGE__DEVELOPMENT": "true", "KAFKA__BOOTSTRAP": "127.0.0.1:1"}


def commands() -> Iterator[tuple[str, ...]]:
    """Every command and group, as it is typed."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    yield ()
    for name, command in group.commands.items():
        yield (name,)
        if isinstance(command, typer.core.TyperGroup):
            yield from ((name, inner) for inner in command.commands)


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(app, [*command, "--help"])
    assert ran.exit_code == 0
    assert "Usage: " in ran.stdout


@pytest.mark.parametrize("slug", PLATFORMS)
def test_the_help_of_a_destination_names_every_platform(slug: str) -> None:
    assert slug in CliRunner().invoke(app, ["destination", "set", "--help"]).stdout


def test_the_commands_there_are() -> None:
    assert {
        "up", "gateway", "streams", "sinks", "audit", "sandbox", "health", "settings", "send",
        "outcomes", "replay", "demo", "topics", "domain", "destination", "manage", "org", "user",
        "keys", "audit-rebuild",
    } <= {command[0] for command in commands() if command}  # fmt: skip


def run(
    *arguments: str, data: Path, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command with a data directory and settings of its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("CAPISTREAM_")}
    given = {f"CAPISTREAM_{name}": value for name, value in environment.items()}
    return subprocess.run(
        [sys.executable, "-m", "capistream", *arguments, "--data", str(data)],
        input=text, env=own | given, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


FAILURES = [
    (("settings",), {"KAFAK__BOOTSTRAP": "x"}, 78, "did you mean CAPISTREAM_KAFKA?"),
    (("gateway",), {}, 78, "CAPISTREAM_TOKENS__SECRET is not set"),
    (("domain", "add", "shop.example", "--org", "o"), {}, 78, "CAPISTREAM_VAULT__KEYS is not set"),
    (("sinks", "--platform", "myspace"), {}, 78, "'myspace' is not a platform"),
    (("manage",), {}, 78, "CAPISTREAM_VAULT__KEYS is not set"),
    (("manage",), {"VAULT__KEYS": KEYS["VAULT__KEYS"]}, 78, "CAPISTREAM_TOKENS__SECRET is not set"),
    (("manage",), KEYS, 78, "CAPISTREAM_MAIL__HOST is not set"),
    (
        ("manage",),
        MANAGES | {"MANAGE__DEFAULT_PLAN": "gold"},
        78,
        "'gold' is no plan; there are unl",
    ),
    (
        ("manage",),
        MANAGES | {"DATABASE__URL": "sqlite+aiosqlite:////nowhere/x"},
        1,
        "cannot be used",
    ),
    (("send", "/nowhere/events.json"), {}, 1, "/nowhere/events.json cannot be read"),
    (("send", "-"), {}, 1, "the file is not JSON"),
]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"), FAILURES, ids=lambda v: str(v)[:30]
)
def test_a_failure_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], code: int, message: str
) -> None:
    ran = run(*arguments, data=tmp_path, text="{", **environment)
    assert ran.returncode == code
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MANAGE__CNAME_TARGET", "https://ssp.example.com"),
        ("MANAGE__CNAME_TARGET", "ssp"),
        ("MANAGE__DNS_RESOLVER", "192.0.2.53"),
        ("MANAGE__DNS_RESOLVER", "ns.example.com:53"),
        ("MANAGE__PUBLIC_URL", "manage.example.com"),
    ],
)
def test_a_setting_that_cannot_work_is_named(tmp_path: Path, name: str, value: str) -> None:
    ran = run("manage", data=tmp_path, **MANAGES, **{name: value})
    assert ran.returncode == 78
    assert f"CAPISTREAM_{name}: must" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_keys_that_are_not_those_of_the_database_are_told_at_the_start(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)

    async def add_destination() -> None:
        store = open_store(load_settings(tmp_path), SystemClock())
        await store.upgrade()
        await store.add_domain("shop.example", "Org", {})
        fields = {"access_token": "EAABcanary", "pixel_id": "1234567890"}
        await store.set_destination("shop.example", "meta", fields)
        await store.close()

    asyncio.run(add_destination())
    (tmp_path / SECRETS_FILE).unlink()
    for name, told in (("k1", "lacks 'embedded'"), ("embedded", "another key under the name")):
        ring = {"VAULT__KEYS": json.dumps({name: KEY})}
        ran = run("manage", data=tmp_path, **MANAGES | ring)
        assert ran.returncode == 78
        (line,) = ran.stderr.splitlines()
        assert told in line
        assert KEY not in line


def test_a_failure_as_json(tmp_path: Path) -> None:
    ran = run("send", "/nowhere", "--json", data=tmp_path)
    assert ran.returncode == 1
    body = json.loads(ran.stderr)
    assert body == {
        "success": False,
        "error": {"message": "/nowhere cannot be read: No such file or directory"},
    }


def test_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    secrets = {
        "VAULT__KEYS": json.dumps({"k1": KEY}),
        "TOKENS__SECRET": KEY,
        "REDIS__URL": "redis://:canary-1@cache:6379/0",
        "DATABASE__URL": "postgresql+asyncpg://me:canary-2@db/x?password=canary-3",
        "KAFKA__SASL_PASSWORD": "canary-4",
    }
    shown = run("settings", data=tmp_path, **secrets)
    assert shown.returncode == 0
    assert "CAPISTREAM_KAFKA__BOOTSTRAP" in shown.stdout
    as_json = run("settings", "--json", data=tmp_path, **secrets)
    found = json.loads(as_json.stdout)
    assert found["redis"]["url"] == "redis://cache:6379/0"
    assert found["database"]["url"] == "postgresql+asyncpg://me@db/x"
    assert found["vault"]["keys"].keys() == {"k1"}
    for text in (shown.stdout + shown.stderr, as_json.stdout + as_json.stderr):
        assert "canary" not in text
        assert KEY not in text


def test_a_process_that_does_not_beat_is_not_well(tmp_path: Path) -> None:
    ran = run("health", "sinks", "--json", data=tmp_path)
    assert ran.returncode == 1
    assert json.loads(ran.stdout) == {"process": "sinks", "alive": False, "lastBeatSeconds": None}
    (tmp_path / "sinks.heartbeat").touch()
    well = run("health", "sinks", "--json", data=tmp_path)
    assert well.returncode == 0
    assert json.loads(well.stdout)["alive"] is True


def test_keys_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    ensure_secrets(tmp_path)
    path = tmp_path / SECRETS_FILE
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    ensure_secrets(tmp_path)
    assert path.read_bytes() == before
    assert load_settings(tmp_path).vault.active_key_id == "embedded"


def test_a_free_port_is_free() -> None:
    assert is_free("127.0.0.1", free_port())


@pytest.mark.parametrize(
    "option", [["--event", "Search=maybe"], ["--rename", "Lead"], ["--event", "=on"]]
)
def test_a_switch_that_is_none_is_refused(option: list[str], tmp_path: Path) -> None:
    command = ["destination", "set", "shop.example", "meta", "--access-token", "t", *option]
    result = CliRunner().invoke(app, [*command, "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not NAME=" in result.output


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--value", "fixed"], "value: a fixed one needs"),
        (["--value", "fixed", "--fixed-value", "five"], "fixedValue: must be an amount"),
        (["--sample-percent", "101"], "samplePercent: "),
        (["--exclude-country", "Germany"], "excludedCountries.0: must be a country"),
        (["--exclude-country", " ", "--exclude-source", "pigeon"], "excludedSources.0: "),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_its_name(
    option: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPISTREAM_DATA_DIR", str(tmp_path))
    ensure_secrets(tmp_path)
    settings = load_settings(tmp_path)

    async def add_shop() -> None:
        store = open_store(settings, SystemClock())
        await store.upgrade()
        await store.add_domain("shop.example", "Org", {})
        await store.close()

    asyncio.run(add_shop())
    command = ["destination", "set", "shop.example", "meta", "--access-token", "t"]
    refused = CliRunner().invoke(
        app, [*command, "--pixel-id", "1", *option, "--data", str(tmp_path)]
    )
    assert isinstance(refused.exception, RefusedChangeError)
    assert str(refused.exception).startswith(message)


def test_a_rule_of_value_that_there_is_not_is_refused(tmp_path: Path) -> None:
    command = ["destination", "set", "shop.example", "meta", "--access-token", "t"]
    refused = CliRunner().invoke(app, [*command, "--value", "gross", "--data", str(tmp_path)])
    assert refused.exit_code == 2
    assert "subtotal" in refused.output
