"""``python -m tests.chaos.stand_in --port PORT``: the sandbox, and it forgets nothing.

While platforms fail, each of them is sent the same events again and again: more in a few seconds
than the sandbox keeps. Here the names of all of them stay, without what was in them.
"""

import argparse
import dataclasses
from typing import Final

import orjson
from aiohttp import web
from typing_extensions import override

from runtime.clock import SystemClock
from runtime.http_server import serving
from runtime.lifecycle import Shutdown, run_until_shutdown
from sandbox.app import create_app
from sandbox.control import SANDBOX
from sandbox.exchange import Answer, Batch, Platform
from sandbox.received import Received

RECEIPTS: Final = "/_sandbox/receipts"


class Remembering(Received):
    """Remembers of each event whether the platform took it at last."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: dict[tuple[str, str, str], bool] = {}

    @override
    def add(self, platform: Platform, batch: Batch, answer: Answer, at: float) -> None:
        super().add(platform, batch, answer, at)
        for index, event in enumerate(batch.events):
            name = str(platform.event_id(event)) if isinstance(event, dict) else ""
            receipt = (platform.SLUG, batch.account, name)
            is_taken = answer.code_of(index) is None
            self._taken[receipt] = is_taken or self._taken.get(receipt, False)

    async def show(self, _request: web.Request) -> web.Response:
        """``[[platform, account, event id, taken], …]``."""
        body = orjson.dumps([(*receipt, taken) for receipt, taken in self._taken.items()])
        return web.Response(body=body, content_type="application/json")


async def serve(shutdown: Shutdown, port: int) -> None:
    """Until a shutdown is asked for."""
    clock, memory = SystemClock(), Remembering()
    app = create_app(now=lambda: clock.now_ms() / 1000, sleep=clock.sleep)
    app[SANDBOX] = dataclasses.replace(app[SANDBOX], received=memory)
    app.router.add_get(RECEIPTS, memory.show)
    async with serving(app, "127.0.0.1", port):
        await shutdown.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    chosen: int = parser.parse_args().port
    run_until_shutdown(lambda shutdown: serve(shutdown, chosen))
