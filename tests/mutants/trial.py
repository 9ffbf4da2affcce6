"""Puts one mutant on trial, in a process of its own.

The processes are forked from a server that has loaded the libraries but no platform, so that a
trial costs little more than its test. The mutant lives in an import hook: no file is touched.
"""

import contextlib
import io
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, TypeAlias

import pytest
from typing_extensions import override

from tests.mutants.mutant import Mutant

ROOT: Final = Path(__file__).parents[2]
PLATFORMS: Final = ROOT / "platforms"
_AT_A_TIME: Final = 2
# What no mutant can be in, so that it need not be loaded again for each.
_SOUND: Final = (
    *("aiohttp.web", "babel.numbers", "hypothesis", "jsonschema", "openapi_schema_validator"),
    *("orjson", "phonenumbers", "pycountry", "pydantic", "pytest"),
    *("pytest_asyncio.plugin", "pytest_cov.plugin", "pytest_randomly", "pytest_timeout"),
    *("sandbox.app", "schemas.event", "schemas.outcome"),
)

Trial: TypeAlias = tuple[Mutant | None, Sequence[str]]
"""A mutant, or None for the code as it is, and the node ids of its tests, relative to ``tests``."""


class _Mutated(SourceFileLoader):
    """Loads a file with one text in it replaced. Always from the source: a cached one is sound."""

    mutant: Mutant

    @override
    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        return compile(source.replace(self.mutant.text, self.mutant.instead), self.path, "exec")


class _Hook(MetaPathFinder):
    """Gives the mutant instead of the module that it is a mutant of."""

    def __init__(self, mutant: Mutant):
        self.file = PLATFORMS / mutant.file
        self.loader = _Mutated(f"platforms.{self.file.stem}", str(self.file))
        self.loader.mutant = mutant

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.loader.name:
            return None
        return spec_from_file_location(fullname, self.file, loader=self.loader)


def _run(trial: Trial) -> tuple[int, str]:
    mutant, tests = trial
    os.chdir(ROOT)
    if mutant is not None:
        sys.meta_path.insert(0, _Hook(mutant))
    options = [*("-x", "-q", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider")]
    # Hypothesis is loaded before pytest could rewrite it, which only makes its messages plainer.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        code = pytest.main([*options, *(f"tests/{test}" for test in tests)])
    return int(code), shown.getvalue()


def run(trials: Iterable[Trial]) -> list[tuple[int, str]]:
    """pytest's exit code and output for each trial: 1 if a test failed, 0 if all passed."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(list(_SOUND))
    # A process that has imported a mutant is of no use to the next one.
    with processes.Pool(_AT_A_TIME, maxtasksperchild=1) as pool:
        return pool.map(_run, trials, chunksize=1)
