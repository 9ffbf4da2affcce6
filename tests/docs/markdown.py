"""What the tests read out of the documents: fenced blocks, tables, and the commands they name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`([^`\n]+)`")
_SHELL: Final = frozenset({"sh", "console"})


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: ``sh`` is run by a test, ``console`` only looked at."""

    language: str
    text: str


def name(path: Path) -> str:
    """A document as it is called in the repository."""
    return path.relative_to(ROOT).as_posix()


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of the same or a higher level.

    Raises ``ValueError`` when there is no such heading.
    """
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"there is no heading {heading!r}")
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [Block(language, body) for language, body in _BLOCK.findall(text)]


def table(text: str, first_heading: str) -> list[list[str]]:
    """The cells of the first table whose header begins with ``first_heading``, without the header.

    Raises ``ValueError`` when there is none.
    """
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("|") and _cells(line)[0] == first_heading:
            next(lines)  # the rule below the header
            rows = []
            for row in lines:
                if not row.startswith("|"):
                    break
                rows.append(_cells(row))
            return rows
    raise ValueError(f"there is no table of {first_heading!r}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def codes(text: str) -> list[str]:
    """Everything in single backticks."""
    return _CODE.findall(text)


def shell_lines(text: str) -> Iterator[str]:
    """What a document tells people to run: lines of shell blocks, continued ones joined, without
    prompt and comment."""
    for block in blocks(text):
        if block.language in _SHELL:
            joined = block.text.replace("\\\n", " ")
            for line in joined.splitlines():
                yield line.removeprefix("$ ").partition(" #")[0].strip()


def prose(text: str) -> str:
    """The document without its fenced blocks."""
    return _BLOCK.sub("", text)
