"""Settings: where they come from, and how a wrong one is told."""

import base64
import json
import os
from pathlib import Path

import pytest

from runtime.errors import ConfigError
from runtime.settings import SECRETS_FILE, STACK_FILE, Settings, load_settings

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CAPISTREAM_")]:
        monkeypatch.delenv(name)


def refusal(directory: Path) -> list[str]:
    """The lines of the error that these settings end in."""
    with pytest.raises(ConfigError) as error:
        load_settings(directory)
    return str(error.value).splitlines()


def test_environment_before_file_before_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(tmp_path).kafka.bootstrap == "127.0.0.1:9092"
    stack = {"kafka": {"bootstrap": "file:1", "topic_prefix": "file."}}
    (tmp_path / STACK_FILE).write_text(json.dumps(stack))
    assert load_settings(tmp_path).kafka.bootstrap == "file:1"
    monkeypatch.setenv("CAPISTREAM_KAFKA__BOOTSTRAP", "env:2")
    found = load_settings(tmp_path)
    assert found.kafka.bootstrap == "env:2"
    assert found.topic("audit") == "file.audit"


def test_secrets_have_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / STACK_FILE).write_text('{"gateway": {"port": 1234}}')
    (tmp_path / SECRETS_FILE).write_text(json.dumps({"vault": {"keys": {"k1": KEY}}}))
    found = load_settings(tmp_path)
    assert found.gateway.port == 1234
    assert found.vault.active_key_id == "k1"


def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPISTREAM_KAFKA__BOOTSTRAP", "")
    assert load_settings(tmp_path).kafka.bootstrap == "127.0.0.1:9092"


def test_the_data_directory_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPISTREAM_DATA_DIR", str(tmp_path))
    found = load_settings()
    assert found.data_dir == tmp_path
    assert found.database_url == f"sqlite+aiosqlite:///{tmp_path}/capistream.db"


def test_a_platform_is_pointed_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPISTREAM_PLATFORMS__META__BASE_URL", "http://127.0.0.1:9700/")
    assert load_settings(tmp_path).platforms["meta"].base_url == "http://127.0.0.1:9700"


def test_a_misspelt_section_is_named_with_what_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPISTREAM_KAFAK__BOOTSTRAP", "x:1")
    assert refusal(tmp_path) == [
        "CAPISTREAM_KAFAK__BOOTSTRAP is not a setting; did you mean CAPISTREAM_KAFKA? "
        "(see `capistream settings`)"
    ]


def test_every_wrong_setting_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "KAFKA__BOOTSTRP": "x",
        "GATEWAY__PORT": "http",
        "LOG__LEVEL": "loud",
        "VAULT__KEYS": json.dumps({"k1": "c2hvcnQtc2VjcmV0"}),
        "TOKENS__SECRET": "not base64 at all",
        "PLATFORMS__META__BASE_URL": "127.0.0.1:1",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(f"CAPISTREAM_{name}", value)
    head, *lines = refusal(tmp_path)
    assert head == "These settings cannot work:"
    told = {line.strip().partition(": ")[0] for line in lines}
    expected = {f"CAPISTREAM_{name}" for name in wrong} - {"CAPISTREAM_VAULT__KEYS"}
    assert told == expected | {"CAPISTREAM_VAULT__KEYS__K1"}
    assert "  CAPISTREAM_KAFKA__BOOTSTRP: there is no such setting" in lines
    text = "\n".join(lines)
    assert not any(secret in text for secret in ("c2hvcnQtc2VjcmV0", "not base64 at all"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"KAFKA__SECURITY_PROTOCOL": "sasl_ssl"}, "needs sasl_mechanism, sasl_username"),
        ({"VAULT__ACTIVE": "k9", "VAULT__KEYS": json.dumps({"k1": KEY})}, "'k9'"),
        ({"VAULT__KEYS": json.dumps({"k1": KEY, "k2": KEY})}, "must name one of several keys"),
        ({"VAULT__KEYS": f"k1={KEY}"}, "vault"),
    ],
)
def test_settings_that_do_not_go_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CAPISTREAM_{name}", value)
    text = "\n".join(refusal(tmp_path))
    assert message in text
    assert KEY not in text


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    (tmp_path / STACK_FILE).write_text("{")
    assert "could not be read" in refusal(tmp_path)[0]


def test_no_secret_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "VAULT__KEYS": json.dumps({"k1": KEY}),
        "TOKENS__SECRET": KEY,
        "REDIS__URL": "redis://:canary-1@host/0",
        "DATABASE__URL": "postgresql+asyncpg://u:canary-2@host/db",
        "KAFKA__SASL_PASSWORD": "canary-3",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(f"CAPISTREAM_{name}", value)
    found = load_settings(tmp_path)
    for shown in (repr(found), str(found), found.model_dump_json()):
        assert "canary" not in shown
        assert KEY not in shown


def test_settings_do_not_change(tmp_path: Path) -> None:
    found = Settings(data_dir=tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        found.kafka.bootstrap = "other"  # type: ignore[misc] # what is tested
