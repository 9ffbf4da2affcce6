"""Whose request it is, behind proxies that may be trusted and clients that may not. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_IPV6_CLIENT_BITS: Final = 64
"""A household has a /64 of its own: its single addresses are no different clients."""


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str | None:
    """The nearest address that is not a proxy of ours, or None when there is none to be had.

    ``forwarded_for`` are the values of the ``X-Forwarded-For`` headers in their order. Each proxy
    appends whom it heard from, so the list is read from the right, and only as long as the one who
    spoke is trusted: what stands left of the first stranger is that stranger's claim.
    """
    speaker = _parse(peer or "")
    if speaker is None:
        return peer
    if not trusted:
        return str(speaker)
    hops = [hop for value in forwarded_for for hop in value.split(",")]
    while hops and _is_in(speaker, trusted):
        told = _parse(hops.pop())
        if told is None:
            break
        speaker = told
    return str(speaker)


@lru_cache(maxsize=4096)
def client_of(address: str | None) -> str:
    """Who counts as one client: an IPv4 address, or the /64 network of an IPv6 address."""
    if address is None:
        return "unknown"
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), _IPV6_CLIENT_BITS), strict=False).network_address)
    return str(parsed)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    """An address with or without a port; an IPv4 address that is written as IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
