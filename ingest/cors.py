"""Which pages may send from a browser: https://fetch.spec.whatwg.org/#http-cors-protocol. Pure."""

from typing import Final
from urllib.parse import urlsplit

from schemas.config import DomainConfig

PREFLIGHT_SECONDS: Final = 24 * 3600
"""How long a browser may keep the answer to a preflight; Chromium keeps it for two hours."""


READABLE_HEADERS: Final = (
    "Retry-After, X-Request-Id, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
"""What a page's script may read of an answer besides its body."""


def is_allowed(origin: str, domain: DomainConfig) -> bool:
    """Whether a page of ``origin`` belongs to the storefront.

    The shop's own origins are those of its host, of the hosts above it (the gateway of
    ``shop.example`` is often ``ssp.shop.example``), and ``www.`` of any of these; others are named
    in the configuration.
    """
    if origin in domain.allowed_origins:
        return True
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    if page.scheme != "https" or not page.hostname:
        return False
    shop = page.hostname.removeprefix("www.")
    # A shop has a dot in its name: the page of a bare top-level domain is nobody's shop.
    return "." in shop and (domain.host == shop or domain.host.endswith(f".{shop}"))


def answer_headers(origin: str) -> dict[str, str]:
    """What lets the page read the answer."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": READABLE_HEADERS,
        "Vary": "Origin",
    }


def preflight_headers(origin: str) -> dict[str, str]:
    """What lets the page send."""
    return answer_headers(origin) | {
        "Access-Control-Allow-Methods": "POST",
        "Access-Control-Allow-Headers": "Content-Type, X-SSP-Token",
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
