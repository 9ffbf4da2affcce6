"""A small DNS server over UDP: the zone is a table that the test fills."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from typing_extensions import override

TTL: Final = 60


class NameServer(asyncio.DatagramProtocol):
    """Answers as a resolver does: with what a name is a CNAME of, and that one's records."""

    def __init__(self) -> None:
        self.zone: dict[tuple[str, str], list[str]] = {}
        """(name, type) → values; every name that is not here does not exist."""
        self.failing: dict[str, dns.rcode.Rcode] = {}
        """Type → what is answered instead."""
        self.is_silent = False
        self.address = ""
        """``address:port``."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")
        self.address = f"{host}:{port}"

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.is_silent:
            return
        query = dns.message.from_wire(data)
        self._transport.sendto(self._answer(query).to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        if kind in self.failing:
            answer.set_rcode(self.failing[kind])
            return answer
        name = question.name.to_text().lower().rstrip(".")
        while True:
            if name not in {known for known, _ in self.zone}:
                answer.set_rcode(dns.rcode.NXDOMAIN)
            for found in {kind, "CNAME"}:
                if values := self.zone.get((name, found)):
                    answer.answer.append(dns.rrset.from_text(f"{name}.", TTL, "IN", found, *values))
            cname = self.zone.get((name, "CNAME"))
            if cname is None or kind == "CNAME":
                return answer
            name = cname[0].lower().rstrip(".")


@asynccontextmanager
async def running_name_server() -> AsyncIterator[NameServer]:
    """One on a free port of this machine."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, ("127.0.0.1", 0))
    yield server
    transport.close()
