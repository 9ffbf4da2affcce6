"""A sandbox on a real socket, with a clock of the test's own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from sandbox.app import create_app
from tests.unit.sandbox.samples import GOOD_TOKEN, NOW, SAMPLES, Sample


@dataclass
class Probe:
    """A client of the sandbox."""

    client: TestClient[Any, Any]
    slept: list[float] = field(default_factory=list)

    async def post(
        self, sample: Sample, *events: Any, token: str = GOOD_TOKEN
    ) -> tuple[int, Any, Any]:
        """Status, decoded body and headers of a batch."""
        return await self.post_body(sample, sample.body(*events), token=token)

    async def post_body(
        self, sample: Sample, body: Any, token: str = GOOD_TOKEN
    ) -> tuple[int, Any, Any]:
        """Status, decoded body and headers of any JSON body."""
        data = BytesIO(orjson.dumps(sample.signed(body, token)))
        async with self.client.post(sample.path, data=data, **sample.auth(token)) as response:
            return response.status, await response.json(), response.headers

    async def received(self, **query: str) -> Any:
        """What the sandbox says that it got."""
        async with self.client.get("/_sandbox/received", params=query) as response:
            assert response.status == 200
            return await response.json()

    async def stats(self) -> Any:
        """The sandbox's counts."""
        async with self.client.get("/_sandbox/stats") as response:
            return await response.json()

    async def script(self, platform: str, *steps: dict[str, Any], account: Any = None) -> None:
        """Queue steps that the sandbox must take."""
        order = {"platform": platform, "account": account, "steps": list(steps)}
        async with self.client.post("/_sandbox/script", json=order) as response:
            assert response.status == 200, await response.text()


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    app = create_app(lambda: NOW, sleep, kept_events=100)
    async with TestClient(TestServer(app)) as client:
        yield Probe(client, slept)


@pytest.fixture(params=list(SAMPLES.values()), ids=list(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    """Every platform in turn."""
    found: Sample = request.param
    return found
