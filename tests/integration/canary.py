"""Marks that are recognised however they are written, and a search for them in all that a system
leaves behind: its log, its files, its topics, its Redis."""

import base64
import html
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from confluent_kafka import Consumer
from redis import Redis

from tests.integration.system import System, children_of

PIECE_CHARS: Final = 10
"""What tells a secret, also one that was cut: too long to come about by chance."""

_NOT_TELLING: Final = re.compile(r"[\W_]+")
_UNICODE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_BYTES: Final = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{13,}")
_HEX: Final = re.compile(r"[0-9a-fA-F]{20,}")


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that stands for a kind of personal data, or for a secret."""

    name: str
    written: str = field(repr=False)
    """As it is sent."""
    known_by: re.Pattern[str] = field(repr=False)
    """What stands in a bare text where it can be read."""


def personal(name: str, written: str, *pieces: str) -> Mark:
    """A mark that is known by any of the ``pieces``, which are patterns of a bare text."""
    return Mark(name, written, re.compile("|".join(pieces)))


def secret(name: str, written: str, public: str = "") -> Mark:
    """A mark that is known by any part of it that is twice as long as a piece; what it begins with
    may be ``public``."""
    text = bare(written.removeprefix(public))
    starts = range(0, len(text) - PIECE_CHARS + 1, PIECE_CHARS)
    assert starts, "too short to be told from anything else"
    return Mark(name, written, re.compile("|".join(text[n : n + PIECE_CHARS] for n in starts)))


def bare(text: str) -> str:
    """Lower case, without blanks and punctuation."""
    return _NOT_TELLING.sub("", text.lower())


def readings(data: str | bytes) -> Iterator[str]:
    """What somebody who looks closely reads there, bare: as it is, with escapes undone (of URLs,
    JSON, HTML and Python), and what stands there in base64 or as hex."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    yield bare(text)
    for _ in range(2):  # a URL in a JSON text in a JSON text
        text = _unescaped(text)
    yield bare(text)
    for packed in (_in_base64, _in_hex):
        yield "\n".join(bare(raw.decode(errors="replace")) for raw in packed(text))


def _unescaped(text: str) -> str:
    text = _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
    text = _BYTES.sub(
        lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode(errors="replace"), text
    )
    return html.unescape(unquote(text))


def _in_base64(text: str) -> Iterator[bytes]:
    """Each run of its letters, read from each of the four places where it may begin."""
    for found in _BASE64.findall(text):
        run = found.replace("-", "+").replace("_", "/")
        for start in range(4):
            whole = (len(run) - start) // 4 * 4
            yield base64.b64decode(run[start : start + whole])


