"""Where a host leads, asked of a real name server."""

from collections.abc import AsyncIterator
from typing import Final

import dns.rcode
import pytest

from manage import dns_check
from runtime.errors import UnavailableError
from tests.unit.manage.name_server import NameServer, running_name_server

HOST: Final = "ssp.shop.example"
TARGET: Final = "proxy.capistream.example"


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    """One whose zone is empty."""
    async with running_name_server() as started:
        yield started


async def _problem(server: NameServer, target: str = TARGET) -> str | None:
    found = await dns_check.look_up(HOST, server.address)
    return dns_check.problem(HOST, target, found)


@pytest.mark.parametrize("cname", [f"{TARGET}.", "Proxy.CAPISTREAM.example."])
@pytest.mark.parametrize("target", [TARGET, f"{TARGET}.", TARGET.upper()])
async def test_the_target_in_any_spelling(server: NameServer, cname: str, target: str) -> None:
    server.zone = {(HOST, "CNAME"): [cname], (TARGET, "A"): ["203.0.113.9"]}
    assert await _problem(server, target) is None


async def test_a_host_in_capitals(server: NameServer) -> None:
    server.zone = {(HOST, "CNAME"): [f"{TARGET}."]}
    found = await dns_check.look_up(HOST.upper(), server.address)
    assert dns_check.problem(HOST, TARGET, found) is None


async def test_a_target_that_does_not_exist_is_not_the_hosts_fault(server: NameServer) -> None:
    server.zone = {(HOST, "CNAME"): [f"{TARGET}."]}
    assert await _problem(server) is None
    server.failing = {"A": dns.rcode.SERVFAIL, "AAAA": dns.rcode.SERVFAIL}
    assert await _problem(server) is None


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ({}, f"There is no such name as {HOST}: set a CNAME record of it to {TARGET}."),
        ({(HOST, "TXT"): ['"x"']}, f"{HOST} has no CNAME record: set a CNAME record of it"),
        ({(HOST, "A"): ["203.0.113.9"]}, "has address records (203.0.113.9)"),
        ({(HOST, "AAAA"): ["2001:db8::9"]}, "has address records (2001:db8::9)"),
        (
            {(HOST, "A"): ["203.0.113.9"], (HOST, "AAAA"): ["2001:db8::9"]},
            "has address records (203.0.113.9, 2001:db8::9)",
        ),
        (
            {
                (HOST, "CNAME"): [f"{TARGET}."],
                (HOST, "A"): ["203.0.113.9"],
                (TARGET, "A"): ["203.0.113.8"],
            },
            "has address records (203.0.113.9)",
        ),
        ({(HOST, "CNAME"): ["other.example."]}, f"is a CNAME of other.example, not of {TARGET}"),
        ({(HOST, "CNAME"): [f"x.{TARGET}."]}, f"is a CNAME of x.{TARGET}, not of {TARGET}"),
        (
            {(HOST, "CNAME"): ["alias.example."], ("alias.example", "CNAME"): [f"{TARGET}."]},
            "is a CNAME of alias.example",
        ),
    ],
)
async def test_what_is_found_instead_is_named(
    server: NameServer, zone: dict[tuple[str, str], list[str]], said: str
) -> None:
    server.zone = zone
    assert said in (await _problem(server) or "")


async def test_many_addresses_are_cut(server: NameServer) -> None:
    server.zone = {(HOST, "A"): [f"203.0.113.{last}" for last in range(1, 10)]}
    problem = await _problem(server) or ""
    assert problem.count("203.0.113.") == 4


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_name_server_that_fails_says_nothing(
    server: NameServer, code: dns.rcode.Rcode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_check, "TIMEOUT_SECONDS", 0.5)
    server.failing = {"CNAME": code}
    with pytest.raises(UnavailableError, match=f"do not say what {HOST} is"):
        await dns_check.look_up(HOST, server.address)


async def test_a_name_server_that_is_silent_says_nothing(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_check, "TIMEOUT_SECONDS", 0.2)
    server.is_silent = True
    with pytest.raises(UnavailableError, match="try again"):
        await dns_check.look_up(HOST, server.address)
