"""Whose request it is, behind proxies."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.client_address import client_address

OURS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
STRANGER = "198.51.100.9"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (STRANGER, [], STRANGER),
        (STRANGER, ["203.0.113.7"], STRANGER),  # a stranger's word
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.7"], "203.0.113.7"),  # what the client made up is left
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7", "10.0.0.2"], "203.0.113.7"),  # two headers
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["2001:DB8::0007"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("fe80::1%eth0", [], "fe80::1"),
        (None, ["203.0.113.7"], None),
        ("unix-socket", ["203.0.113.7"], "unix-socket"),
    ],
)
def test_client_address(peer: str | None, forwarded: list[str], client: str | None) -> None:
    assert client_address(peer, forwarded, OURS) == client


@given(st.lists(st.text()), st.ip_addresses(v=4))
def test_nobody_who_is_not_trusted_can_pass_for_another(claims: list[str], peer: object) -> None:
    assert client_address(str(peer), claims, []) == str(peer)


@given(st.lists(st.text()))
def test_what_a_client_claims_does_not_hide_it_from_our_proxy(claims: list[str]) -> None:
    assert client_address("10.0.0.1", [*claims, STRANGER], OURS) == STRANGER
