"""Commands for a person's rights: what is remembered of a contact, and forgetting it.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, TypeVar

import typer

from capistream import output
from capistream.options import AsJson, DataDir, settings_for
from capistream.traffic import configured_domain
from runtime.clock import SystemClock
from runtime.errors import UnavailableError
from schemas.event import UserData

if TYPE_CHECKING:
    from streams.memory import Memory
    from streams.touches import Touch

contacts_app = typer.Typer(help="What is remembered of a shop's contacts.", no_args_is_help=True)

Host = Annotated[str, typer.Argument(help="The storefront's host, such as shop.example.")]
ExternalId = Annotated[
    str | None, typer.Option(help="The shop's id of the customer, plain or as SHA-256.")
]
Email = Annotated[str | None, typer.Option(help="The e-mail address, plain or as SHA-256.")]

Answer = TypeVar("Answer")
_Ask: TypeAlias = Callable[["Memory", str, tuple[str, ...]], Awaitable[Answer]]

_NONE: Final = "Nothing is remembered of this contact."


@contacts_app.command("show")
def contacts_show(
    host: Host,
    external_id: ExternalId = None,
    email: Email = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what is remembered of a contact: clicks and campaigns of the last 90 days."""
    found = _of_contact(
        data, host, external_id, email, lambda memory, *contact: memory.touches(*contact)
    )
    # Each touch is kept under every name of the contact.
    touches = {touch.source: touch for touches in found.values() for touch in touches}
    told = _told(touches.values())
    if as_json:
        output.print_json({"touches": told})
    elif not told:
        output.console.print(_NONE)
    for fields in [] if as_json else told:
        output.print_fields(fields, as_json=False)
        output.console.print()


@contacts_app.command("forget")
def contacts_forget(
    host: Host,
    external_id: ExternalId = None,
    email: Email = None,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is remembered of a contact, under each of its names."""
    forgotten = _of_contact(
        data, host, external_id, email, lambda memory, *contact: memory.forget(*contact)
    )
    output.print_fields({"forgotten": forgotten}, as_json=as_json)


def _of_contact(
    data: Path | None, host: str, external_id: str | None, email: str | None, ask: _Ask[Answer]
) -> Answer:
    """What the memory answers for a contact of ``host``."""
    from redis.exceptions import RedisError

    from runtime.redis import connect
    from streams.memory import Memory
    from streams.remember import contacts_of

    contact = contacts_of(UserData.model_validate({"externalId": external_id, "email": email}))
    if not contact:
        raise typer.BadParameter("say whom: --external-id or --email")
    settings = settings_for("contacts", data)

    async def run() -> Answer:
        domain = await configured_domain(settings, host)
        client = connect(settings.redis)
        try:
            memory = Memory(client, SystemClock(), settings.kafka.topic_prefix)
            return await ask(memory, domain.domain_id, contact)
        except RedisError:
            raise UnavailableError("Redis does not answer; CAPISTREAM_REDIS__URL") from None
        finally:
            await client.aclose()

    return asyncio.run(run())


def _told(touches: Iterable["Touch"]) -> list[dict[str, object]]:
    """Touches as they are printed, in the order in which they came."""
    return [
        {
            "receivedAt": touch.at,
            "clickIds": dict(touch.clicks),
            "utm": dict(touch.utm),
            "page": touch.page,
            "referrer": touch.referrer,
            "source": touch.source,
        }
        for touch in sorted(touches, key=lambda touch: (touch.at, touch.source))
    ]
