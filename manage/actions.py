"""The audit log of what people, shops and the command line changed."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from manage.routes import Call
from manage.tables import AdminAction
from runtime import ids


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something."""

    name: str
    """A user's id, ``sync`` or ``command``."""
    request_id: str | None = None


COMMAND: Final = Actor("command")
"""The command line."""


def actor(call: Call[Any, Any]) -> Actor:
    """Whoever is logged in, else the shop's server."""
    return Actor(call.who.user_id if call.who else "sync", call.request_id)


def record(
    session: AsyncSession,
    by: Actor,
    action: str,
    target: str | None = None,
    *,
    organisation_id: str | None,
    at: int,
) -> None:
    """Record that something was changed, in the transaction that changes it.

    ``action`` is what was done to what kind of thing (``domain.add``), ``target`` which thing.
    """
    session.add(
        AdminAction(
            id=ids.new_id("act"),
            at=at,
            organisation_id=organisation_id,
            actor=by.name,
            action=action,
            target=target,
            request_id=by.request_id,
        )
    )
