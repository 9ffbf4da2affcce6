"""Whether a storefront's host leads here: looked up on demand, the CNAME exactly."""

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from runtime.errors import UnavailableError

TIMEOUT_SECONDS: Final = 5.0
_MAX_NAMED: Final = 4
_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class Found:
    """What the name servers have of a host."""

    exists: bool = True
    cname: str | None = None
    """As it is written there, without the dot at its end."""
    addresses: tuple[str, ...] = ()
    """Of the host itself, not of what it is a CNAME of."""


async def look_up(host: str, resolver: str | None) -> Found:
    """Ask for a host's CNAME and addresses; ``resolver`` is ``address:port`` of the name server, the
    system's when None.

    Raises ``UnavailableError`` when no name server answers.
    """
    asked = _resolver(resolver)
    cnames, *addresses = await asyncio.gather(
        *(_values(asked, host, kind) for kind in ("CNAME", "A", "AAAA")), return_exceptions=True
    )
    if isinstance(cnames, dns.resolver.NXDOMAIN):
        return Found(exists=False)
    if isinstance(cnames, BaseException):
        raise UnavailableError(
            f"the name servers do not say what {host} is ({type(cnames).__name__}); try again"
        )
    # Of a CNAME's target, which is looked up along with the host, nothing needs to be known.
    own = [one for kind in addresses if isinstance(kind, list) for one in kind]
    return Found(cname=next(iter(cnames), None), addresses=tuple(own))


def problem(host: str, target: str, found: Found) -> str | None:
    """One sentence on what stands in the way of the host's leading to ``target``; None when nothing
    does."""
    record = f"set a CNAME record of it to {target}"
    if not found.exists:
        return f"There is no such name as {host}: {record}."
    if found.cname is None and not found.addresses:
        return f"{host} has no CNAME record: {record}."
    if found.addresses:
        named = ", ".join(found.addresses[:_MAX_NAMED])
        return f"{host} has address records ({named}) where only a CNAME may be: remove them and {record}."
    if _same(found.cname or "", target):
        return None
    return f"{host} is a CNAME of {found.cname}, not of {target}: change it."


def _same(one: str, other: str) -> bool:
    return one.rstrip(".").lower() == other.rstrip(".").lower()


def _resolver(address: str | None) -> dns.asyncresolver.Resolver:
    if address is None:
        resolver = dns.asyncresolver.Resolver()
    else:
        server = urlsplit(f"//{address}")
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [server.hostname or address]
        resolver.port = server.port or _PORT
    resolver.lifetime = TIMEOUT_SECONDS
    return resolver


async def _values(resolver: dns.asyncresolver.Resolver, host: str, kind: str) -> list[str]:
    """The host's own records of a kind.

    Raises ``DNSException``.
    """
    name = dns.name.from_text(host)
    answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
    wanted = dns.rdatatype.from_text(kind)
    own = (rrset for rrset in answer.response.answer if rrset.name == name)
    return [
        record.to_text().rstrip(".") for rrset in own if rrset.rdtype == wanted for record in rrset
    ]
