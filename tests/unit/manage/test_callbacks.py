"""Which addresses may be called, and that nothing else ever is."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from manage import callbacks
from manage.callbacks import CallbackClient, RefusedUrlError, check_url, is_public
from runtime.settings import ManageSettings

PUBLIC: Final = "8.8.8.8"
BODY: Final = {"domain_id": "dom_1", "reason": "resync"}
LOOPBACK: Final = ManageSettings(callback_networks=(IPv4Network("127.0.0.0/8"),))
V4 = st.ip_addresses(v=4)
NOWHERE: Final = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
]
NOWHERE_V6: Final = [
    *("::/8", "100::/64", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8", "2001:db8::/32"),
    *("3fff::/20", "64:ff9b:1::/48", "5f00::/16", "4000::/3"),
]
FORMS: Final[dict[str, Callable[[IPv4Address], IPv6Address]]] = {
    "mapped": lambda inner: IPv6Address(0xFFFF << 32 | int(inner)),
    "6to4": lambda inner: IPv6Address(0x2002 << 112 | int(inner) << 80),
    "nat64": lambda inner: IPv6Address(0x64FF9B << 96 | int(inner)),
}


def inside(network: str) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    """Its addresses."""
    known = (IPv6Network if ":" in network else IPv4Network)(network)
    first = int(known.network_address)
    kind = IPv6Address if ":" in network else IPv4Address
    return st.integers(first, first + known.num_addresses - 1).map(kind)


@pytest.mark.parametrize("network", [*NOWHERE, *NOWHERE_V6])
@given(data=st.data())
def test_no_address_that_is_nobodys_server(network: str, data: st.DataObject) -> None:
    address = data.draw(inside(network))
    is_form = address in IPv6Network("64:ff9b::/96") or address in IPv6Network("::ffff:0:0/96")
    assert is_form or not is_public(address)


@pytest.mark.parametrize("form", FORMS)
@given(inner=V4)
def test_an_address_in_another_form_is_what_it_stands_for(form: str, inner: IPv4Address) -> None:
    assert is_public(FORMS[form](inner)) == is_public(inner)


@given(address=st.ip_addresses())
def test_what_is_public_is_global_and_no_group(address: IPv4Address | IPv6Address) -> None:
    if is_public(address) and isinstance(address, IPv4Address):
        assert address.is_global
        marks = (
            *("is_private", "is_multicast", "is_reserved"),
            *("is_loopback", "is_link_local", "is_unspecified"),
        )
        assert not any(getattr(address, mark) for mark in marks)


@pytest.mark.parametrize("text", [PUBLIC, "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::200e"])
def test_servers_are_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shop.example/x", "https"),
        ("ftp://shop.example/x", "https"),
        ("file:///etc/passwd", "https"),
        ("https://", "https|not a URL"),
        ("https://[::1", "not a URL"),
        ("https://shop.example:99999/", "not a URL"),
        ("https://me@shop.example/", "user name"),
        ("https://me:secret@shop.example/", "user name"),
        ("https://shop.example:25/", "port"),
        ("https://shop.example:0/", "port"),
        ("https://shop.example:80/", "port"),
        ("https://shop.example/" + "x" * 2000, "2000"),
    ],
)
def test_urls_that_are_refused_by_sight(url: str, said: str) -> None:
    with pytest.raises(RefusedUrlError, match=said):
        check_url(url)


def client(
    *answers: Sequence[str], settings: ManageSettings | None = None
) -> tuple[CallbackClient, list[str]]:
    """A client whose look-ups answer these in turn, and what was looked up."""
    asked: list[str] = []

    async def look_up(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        if not answers:
            raise socket.gaierror
        return answers[min(len(asked), len(answers)) - 1]

    return CallbackClient(settings or ManageSettings(), look_up, timeout_seconds=1), asked


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "0.0.0.0", "10.1.2.3", "169.254.169.254"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"),
        *("[2002:7f00:1::]", "[fd00:ec2::254]", "[fe80::1%25eth0]"),
    ],
)
async def test_addresses_as_hosts(host: str) -> None:
    made, asked = client([PUBLIC])
    with pytest.raises(RefusedUrlError, match="not public"):
        await made.check(f"https://{host}/resync")
    assert (await made.call(f"https://{host}/resync", "t", {})).problem
    assert asked == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost"])
async def test_addresses_in_disguise(host: str) -> None:
    with pytest.raises(RefusedUrlError, match=r"not public|no address"):
        await CallbackClient(ManageSettings()).check(f"https://{host}/")


@pytest.mark.parametrize("bad", ["127.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0", "nonsense"])
async def test_one_bad_address_among_good_ones_is_enough(bad: str) -> None:
    for addresses in ([bad, PUBLIC], [PUBLIC, bad]):
        made, _ = client(addresses)
        with pytest.raises(RefusedUrlError, match="not public"):
            await made.check("https://shop.example/")


async def test_a_host_without_address() -> None:
    made, _ = client()
    with pytest.raises(RefusedUrlError, match="no address"):
        await made.check("https://shop.example/")
    called = await made.call("https://shop.example/", "t", {})
    assert (called.status, called.problem) == (
        None,
        "The callback URL names a host that has no address.",
    )


async def test_what_may_be_called() -> None:
    made, asked = client([PUBLIC, "2606:4700::1111"])
    assert str(await made.check("https://shop.example/a?b=c#d")) == "https://shop.example/a?b=c"
    assert (await made.check("https://shop.example:8443/")).port == 8443
    assert asked == ["shop.example"] * 2
    with pytest.raises(RefusedUrlError, match="https"):
        await made.check("http://shop.example/")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_networks_of_ones_own(host: str) -> None:
    made, _ = client([PUBLIC], settings=LOOPBACK)
    assert await made.check(f"http://{host}:81/")
    with pytest.raises(RefusedUrlError):
        await made.check("http://10.0.0.1/")


# The call

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Answer], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a shop's server on loopback; answers its URL under another host's name."""
    started: list[TestServer] = []

    async def start(answer: Answer) -> str:
        app = web.Application()
        app.router.add_post("/resync", answer)
        server = TestServer(app)
        await server.start_server()
        started.append(server)
        return f"http://shop.example:{server.port}/resync"

    yield start
    for server in started:
        await server.close()


