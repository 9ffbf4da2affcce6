"""Calls of shops' servers, whose addresses are whatever somebody typed: nothing but public servers is
ever called, and no name can lead elsewhere between the check and the call."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, TypeAlias

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from runtime.http_client import read_up_to
from runtime.settings import ManageSettings

Address: TypeAlias = IPv4Address | IPv6Address
LookUp: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as text. Raises ``OSError`` when it has none."""

TIMEOUT_SECONDS: Final = 5.0
MAX_URL_CHARS: Final = 2000
MAX_ANSWER_BYTES: Final = 64 * 1024
"""Nothing in the answer is of use; more than this is not even waited for."""
_HTTPS_PORT: Final = 443
_FIRST_FREE_PORT: Final = 1024
"""Below are the ports of other protocols, which must not be talked to in this one."""

# Global by the registries, and still nobody's shop: the metadata service of Azure's machines, the relays
# from IPv4 to IPv6, and the prefix that documentation got in 2024.
_NOT_PUBLIC: Final = (
    IPv4Network("168.63.129.16/32"),
    IPv4Network("192.88.99.0/24"),
    IPv6Network("3fff::/20"),
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_IPV4_BITS: Final = 0xFFFFFFFF


class RefusedUrlError(ValueError):
    """An address that no callback may have; the message says why."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a call of a shop came to."""

    status: int | None
    """Of the answer; None when none came."""
    problem: str | None
    """One sentence; None when the shop answered 2xx."""


def is_public(address: Address) -> bool:
    """Whether an address is that of a server on the internet, and of no machine behind us."""
    inner = _inner(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    is_other = address.is_multicast or address.is_reserved or not address.is_global
    return not is_other and not any(address in network for network in _NOT_PUBLIC)


def check_url(text: str) -> URL:
    """The URL of a callback, as far as it can be judged without a look-up.

    Raises ``RefusedUrlError``.
    """
    if len(text) > MAX_URL_CHARS:
        raise RefusedUrlError(f"must be of at most {MAX_URL_CHARS} characters")
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise RefusedUrlError("is not a URL") from None
    if url.scheme not in {"https", "http"} or not url.host:
        raise RefusedUrlError("must be an https:// URL")
    if url.user is not None or url.password is not None:
        raise RefusedUrlError("must not hold a user name or a password")
    if url.scheme == "https" and port != _HTTPS_PORT and (port or 0) < _FIRST_FREE_PORT:
        raise RefusedUrlError(f"must have port {_HTTPS_PORT}, or one from {_FIRST_FREE_PORT} on")
    return url.with_fragment(None)


class CallbackClient:
    """Calls shops' servers."""

    def __init__(
        self,
        settings: ManageSettings,
        look_up: LookUp | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """``callback_networks`` of the settings may be called too, also over http."""
        self._networks = settings.callback_networks
        self._look_up = look_up or _system_look_up
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)

    async def check(self, text: str) -> URL:
        """The URL of a callback that may be called.

        Raises ``RefusedUrlError``.
        """
        url = check_url(text)
        await self._addresses(url)
        return url

    async def call(self, text: str, token: str, body: dict[str, Any]) -> Called:
        """Post ``body`` with the shop's own token; never raises for what the shop, or the way to it,
        does."""
        try:
            async with asyncio.timeout(self._timeout.total):
                return await self._call(text, token, body)
        except RefusedUrlError as error:
            return Called(None, f"The callback URL {error}.")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return Called(None, f"The shop did not answer ({type(error).__name__}).")

    async def _call(self, text: str, token: str, body: dict[str, Any]) -> Called:
        url = check_url(text)
        checked = await self._addresses(url)
        # A connector of its own: no connection, and no look-up, of an earlier check is used again.
        connector = aiohttp.TCPConnector(resolver=_Checked(checked), use_dns_cache=False)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            ) as session,
            session.post(
                url,
                data=orjson.dumps(body),
                headers={
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                    "User-Agent": "capistream",
                },
                allow_redirects=False,
            ) as answer,
        ):
            await read_up_to(answer, MAX_ANSWER_BYTES)
            if 200 <= answer.status < 300:
                return Called(answer.status, None)
            return Called(answer.status, f"The shop answered with status {answer.status}.")

    async def _addresses(self, url: URL) -> Sequence[str]:
        """The addresses of a URL's host, all of which may be called.

        Raises ``RefusedUrlError``.
        """
        host, port = url.host or "", url.port or 0
        try:
            async with asyncio.timeout(self._timeout.total):
                found = [host] if _parsed(host) else await self._look_up(host, port)
        except (OSError, TimeoutError, UnicodeError):
            found = []
        if not found:
            raise RefusedUrlError("names a host that has no address")
        for address in found:
            self._check(address, url.scheme)
        return found

    def _check(self, text: str, scheme: str) -> None:
        address = _parsed(text)
        if address is not None and self._is_ours(address):
            return
        if address is None or not is_public(address):
            raise RefusedUrlError("leads to an address that is not public")
        if scheme != "https":
            raise RefusedUrlError("must be an https:// URL")

    def _is_ours(self, address: Address) -> bool:
        forms = (address, _inner(address))
        return any(form in network for form in forms if form for network in self._networks)


class _Checked(AbstractResolver):
    """Answers with the addresses that were checked, and asks nobody."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    @override
    async def close(self) -> None:
        return


async def _system_look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _inner(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for, on the way there at the latest."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & _IPV4_BITS)
    return address.ipv4_mapped or address.sixtofour
