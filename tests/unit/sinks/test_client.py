"""The HTTP call: what is sent, and what is made of each way to answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from platforms.base import Request
from platforms.registry import PLATFORMS
from sinks.client import MAX_ANSWER_BYTES, PlatformClient, UnreachableError

META = PLATFORMS["meta"]
REQUEST = Request("/v1/a%2Fb", b'{"data":[]}', {"Authorization": "Bearer canary"}, {"token": "c&d"})
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[PlatformClient]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that answers as told, and a client of it."""
    started: list[tuple[TestServer, PlatformClient]] = []

    async def start(answer: Answer) -> PlatformClient:
        app = web.Application()
        app.router.add_post("/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        client = PlatformClient({"meta": str(server.make_url("")).rstrip("/")}, 0.15)
        started.append((server, client))
        return client

    yield start
    for server, client in started:
        await client.close()
        await server.close()


async def test_a_request_arrives_as_it_was_described(serve: Serve) -> None:
    async def echo(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer canary"
        assert (request.raw_path, request.query["token"]) == ("/v1/a%2Fb?token=c%26d", "c&d")
        return web.Response(body=await request.read(), status=207, headers={"X-Usage": "1"})

    response = await (await serve(echo)).send(META, REQUEST)
    assert (response.status, response.body) == (207, REQUEST.body)
    assert response.headers["x-usage"] == "1"


async def in_parts(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for part in (b'{"events_', b"received", b'":1}'):
        await answer.write(part)
        await asyncio.sleep(0.02)
    return answer


async def test_an_answer_that_comes_in_parts_is_read_to_its_end(serve: Serve) -> None:
    response = await (await serve(in_parts)).send(META, REQUEST)
    assert response.body == b'{"events_received":1}'


async def test_an_answer_without_end_is_cut(serve: Serve) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 2**18)

    response = await (await serve(endless)).send(META, REQUEST)
    assert MAX_ANSWER_BYTES <= len(response.body) < 3 * MAX_ANSWER_BYTES


async def test_a_redirect_is_an_answer_not_a_journey(serve: Serve) -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/"})

    assert (await (await serve(elsewhere)).send(META, REQUEST)).status == 307


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(0.2)
    return web.Response()


async def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("answer", [slow, hang_up])
async def test_no_answer_says_nothing_of_the_url(serve: Serve, answer: Answer) -> None:
    client = await serve(answer)
    with pytest.raises(UnreachableError) as error:
        await client.send(META, REQUEST)
    assert str(error.value).startswith("Meta: ")
    assert not any(text in str(error.value) for text in ("127.0.0.1", "canary", "c&d"))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