async def test_a_shop_is_told_by_whom_and_why(serve: Serve) -> None:
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.host.split(":")[0], request.headers["Authorization"]))
        assert await request.json() == BODY
        return web.Response(status=204)

    made, asked = client(["127.0.0.1"], settings=LOOPBACK)
    called = await made.call(await serve(answer), "shop-token", BODY)
    assert (called.status, called.problem) == (204, None)
    assert seen == [("shop.example", "Bearer shop-token")]
    assert asked == ["shop.example"]


async def test_a_name_that_leads_elsewhere_after_the_check(serve: Serve) -> None:
    """The classic: public when it is looked at, loopback when it is called."""
    calls = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response()

    port = (await serve(answer)).split(":")[2].split("/")[0]
    made, asked = client([PUBLIC], ["127.0.0.1"])
    await made.check(f"https://shop.example:{port}/resync")
    called = await made.call(f"https://shop.example:{port}/resync", "t", BODY)
    assert (called.status, calls) == (None, [])
    assert called.problem == "The callback URL leads to an address that is not public."
    assert asked == ["shop.example"] * 2


async def test_what_was_checked_is_what_is_called(serve: Serve) -> None:
    """One look-up for one call: a second one would answer with an address where nobody is."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    made, asked = client(["127.0.0.1"], ["127.9.9.9"], settings=LOOPBACK)
    called = await made.call(await serve(answer), "t", BODY)
    assert (called.status, asked) == (200, ["shop.example"])


async def test_a_redirect_is_not_followed(serve: Serve) -> None:
    calls = []

    async def answer(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(status=307, headers={"Location": "/resync"})

    made, _ = client(["127.0.0.1"], settings=LOOPBACK)
    called = await made.call(await serve(answer), "t", BODY)
    assert (called.status, called.problem) == (307, "The shop answered with status 307.")
    assert calls == ["/resync"]


async def test_no_proxy_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response()

    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    made, _ = client(["127.0.0.1"], settings=LOOPBACK)
    assert (await made.call(await serve(answer), "t", BODY)).status == 200


async def test_an_answer_without_end_is_left(serve: Serve) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while sent < 100_000_000:
            await answer.write(b"x" * 2**16)
            sent += 2**16
        return answer

    made, _ = client(["127.0.0.1"], settings=LOOPBACK)
    called = await made.call(await serve(endless), "t", BODY)
    assert (called.status, called.problem) == (200, None)
    assert sent < 50_000_000


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(1)
    return web.Response()


async def dripping(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    for _ in range(20):
        await answer.write(b"x")
        await asyncio.sleep(0.05)
    return answer


async def hang_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("answer", [slow, dripping, hang_up])
async def test_a_shop_that_does_not_answer(serve: Serve, answer: Answer) -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    made = CallbackClient(LOOPBACK, look_up, timeout_seconds=0.2)
    called = await made.call(await serve(answer), "secret", BODY)
    assert called.status is None
    assert (called.problem or "").startswith("The shop did not answer (")
    assert "secret" not in (called.problem or "")


async def test_a_look_up_that_hangs() -> None:
    async def look_up(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return [PUBLIC]

    made = CallbackClient(ManageSettings(), look_up, timeout_seconds=0.1)
    with pytest.raises(RefusedUrlError, match="no address"):
        await made.check("https://shop.example/")
    assert (await made.call("https://shop.example/", "t", {})).status is None


def test_no_shop_waits_long() -> None:
    assert callbacks.TIMEOUT_SECONDS == 5
    assert callbacks.MAX_ANSWER_BYTES == 64 * 1024
