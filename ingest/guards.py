"""Who may come in: the checks of a request before its body is looked at, in their order."""

from typing import Final

from aiohttp import web

from ingest.client_address import client_address
from ingest.context import FEED, SETTINGS, TOKENS
from ingest.errors import ErrorCode, RefusedError, unavailable
from schemas.config import DomainConfig, Subscription

TOKEN_HEADER: Final = "X-SSP-Token"  # noqa: S105 - a header's name


def find_domain(request: web.Request) -> DomainConfig:
    """The domain of the request's ``Host``, if its plan is active.

    Raises ``RefusedError``.
    """
    feed = request.app[FEED]
    host = host_of(request.host)
    domain = feed.by_host(host)
    if domain is None:
        if not feed.is_caught_up:
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

    Raises ``RefusedError``.
    """
    token = request.headers.get(TOKEN_HEADER)
    if token is None:
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