def _in_hex(text: str) -> Iterator[bytes]:
    for run in _HEX.findall(text):
        for start in range(2):
            whole = (len(run) - start) // 2 * 2
            yield bytes.fromhex(run[start : start + whole])


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where marks may be read, and why."""

    marks: Sequence[str]
    """Their names, as patterns."""
    place: str
    """A pattern."""
    why: str
    passes: bool = False
    """Whether it may be gone by the time that it is looked for."""

    def covers(self, mark: Mark, place: str) -> bool:
        """Whether this mark may be read in this place."""
        return fnmatchcase(place, self.place) and any(
            fnmatchcase(mark.name, name) for name in self.marks
        )


@dataclass
class Search:
    """Collects what is to be searched, place by place, and tells what was found in it."""

    marks: Sequence[Mark]
    allowed: Sequence[Allowed] = ()
    _seen: dict[str, set[str | bytes]] = field(default_factory=lambda: defaultdict(set))

    def add(self, place: str, data: str | bytes | None) -> None:
        """Something that can be read in ``place``."""
        if data:
            self._seen[place].add(data)

    def add_all(self, found: Iterable[tuple[str, str | bytes | None]]) -> None:
        """The same for many."""
        for place, data in found:
            self.add(place, data)

    @property
    def places(self) -> set[str]:
        """Where anything was read at all."""
        return set(self._seen)

    def found(self) -> set[tuple[Mark, str]]:
        """Which mark can be read where."""
        return {
            (mark, place)
            for place, seen in self._seen.items()
            for text in map("\n".join, zip(*map(readings, seen), strict=True))
            for mark in self.marks
            if mark.known_by.search(text)
        }

    def leaks(self) -> list[str]:
        """A sentence for each mark in a place where nothing allows it; it does not show the mark."""
        return sorted(
            f"The {mark.name} can be read in: {place}."
            for mark, place in self.found()
            if not any(row.covers(mark, place) for row in self.allowed)
        )

    def unused(self) -> list[Allowed]:
        """What is allowed and was not needed."""
        found = self.found()
        lasting = [row for row in self.allowed if not row.passes]
        return [row for row in lasting if not any(row.covers(*one) for one in found)]


def in_topics(system: System) -> Iterator[tuple[str, str | bytes | None]]:
    """Keys, headers and values of every record on every topic; a value that is JSON by its
    fields."""
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    for topic in sorted(_topics(system, prefix)):
        for record in system.records(topic):
            headers = [(name, value or b"") for name, value in record.headers() or ()]
            origin = dict(headers).get("origin-topic", b"").decode().removeprefix(prefix)
            place = f"topic {topic}" + (f" (of {origin})" if origin else "")
            yield f"{place}, key", record.key()
            for name, value in headers:
                yield f"{place}, header {name}", value
            yield from _in_value(f"{place}, value", record.value() or b"")


def _topics(system: System, prefix: str) -> list[str]:
    consumer = Consumer({"bootstrap.servers": system.description["kafka"], "group.id": "canary"})
    try:
        names = consumer.list_topics(timeout=10).topics
    finally:
        consumer.close()
    # Kafka's own, such as __consumer_offsets, hold offsets.
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix) and name[:2] != "__"]  # fmt: skip


def _in_value(place: str, value: bytes) -> Iterator[tuple[str, str | bytes]]:
    try:
        document = json.loads(value)
    except ValueError:
        yield place, value
    else:
        yield from _leaves(f"{place} at ", document)


def _leaves(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{place}(keys)", key
            yield from _leaves(f"{place}{key}.", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(place, inner)
    else:
        yield place.removesuffix("."), str(value)


def in_redis(url: str, prefix: str = "") -> Iterator[tuple[str, str | bytes | None]]:
    """Every key, and what is kept under it, by the first word of the key."""
    with Redis.from_url(url) as client:
        for key in client.scan_iter(count=1000):
            kind = client.type(key).decode()
            family = key.decode(errors="replace").removeprefix(prefix).partition(":")[0]
            yield f"Redis, keys of {family}", key
            for value in _flat(_read_redis(client, kind, key)):
                yield f"Redis, {family}", value


def _read_redis(client: Any, kind: str, key: bytes) -> Any:
    match kind:
        case "string":
            return client.get(key)
        case "hash":
            return client.hgetall(key)
        case "list":
            return client.lrange(key, 0, -1)
        case "set":
            return client.smembers(key)
        case "zset":
            return client.zrange(key, 0, -1)
        case "stream":
            return client.xrange(key)
        case "none":
            return None  # it ran out meanwhile
        case _:
            raise AssertionError(f"nobody here knows how to read a {kind}")


def _flat(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, list | set | tuple):
        for inner in value:
            yield from _flat(inner)


def in_files(directory: Path) -> Iterator[tuple[str, str | bytes | None]]:
    """Every file in a data directory, but the keys of an embedded system."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != "secrets.json":
            name = path.relative_to(directory)
            yield "names of files", str(name)
            yield f"file {name}", path.read_bytes()


def in_command_lines(pid: int) -> Iterator[tuple[str, str | bytes | None]]:
    """Of a process and all that come of it, as anybody on the machine can read them."""
    yield "command lines", Path(f"/proc/{pid}/cmdline").read_bytes()
    for child in children_of(pid):
        yield from in_command_lines(child)


def redis_url(system: System) -> str:
    """Where the system's Redis is."""
    stack = json.loads((system.directory / "stack.json").read_text())
    return system.environment.get("CAPISTREAM_REDIS__URL") or str(stack["redis"]["url"])


def keys_of(system: System) -> list[str]:
    """The vault's key and the secret of the tokens."""
    path = system.directory / "secrets.json"
    if not path.exists():
        given = system.environment
        vault = json.loads(given["CAPISTREAM_VAULT__KEYS"])
        return [*vault.values(), given["CAPISTREAM_TOKENS__SECRET"]]
    assert os.stat(path).st_mode & 0o077 == 0, "nobody but its owner reads them"
    kept = json.loads(path.read_text())
    return [*kept["vault"]["keys"].values(), kept["tokens"]["secret"]]
