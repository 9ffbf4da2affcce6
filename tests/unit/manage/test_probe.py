"""Credentials tried at the sandbox, over real HTTP."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from manage.probe import Check, Prober
from platforms.registry import PLATFORMS
from runtime.settings import EndpointSettings, Settings
from tests.contract.stand_ins import credentials
from tests.unit.manage.platform_sandbox import PlatformSandbox, running_sandbox
from tests.unit.runtime.clocks import JumpingClock

GOOD: Final = "good-token"
every_platform = pytest.mark.parametrize("slug", sorted(PLATFORMS))


@pytest.fixture
async def sandbox() -> AsyncIterator[PlatformSandbox]:
    """One that listens."""
    async with running_sandbox(JumpingClock()) as running:
        yield running


@pytest.fixture
async def prober(sandbox: PlatformSandbox) -> AsyncIterator[Prober]:
    """Tries credentials there."""
    settings = Settings(platforms=dict(sandbox.endpoints))
    made = Prober(settings, JumpingClock(), timeout_seconds=0.5)
    yield made
    await made.close()


async def _check(prober: Prober, slug: str, *, code: str = "", token: str = GOOD) -> Check:
    return await prober.check(slug, credentials(slug, access_token=token, test_event_code=code))


@every_platform
@pytest.mark.parametrize("code", ["", "TEST42"])
async def test_what_works(prober: Prober, sandbox: PlatformSandbox, slug: str, code: str) -> None:
    check = await _check(prober, slug, code=code)
    assert (check.ok, check.error) == (True, None)
    received = sandbox.received(slug)
    live = [e for e in received["events"] if e["accepted"] and not e["testEventCode"]]
    assert (received["requests"], live) == (1, [])


@every_platform
async def test_what_does_not(prober: Prober, slug: str) -> None:
    check = await _check(prober, slug, token="expired-secret-token")
    assert not check.ok
    assert check.status is not None
    assert "refuses these credentials" in (check.error or "")
    assert "secret" not in (check.error or "")


@every_platform
@pytest.mark.parametrize(
    ("step", "answers", "said"),
    [
        ({"kind": "status", "status": 503}, True, "could not say"),
        ({"kind": "throttle", "retry_after": 60}, True, "could not say"),
        ({"kind": "html", "status": 200}, True, "could not say"),
        ({"kind": "slow", "seconds": 2}, False, "did not answer"),
        ({"kind": "reset"}, False, "did not answer"),
    ],
)
async def test_a_platform_that_is_not_itself(
    prober: Prober,
    sandbox: PlatformSandbox,
    slug: str,
    step: dict[str, object],
    answers: bool,
    said: str,
) -> None:
    sandbox.order(slug, **step)
    check = await _check(prober, slug)
    assert not check.ok
    assert said in (check.error or "")
    assert (check.status is not None) is answers


async def test_a_token_that_is_quoted_back_is_not_told() -> None:
    async def quote(request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        message = f"the token {token} is bad"
        return web.json_response({"error": {"code": 190, "message": message}}, status=401)

    app = web.Application()
    app.router.add_post("/{path:.*}", quote)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        settings = Settings(platforms={"meta": EndpointSettings(base_url=url)})
        prober = Prober(settings, JumpingClock())
        check = await _check(prober, "meta", token="EAAB")
        await prober.close()
    assert check == Check(
        ok=False, status=401, error="Meta refuses these credentials: 190: the token [token] is bad"
    )
