"""The sandbox in the place of the platforms, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp.test_utils import TestServer

from platforms.registry import PLATFORMS
from runtime.clock import Clock
from runtime.settings import EndpointSettings
from sandbox.app import create_app
from sandbox.control import SANDBOX
from sandbox.script import Order


@dataclass(frozen=True)
class PlatformSandbox:
    """A running one."""

    server: TestServer

    @property
    def endpoints(self) -> Mapping[str, EndpointSettings]:
        """Every platform there."""
        url = str(self.server.make_url("")).rstrip("/")
        return dict.fromkeys(PLATFORMS, EndpointSettings(base_url=url))

    def order(self, slug: str, **step: object) -> None:
        """Have it do this to the next request of a platform."""
        order = Order.model_validate({"platform": slug, "steps": [step]})
        self.server.app[SANDBOX].script.add(order)

    def received(self, slug: str | None = None) -> Any:
        """What came in."""
        return self.server.app[SANDBOX].received.shown(slug, None, None)


@asynccontextmanager
async def running_sandbox(clock: Clock) -> AsyncIterator[PlatformSandbox]:
    """One whose clock is the test's, and whose slowness is real."""
    server = TestServer(create_app(now=lambda: clock.now_ms() / 1000, sleep=asyncio.sleep))
    await server.start_server()
    yield PlatformSandbox(server)
    await server.close()
