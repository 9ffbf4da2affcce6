"""Commands about the vault's keys."""

import base64
import json

import pytest

from manage.store import Store
from runtime.errors import CapistreamError, ConfigError
from runtime.settings import SECRETS_FILE, VaultSettings, load_settings
from runtime.vault import Seal, Vault
from tests.unit.capistream.commands import Commands


async def add_shop(store: Store) -> Seal:
    """A destination; answers its seal."""
    await store.add_domain("shop.example", "Org", {})
    fields = {"access_token": "EAABcanary", "pixel_id": "1234567890"}
    changed = await store.set_destination("shop.example", "meta", fields)
    return Seal(changed.config.domain_id, changed.destination.id, changed.destination.sealed)


def test_a_new_key_is_a_line_for_the_settings(commands: Commands) -> None:
    before = (commands.directory / SECRETS_FILE).read_bytes()
    name, _, value = commands.run("keys", "new", "k7").stdout.strip().partition("=")
    assert name == "CAPISTREAM_VAULT__KEYS"
    ring = VaultSettings.model_validate({"keys": json.loads(value)})
    assert ring.active_key_id == "k7"
    assert (commands.directory / SECRETS_FILE).read_bytes() == before


def test_new_keys_are_never_the_same_and_named_by_the_day(commands: Commands) -> None:
    one, two = commands.ask("keys", "new"), commands.ask("keys", "new")
    assert one["key"] != two["key"]
    assert len(base64.b64decode(one["key"])) == 32
    assert one["keyId"][:2] == "20"


def test_a_written_key_seals_from_then_on(commands: Commands) -> None:
    seal = commands.in_store(add_shop)
    written = commands.ask("keys", "new", "--write")
    assert "key" not in written
    path = commands.directory / SECRETS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    ring = load_settings(commands.directory).vault
    assert ring.active_key_id == written["keyId"]
    assert ring.keys.keys() == {"embedded", written["keyId"]}
    Vault(ring).check([seal])

    again = commands.ask("keys", "new", "--write")
    assert again["keyId"] == f"{written['keyId']}-2"


def test_what_is_needed_is_told(commands: Commands) -> None:
    commands.in_store(add_shop)
    (only,) = commands.ask("keys", "status")["keys"]
    assert only == {"keyId": "embedded", "seals": 1, "active": True, "known": True, "needed": True}
    commands.ask("keys", "new", "next", "--write")
    old, new = commands.ask("keys", "status")["keys"]
    assert (old["seals"], old["active"], old["needed"]) == (1, False, True)
    assert (new["seals"], new["active"], new["needed"]) == (0, True, True)


def test_a_name_that_is_taken_is_refused(commands: Commands) -> None:
    ran = commands.run("keys", "new", "embedded")
    assert isinstance(ran.exception, CapistreamError)
    assert "'embedded'" in str(ran.exception)


def test_where_keys_are_not_kept_in_files_none_is_written(commands: Commands) -> None:
    (commands.directory / SECRETS_FILE).unlink()
    ran = commands.run("keys", "new", "--write")
    assert isinstance(ran.exception, ConfigError)
    assert not (commands.directory / SECRETS_FILE).exists()


def test_a_key_that_the_environment_hides_is_told(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = base64.b64encode(b"e" * 32).decode()
    monkeypatch.setenv("CAPISTREAM_VAULT__KEYS", json.dumps({"env": key}))
    monkeypatch.setenv("CAPISTREAM_VAULT__ACTIVE", "env")
    ran = commands.run("keys", "new", "--write")
    assert isinstance(ran.exception, ConfigError)
    assert "CAPISTREAM_VAULT__ACTIVE" in str(ran.exception)
