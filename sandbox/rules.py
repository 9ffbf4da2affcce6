"""Questions that several vendors ask of an event, each in its own words."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")
CURRENCY = re.compile(r"[A-Z]{3}")
DECIMAL = re.compile(r"\d+(\.\d+)?")
DAY_SECONDS = 86_400
MAX_AHEAD_SECONDS = 300
"""How far in the future an event may lie. No vendor states a limit; all are known to have one."""


def is_sha256(value: Any) -> bool:
    """Whether a value is a SHA-256 digest in lower-case hex."""
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def first_unhashed(user: Mapping[str, Any], fields: Iterable[str]) -> str | None:
    """The first of ``fields`` that holds, alone or in a list, something other than a SHA-256."""
    for name in fields:
        value = user.get(name)
        if value is None:
            continue
        for each in value if isinstance(value, list) else (value,):
            if not is_sha256(each):
                return name
    return None


@lru_cache(maxsize=65_536)
def is_ip(value: str) -> bool:
    """Whether a text is one IPv4 or IPv6 address and nothing else."""
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def is_forbidden(token: str) -> bool:
    """Whether a token has no permission for the account: by agreement, ``forbidden…``."""
    return token.startswith("forbidden")


def is_expired(token: str) -> bool:
    """Whether a token has run out: by agreement, ``expired…``. Any other one is good."""
    return token.startswith("expired")


def is_marked(slug: str, event_id: Any) -> bool:
    """Whether an event asks, by its own id, to be refused by this platform."""
    return isinstance(event_id, str) and f"refuse-at-{slug}" in event_id
