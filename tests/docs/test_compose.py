"""docker-compose.yml, its files of variables and the Dockerfile agree with the code and with care."""

import re
import shlex
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from capistream.stack import WORKERS
from platforms.registry import PLATFORMS
from runtime.settings import PREFIX, Settings, load_settings
from tests.kafka.container import IMAGE as TESTED_KAFKA_IMAGE

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = (ROOT / "docker-compose.yml").read_text()
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load(COMPOSE)["services"]
OURS: Final = sorted(name for name, service in SERVICES.items() if "build" in service)

# ${NAME:-default}, where the default may hold one pair of braces of its own.
VARIABLE: Final = re.compile(r"\$\{(\w+):-((?:[^{}]|\{[^{}]*\})*)\}")

VARIABLE_FILES: Final = [ROOT / ".env.example", *sorted((ROOT / "deploy").glob("*.env"))]
# A whole version, which is three numbers, or two of PostgreSQL; then perhaps a flavour.
PINNED: Final = re.compile(r"(.+:\d+\.\d+\.\d+|postgres:\d+\.\d+)(-[\w.-]+)?")


def variables_in(file: Path) -> dict[str, str]:
    """The assignments of a file for ``--env-file``."""
    lines = (line for line in file.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def interpolated(text: object, variables: Mapping[str, str]) -> str:
    """What Compose makes of a value: an empty variable counts as an absent one."""
    result = VARIABLE.sub(lambda m: variables.get(m[1]) or m[2], str(text))
    assert "${" not in result, f"{text} has a variable without a default"
    return result


def environment_of(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    """A container's environment; YAML's merge keys are resolved by the parser."""
    declared: dict[str, object] = SERVICES[service].get("environment", {})
    return {name: interpolated(value, variables) for name, value in declared.items()}


def settings_of(
    service: str,
    variables: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    data_dir: Path,
) -> Settings:
    """The settings that a container of ours would start with."""
    for name, value in environment_of(service, variables).items():
        monkeypatch.setenv(name, value)
    return load_settings(data_dir)


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every ``capistream …`` of the file, of commands and of health checks, without that word."""
    for name in OURS:
        yield name, SERVICES[name]["command"]
        _kind, program, *arguments = SERVICES[name].get("healthcheck", {}).get("test", ["", ""])
        if program == "capistream":
            yield name, arguments


@pytest.mark.parametrize(
    "arguments",
    [pytest.param(words, id=f"{name}: {shlex.join(words)}") for name, words in command_lines()],
)
def test_commands_and_their_options_exist(arguments: list[str]) -> None:
    command = get_command(import_module("capistream.cli").app)
    rest = list(arguments)
    while isinstance(command, TyperGroup):
        assert rest, f"capistream {command.name} needs a subcommand"
        assert rest[0] in command.commands, f"capistream has no {rest[0]}"
        command = command.commands[rest.pop(0)]
    # Parses and checks the options; nothing is run.
    command.make_context(command.name, rest)


@pytest.mark.parametrize("file", [None, ROOT / "deploy/demo.env", ROOT / "deploy/cluster.env"])
@pytest.mark.parametrize("service", OURS)
def test_settings_exist_and_can_work(
    service: str, file: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = variables_in(file) if file else {}

    settings = settings_of(service, variables, monkeypatch, tmp_path)

    assert settings.log.format == "json"
    assert set(settings.platforms) <= set(PLATFORMS)


@pytest.mark.parametrize("service", ["sinks", "manage"])
def test_demo_reaches_no_vendor(
    service: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = variables_in(ROOT / "deploy/demo.env")

    settings = settings_of(service, variables, monkeypatch, tmp_path)

    addresses = {slug: settings.platforms[slug].base_url for slug in PLATFORMS}
    assert addresses == dict.fromkeys(PLATFORMS, "http://sandbox:9700")


def test_cluster_asks_for_as_many_copies_as_it_has_brokers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables = variables_in(ROOT / "deploy/cluster.env")
    brokers = [name for name in SERVICES if name.startswith("kafka-")]

    settings = settings_of("topics", variables, monkeypatch, tmp_path)
    broker = environment_of(brokers[0], variables)

    assert settings.kafka.bootstrap == ",".join(f"{name}:9092" for name in brokers)
    assert settings.kafka.replication_factor == len(brokers)
    assert broker["KAFKA_CONTROLLER_QUORUM_VOTERS"] == ",".join(
        f"{SERVICES[name]['environment']['KAFKA_NODE_ID']}@{name}:9093" for name in brokers
    )
    assert int(broker["KAFKA_MIN_INSYNC_REPLICAS"]) == len(brokers) - 1


@pytest.mark.parametrize("file", VARIABLE_FILES, ids=lambda file: file.name)
def test_documented_variables_are_used(file: Path) -> None:
    used = {match[1] for match in VARIABLE.finditer(COMPOSE)} | {"COMPOSE_PROFILES"}

    assert variables_in(file).keys() <= used


@pytest.mark.parametrize("service", SERVICES)
def test_what_runs_on_has_a_health_check(service: str) -> None:
    once = {
        name
        for other in SERVICES.values()
        for name, wait in other.get("depends_on", {}).items()
        if wait["condition"] == "service_completed_successfully"
    }

    assert ("healthcheck" in SERVICES[service]) != (service in once)


@pytest.mark.parametrize("worker", WORKERS)
def test_each_worker_is_asked_for_its_own_beat(worker: str) -> None:
    assert SERVICES[worker]["command"] == [worker]
    assert SERVICES[worker]["healthcheck"]["test"] == ["CMD", "capistream", "health", worker]


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_pinned(service: str) -> None:
    assert PINNED.fullmatch(interpolated(SERVICES[service]["image"], {}))


def test_images_of_the_dockerfile_are_pinned() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    images = re.findall(r"^(?:FROM |COPY --from=)(\S*[:/]\S*)", dockerfile, re.MULTILINE)

    assert len(images) == 2
    assert all(PINNED.fullmatch(image) for image in images), images


def test_the_broker_is_the_one_that_the_tests_ran_on() -> None:
    images = {SERVICES[name]["image"] for name in SERVICES if name.startswith("kafka-")}

    assert images == {TESTED_KAFKA_IMAGE}


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_may_do_more_than_it_must(service: str) -> None:
    declared = SERVICES[service]

    assert not declared.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"}
    assert "no-new-privileges:true" in declared["security_opt"]
    assert not any("docker.sock" in str(volume) for volume in declared.get("volumes", []))
    assert all(interpolated(p, {}).startswith("127.0.0.1:") for p in declared.get("ports", []))
    if service in OURS:
        assert declared["read_only"] is True
        assert declared["cap_drop"] == ["ALL"]


def test_mails_of_whoever_has_a_file_of_variables_go_to_a_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {"CAPISTREAM_VAULT__KEYS": "", "CAPISTREAM_TOKENS__SECRET": ""}
    variables = variables_in(ROOT / ".env.example") | given | {"CAPISTREAM_VAULT__ACTIVE": ""}

    settings = settings_of("manage", variables, monkeypatch, tmp_path)

    assert not settings.manage.development
    assert settings.mail.host == "replace_me"


@pytest.mark.parametrize("service", OURS)
def test_only_those_that_need_a_secret_get_it(service: str) -> None:
    allowed = {
        "VAULT__KEYS": {"manage", "sinks"},
        "TOKENS__SECRET": {"gateway", "manage"},
        "DATABASE__URL": {"manage", "audit"},
        "MAIL__PASSWORD": {"manage"},
    }
    given = environment_of(service, {})

    assert all(service in who for name, who in allowed.items() if PREFIX + name in given)
