"""Which events are taken and go to nobody: those of programs, and of whom the shop excludes. Pure.

They are answered like any other, so that a crawler learns nothing, and they are on record.
"""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from crawleruseragents import is_crawler

from schemas.config import DomainConfig
from schemas.outcome import Reason

_JUDGED_CHARS: Final = 512
"""As much of a user agent as is looked at: no browser says more, and looking takes time."""

_GENERIC: Final = re.compile(r"crawler|spider|scraper|bot/|/bot|bot-|bot$", re.IGNORECASE)
"""Words that no browser says of itself, beside the list of those that are known by name."""


def reason_to_withhold(
    domain: DomainConfig, address: str | None, user_agent: str | None, *, is_browser: bool
) -> Reason | None:
    """Why an event of this client goes to nobody, or None when it goes its way.

    ``is_browser`` says that the event came from a web page: only there a user agent that is none
    tells of a program. An order that a shop's own server reports has no browser at all.
    """
    if _is_excluded(domain, address, user_agent):
        return Reason.EXCLUDED
    if is_browser and is_program(user_agent):
        return Reason.BOT
    return None


def is_program(user_agent: str | None) -> bool:
    """Whether a user agent is empty, a crawler's, or that of a tool such as curl.

    The list is https://github.com/monperrus/crawler-user-agents.
    """
    return not user_agent or _is_program(user_agent[:_JUDGED_CHARS])


@lru_cache(maxsize=4096)
def _is_program(user_agent: str) -> bool:
    # A search of 1,500 names takes a tenth of a millisecond; shoppers share a few hundred agents.
    return _GENERIC.search(user_agent.strip()) is not None or is_crawler(user_agent)


def _is_excluded(domain: DomainConfig, address: str | None, user_agent: str | None) -> bool:
    if domain.excluded_agents and user_agent:
        said = user_agent.lower()
        if any(part.lower() in said for part in domain.excluded_agents):
            return True
    if not domain.excluded_addresses or not address:
        return False
    client = _parsed(address)
    return client is not None and any(client in network for network in domain.excluded_addresses)


@lru_cache(maxsize=4096)
def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        client = ip_address(address.strip())
    except ValueError:
        return None
    mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
    return mapped or client
