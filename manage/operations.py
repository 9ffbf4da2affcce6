"""What the management API and the command line both have done: changes that ask the world first."""

from dataclasses import dataclass

from manage import dns_check
from manage.callbacks import CallbackClient, Called
from manage.errors import ErrorCode
from manage.probe import Check, Prober
from manage.rows import RefusedChangeError, Which
from manage.store import Store
from runtime.settings import ManageSettings


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look-up of a domain's host came to."""

    problem: str | None
    """What stands in the way of its leading here; None when nothing does."""
    message: str
    """The problem, or that there is none."""


async def verify(store: Store, settings: ManageSettings, which: Which) -> Verified:
    """Look up whether a domain's host leads here, and keep what was found.

    Raises ``RefusedChangeError`` for an unknown domain, ``UnavailableError`` when no name server
    answers: what was known before stays then.
    """
    row = await store.domain(which)
    target = settings.cname_target
    if target is None:
        await store.note_dns(which, None)
        return Verified(
            None,
            "No host is set for storefronts to be a CNAME of (CAPISTREAM_MANAGE__CNAME_TARGET), so "
            "that any counts as leading here.",
        )
    found = await dns_check.look_up(row.host, settings.dns_resolver)
    problem = dns_check.problem(row.host, target, found)
    await store.note_dns(which, problem)
    return Verified(problem, problem or f"{row.host} is a CNAME of {target}.")


async def resync(store: Store, callbacks: CallbackClient, which: Which) -> Called:
    """Ask the shop to push its configuration, and keep what came of it.

    Raises ``RefusedChangeError`` for an unknown domain, or one whose shop never said where to ask.
    """
    row = await store.domain(which)
    known = await store.callback(which)
    if known is None:
        raise RefusedChangeError(
            ErrorCode.CONFLICT,
            "the shop has not registered a callback; have it sync once by itself",
        )
    called = await callbacks.call(known.url, known.token, {"domain_id": row.id, "reason": "resync"})
    await store.note_callback(which, called.problem)
    return called


async def check(store: Store, prober: Prober, which: Which, destination_id: str) -> Check:
    """Try a destination's credentials at its platform, and keep what it said.

    Raises ``RefusedChangeError`` for an unknown domain or destination.
    """
    said = await prober.check(*await store.credentials(which, destination_id))
    await store.note_checks({destination_id: said})
    return said
