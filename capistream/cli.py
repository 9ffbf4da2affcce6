"""The command line: which commands there are, and how a failure is told."""

import sys
from typing import NoReturn

import orjson
import typer
from rich.console import Console

from capistream import (
    configure,
    contacts,
    dead_letters,
    destinations,
    domains,
    keyring,
    organisations,
    processes,
    traffic,
)
from runtime.errors import EXIT_CONFIG, CapistreamError, ConfigError

app = typer.Typer(
    name="capistream",
    help="One storefront event in, a correct copy at every ad platform out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(processes.up)
app.command()(processes.gateway)
app.command()(processes.streams)
app.command()(processes.sinks)
app.command()(processes.audit)
app.command("audit-rebuild")(processes.audit_rebuild)
app.command()(processes.manage)
app.command()(processes.sandbox)
app.command()(processes.health)
app.add_typer(configure.topics_app, name="topics")
app.add_typer(organisations.org_app, name="org")
app.add_typer(organisations.user_app, name="user")
app.add_typer(domains.domain_app, name="domain")
app.add_typer(destinations.destination_app, name="destination")
app.add_typer(keyring.keys_app, name="keys")
app.add_typer(contacts.contacts_app, name="contacts")
app.command("settings")(configure.show_settings)
app.command()(traffic.send)
app.command()(traffic.outcomes)
app.command()(traffic.alerts)
app.command()(traffic.replay)
app.add_typer(dead_letters.dead_letters_app, name="dead-letters")
app.command()(traffic.demo)


def main() -> NoReturn:
    """Run the command line. A failure that has a message for a person prints it and no
    traceback; settings that cannot work exit with 78, other failures with 1."""
    try:
        app()
    except CapistreamError as error:
        if "--json" in sys.argv:
            body = {"success": False, "error": {"message": str(error)}}
            sys.stderr.write(orjson.dumps(body).decode() + "\n")
        else:
            Console(stderr=True, highlight=False).print(
                f"error: {error}", markup=False, soft_wrap=True
            )
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else 1)
    sys.exit(0)
