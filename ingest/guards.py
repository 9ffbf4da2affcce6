"""Who may come in: the checks of a request before its body is looked at, in their order."""

import hmac
from typing import Final

from aiohttp import hdrs, web

from ingest.context import FEED, SETTINGS, TOKENS
from ingest.errors import ErrorCode, RefusedError, unavailable
from runtime.client_address import client_address
from runtime.vault import hash_sync_token
from schemas.config import DomainConfig, Subscription

TOKEN_HEADER: Final = "X-SSP-Token"  # noqa: S105 - a header's name
TOKEN_PARAMETER: Final = "token"  # noqa: S105 - a parameter's name


def find_domain(request: web.Request) -> DomainConfig:
    """The domain of the request's ``Host``, if its plan is active.

    Raises ``RefusedError``.
    """
    host = host_of(request.host)
    return _active(request, request.app[FEED].by_host(host), host)


def find_shop(request: web.Request) -> DomainConfig:
    """The domain whose sync token the request brings, if its plan is active.

    The host is the domain's own, or, at an address that is no storefront's, the token alone tells.

    Raises ``RefusedError``.
    """
    feed = request.app[FEED]
    host = host_of(request.host)
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    given = hash_sync_token(token.strip())
    domain = _active(request, feed.by_host(host) or feed.by_sync_token(given), host)
    if scheme.lower() != "bearer" or not token.strip():
        raise RefusedError(
            ErrorCode.INVALID_TOKEN, "the header Authorization: Bearer <sync token> is missing"
        )
    if not hmac.compare_digest(given, domain.sync_token_sha256):
        raise RefusedError(ErrorCode.INVALID_TOKEN, "the sync token is not this domain's")
    return domain


def _active(request: web.Request, domain: DomainConfig | None, host: str) -> DomainConfig:
    if domain is None:
        if not request.app[FEED].is_caught_up:
            raise unavailable("the configuration has not been read yet")
        raise RefusedError(
            ErrorCode.DOMAIN_NOT_CONFIGURED,
            f"no domain is configured for the host {host[:253]!r}",
        )
    if domain.subscription is not Subscription.ACTIVE:
        raise RefusedError(ErrorCode.SUBSCRIPTION_INACTIVE, "this domain's plan is not active")
    return domain


def host_of(header: str) -> str:
    """The host of a ``Host`` header: lower case, without port and trailing dot."""
    host = header.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].rstrip(".")


def check_token(request: web.Request, domain: DomainConfig) -> None:
    """Compare the domain token in constant time.

    A page that sends with ``navigator.sendBeacon`` cannot set a header: it names the token, which
    is readable in the page anyway, in the address.

    Raises ``RefusedError``.
    """
    token = request.headers.get(TOKEN_HEADER) or request.query.get(TOKEN_PARAMETER)
    if not token:
        raise RefusedError(ErrorCode.INVALID_TOKEN, f"the header {TOKEN_HEADER} is missing")
    if not request.app[TOKENS].matches(token, domain.domain_id, domain.token_generation):
        raise RefusedError(ErrorCode.INVALID_TOKEN, f"the {TOKEN_HEADER} is not this domain's")


def address_of(request: web.Request) -> str | None:
    """The client's address, seen through the proxies that the settings trust."""
    return client_address(
        request.remote,
        request.headers.getall("X-Forwarded-For", ()),
        request.app[SETTINGS].gateway.trusted_proxies,
    )
