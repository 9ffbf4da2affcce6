"""Commands, targets, paths and links that the documents name exist."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from capistream.cli import app
from platforms.registry import PLATFORMS
from tests.docs.markdown import DOCUMENTS, ROOT, codes, name, prose, shell_lines, table

Command: TypeAlias = TyperGroup | TyperCommand

TEXTS: Final = {name(path): path.read_text() for path in DOCUMENTS}
PACKAGES: Final = "capistream|ingest|streams|sinks|audit|manage|platforms|schemas|runtime|sandbox"
_PATH: Final = re.compile(rf"(?:{PACKAGES}|tests|examples|deploy|docs|\.ci)/[\w./-]*")
_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND: Final = re.compile(r"(?:^|\s|\()(capistream(?: [^|&>);]+)?)")
_REFERENCE: Final = re.compile(r"docs/adr/(\d{4})")


def command_lines() -> list[tuple[str, str]]:
    """Every ``capistream …`` of the documents, with the document."""
    found = []
    for document, text in TEXTS.items():
        inline = [code for code in codes(prose(text)) if code.startswith("capistream")]
        for line in [*inline, *shell_lines(text)]:
            found += [(document, match.strip()) for match in _COMMAND.findall(line)]
    return sorted(set(found))


def inside(group: TyperGroup) -> dict[str, Command]:
    """The commands of a group, by name."""
    return {
        key: command
        for key, command in group.commands.items()
        if isinstance(command, TyperGroup | TyperCommand)
    }


def root() -> TyperGroup:
    """``capistream`` itself."""
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def parse(words: list[str]) -> tuple[Command, list[str]]:
    """The command that the words name, and its arguments."""
    command: Command = root()
    rest = list(words)
    while isinstance(command, TyperGroup) and rest:
        assert rest[0] in command.commands, f"there is no command {rest[0]!r}"
        command = inside(command)[rest.pop(0)]
    return command, rest


def options_of(command: Command) -> set[str]:
    """Every option of a command, its negative form too."""
    return {
        option
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }


@pytest.mark.parametrize(
    "line", [pytest.param(line, id=f"{document}: {line}") for document, line in command_lines()]
)
def test_commands_and_their_options_exist(line: str) -> None:
    command, rest = parse(shlex.split(line)[1:])

    assert {word for word in rest if word.startswith("--")} <= options_of(command)
    if rest:
        command.make_context(command.name, rest)  # parses, runs nothing


def _leaves(command: Command, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not isinstance(command, TyperGroup):
        return {path}
    return {leaf for key, inner in inside(command).items() for leaf in _leaves(inner, (*path, key))}


def test_the_table_of_commands_is_whole() -> None:
    stated = []
    for row in table(TEXTS["README.md"], "Command"):
        command, rest = parse(shlex.split(codes(row[0])[0])[1:])
        used = shlex.split(codes(row[0])[0])[1:]
        stated.append(tuple(used[: len(used) - len(rest)]))
        shown = [option for code in codes(row[1]) for option in re.findall(r"--[\w-]+", code)]
        assert {*shown, "--data", "--json"} <= options_of(command)

    assert sorted(stated) == sorted(_leaves(root()))


def test_every_switch_of_a_destination_is_told() -> None:
    rows = table(TEXTS["README.md"], "Switch")
    stated = [code.split()[0] for row in rows for code in codes(row[0])]
    command, _ = parse(["destination", "set"])
    models = [platform.Credentials for platform in PLATFORMS.values()]
    of_credentials = {
        f"--{key.replace('_', '-')}" for model in models for key in model.model_fields
    }
    elsewhere = of_credentials | {"host", "platform", "--data", "--json"}

    assert sorted(stated) == sorted(options_of(command) - elsewhere)


@pytest.mark.parametrize("document", TEXTS)
def test_make_targets_exist(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    text = TEXTS[document]
    lines = [*codes(prose(text)), *shell_lines(text)]

    named = {line.split()[1] for line in lines if re.match(r"make [a-z]", line)}
    assert named <= targets


def test_every_make_target_is_documented() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):.*##|^(setup):", makefile, re.MULTILINE))

    stated = {codes(row[0])[0].removeprefix("make ") for row in table(_contributing(), "Target")}
    assert stated == {first or second for first, second in targets}


def _contributing() -> str:
    return TEXTS["CONTRIBUTING.md"]


@pytest.mark.parametrize("document", TEXTS)
def test_paths_exist(document: str) -> None:
    named = [code for code in codes(prose(TEXTS[document])) if _PATH.fullmatch(code)]

    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", TEXTS)
def test_links_lead_somewhere(document: str) -> None:
    for link in _LINK.findall(prose(TEXTS[document])):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_decisions_that_the_code_refers_to_exist() -> None:
    sources = [path for part in PACKAGES.split("|") for path in (ROOT / part).rglob("*.py")]
    sources.append(ROOT / "pyproject.toml")
    numbers = {number for path in sources for number in _REFERENCE.findall(path.read_text())}
    records = sorted(path.name[:4] for path in (ROOT / "docs/adr").glob("[0-9]*.md"))

    assert numbers <= set(records)
    assert len(records) == len(set(records))


@pytest.mark.parametrize(
    "document", [document for document in TEXTS if re.match(r"docs/adr/\d", document)]
)
def test_a_decision_is_whole_and_listed(document: str) -> None:
    text = TEXTS[document]
    number = Path(document).name[:4]

    assert re.findall(r"^#+ (.+)$", text, re.MULTILINE)[1:] == [
        "Context",
        "Decision",
        "Consequences",
        "Rejected",
    ]
    title = re.match(rf"# {number} (.+)", text)
    assert title is not None
    assert f"- [{number}]({Path(document).name}) {title[1]}\n" in TEXTS["docs/adr/README.md"]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    packages = [re.split(r"[^\w-]", line)[0] for group in groups for line in group]
    rows = table(TEXTS["docs/adr/0006-dependencies.md"], "Package")

    assert [codes(row[0])[0] for row in rows] == packages
    assert all(reason.endswith(".") for _, reason in rows)
