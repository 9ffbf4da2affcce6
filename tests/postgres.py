"""A PostgreSQL server for tests: Debian's package, one cluster for the whole run, a database for each
test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from capistream.embedded import free_port

_USER: Final = "postgres"
_PACKAGES: Final = Path("/usr/lib/postgresql")
_numbers = count()


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server."""

    programs: Path
    port: int

    def new_database(self, template_url: str | None = None) -> str:
        """Make a database, empty or as the template is; answers its SQLAlchemy URL."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        template = ["-T", template_url.rpartition("/")[2]] if template_url else []
        self.run("createdb", *template, name)
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Drop a database that ``new_database`` made, whoever is still connected."""
        self.run("dropdb", "--force", url.rpartition("/")[2])

    def dump(self, url: str) -> bytes:
        """All of a database as SQL text."""
        return self.run("pg_dump", url.rpartition("/")[2]).stdout

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run one of PostgreSQL's programs at this server."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", _USER]
        return subprocess.run(
            [self.programs / program, *where, *arguments], check=True, capture_output=True
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server, gone with its data at the end.

    Where it is not installed the test is skipped, unless REQUIRE_KAFKA asks for everything: then it
    fails.
    """
    programs = _programs()
    if programs is None:
        told = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("REQUIRE_KAFKA"):
            pytest.fail(told)
        pytest.skip(told)
    port = free_port()
    # Not below pytest's own directory, which its owner alone may enter: PostgreSQL refuses to be root.
    with tempfile.TemporaryDirectory(prefix="capistream-postgres-") as directory:
        if os.getuid() == 0:
            shutil.chown(directory, _USER)
        data = Path(directory, "data")
        _as_owner(programs / "initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync")
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
            " -c synchronous_commit=off -c full_page_writes=off -c max_connections=200"
        )
        server: list[str | Path] = [programs / "pg_ctl", "-D", data, "-w"]
        _as_owner(*server, "-l", Path(directory, "log"), "-o", options, "start")
        try:
            yield Postgres(programs, port)
        finally:
            _as_owner(*server, "-m", "immediate", "stop")


def is_installed() -> bool:
    """Whether there is a server to start."""
    return _programs() is not None


def _programs() -> Path | None:
    versions = sorted(_PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def _as_owner(*command: str | Path) -> None:
    user = _USER if os.getuid() == 0 else None
    done = subprocess.run(
        command, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-2000:])
