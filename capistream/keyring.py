"""Commands about the vault's keys, which seal credentials.

A key is changed in three steps, so that nothing is ever sealed with a key that another process lacks: give
every process the new key beside the old one, make it the active one, and have everything sealed again.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from capistream import output
from capistream.changes import Desk, at_desk
from capistream.options import AsJson, DataDir, settings_for
from runtime.clock import SystemClock
from runtime.errors import CapistreamError, ConfigError
from runtime.settings import SECRETS_FILE, load_settings

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from manage.keys import Rotated

keys_app = typer.Typer(help="The vault's keys, which seal credentials.", no_args_is_help=True)


@keys_app.command("new")
def keys_new(
    key_id: Annotated[
        str | None, typer.Argument(help="Its name. [default: the date]", show_default=False)
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Put it into the data directory of an embedded stack, as the active one; it is "
            "used from the next start on.",
        ),
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown this once, unless it is written: keep a copy."""
    from capistream.embedded import add_key, random_key

    settings = settings_for("keys", data)
    name, key = _free_name(key_id, settings.vault.keys), random_key()
    if write:
        add_key(settings.data_dir, name, key)
        if load_settings(settings.data_dir).vault.active_key_id != name:
            raise ConfigError(
                "CAPISTREAM_VAULT__ACTIVE, or CAPISTREAM_VAULT__KEYS, is set and hides the key that was "
                f"written: name {name!r} there"
            )
        path = settings.data_dir / SECRETS_FILE
        output.print_fields({"keyId": name, "written": str(path)}, as_json=as_json)
    elif as_json:
        output.print_json({"keyId": name, "key": key})
    else:
        line = orjson.dumps({name: key}).decode()
        output.console.out(f"CAPISTREAM_VAULT__KEYS={line}", highlight=False)


@keys_app.command("rotate")
def keys_rotate(data: DataDir = None, as_json: AsJson = False) -> None:
    """Seal every credential again that is not sealed with the active key. It may be stopped and run
    again; `capistream manage` does the same by itself, slowly."""
    from manage.actions import COMMAND
    from manage.keys import Rotation
    from manage.publish import DELIVERY_TIMEOUT_SECONDS, Publisher
    from runtime.vault import Vault

    with output.progress(as_json=as_json) as show:

        def told(done: "Rotated") -> None:
            show(f"{done.sealed} sealed again, {done.left} left")

        async def rotate(desk: Desk) -> "Rotated":
            publisher = Publisher(desk.settings, DELIVERY_TIMEOUT_SECONDS)
            vault = Vault(desk.settings.vault)
            rotation = Rotation(desk.database, desk.store, publisher, vault, desk.clock)
            try:
                return await rotation.run(COMMAND, told)
            finally:
                await publisher.close()

        done = at_desk(data, rotate)
    output.print_fields({"sealed": done.sealed, "failed": done.failed}, as_json=as_json)
    if done.failed:
        raise typer.Exit(1)


@keys_app.command("status")
def keys_status(data: DataDir = None, as_json: AsJson = False) -> None:
    """Count what is sealed with which key, and tell which keys are not needed any more."""
    from manage.keys import read_seals, statuses
    from runtime.vault import Vault

    async def read(desk: Desk) -> list[dict[str, object]]:
        return [
            {
                "keyId": one.key_id,
                "seals": one.seals,
                "active": one.is_active,
                "known": one.is_known,
                "needed": one.is_needed,
            }
            for one in statuses(Vault(desk.settings.vault), await read_seals(desk.database))
        ]

    output.print_table(at_desk(data, read), key="keys", none="No key.", as_json=as_json)


def _free_name(wanted: str | None, taken: "Container[str]") -> str:
    """A name that no key has; of today, if none is wanted.

    Raises ``CapistreamError``.
    """
    if wanted is not None:
        if wanted in taken or not wanted.strip():
            raise CapistreamError(f"there is a key {wanted!r} already; choose another name")
        return wanted
    today = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).date().isoformat()
    return next(name for name in _numbered(today) if name not in taken)


def _numbered(name: str) -> "Iterator[str]":
    yield name
    yield from (f"{name}-{number}" for number in count(2))
