"""Commands run in one data directory that has keys and a database of its own, and no Kafka."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from capistream.cli import app
from capistream.stack import open_store
from manage.store import Store
from runtime.clock import SystemClock
from runtime.settings import load_settings

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Commands:
    """The command line, as somebody uses it there."""

    directory: Path

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        """A command; ``typed`` is what is typed when it asks."""
        line = [*arguments, "--data", str(self.directory)]
        return CliRunner().invoke(app, line, input=typed)

    def ask(self, *arguments: str) -> Any:
        """What it prints as JSON."""
        ran = self.run(*arguments, "--json")
        assert ran.exit_code == 0, ran.output or ran.exception
        return json.loads(ran.stdout)

    def in_store(self, work: Callable[[Store], Awaitable[Answer]]) -> Answer:
        """Do something with the store that publishes nothing."""

        async def run() -> Answer:
            store = open_store(load_settings(self.directory), SystemClock())
            try:
                await store.upgrade()
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())
