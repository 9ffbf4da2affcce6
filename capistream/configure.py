"""Commands that set up: topics, and the settings in force.

What is slow to load is imported where it is used, so that ``--help`` is not.
"""

import asyncio

import typer

from capistream import output
from capistream.changes import Desk, at_desk
from capistream.options import AsJson, DataDir, settings_for
from runtime.logs import redact_url
from schemas.topics import DOMAIN_CONFIGS, topic_table

topics_app = typer.Typer(help="The topics on Kafka.", no_args_is_help=True)


@topics_app.command("apply")
def topics_apply(data: DataDir = None, as_json: AsJson = False) -> None:
    """Create the topics that are missing."""
    from platforms.registry import PLATFORMS
    from runtime.kafka import TopicAdmin

    settings = settings_for("topics", data)
    created = TopicAdmin(settings.kafka).create(topic_table(PLATFORMS))
    output.print_lines(created, key="created", none="Every topic is there.", as_json=as_json)


@topics_app.command("check")
def topics_check(data: DataDir = None, as_json: AsJson = False) -> None:
    """Compare the topics with what they should be; exits 1 when they differ."""
    from platforms.registry import PLATFORMS
    from runtime.kafka import TopicAdmin

    settings = settings_for("topics", data)
    found = TopicAdmin(settings.kafka).differences(topic_table(PLATFORMS))
    output.print_lines(found, key="differences", none="No difference.", as_json=as_json)
    if found:
        raise typer.Exit(1)


@topics_app.command("rebuild")
def topics_rebuild(data: DataDir = None, as_json: AsJson = False) -> None:
    """Put every domain's configuration on Kafka again, from the database. The topic is made if it is
    gone; running processes follow it."""
    from manage.publish import DELIVERY_TIMEOUT_SECONDS, Publisher
    from manage.reconcile import Rebuilt, rebuild
    from runtime.kafka import TopicAdmin

    async def work(desk: Desk) -> Rebuilt:
        rows = [row for row in topic_table(()) if row.name == DOMAIN_CONFIGS]
        await asyncio.to_thread(TopicAdmin(desk.settings.kafka).create, rows)
        publisher = Publisher(desk.settings, DELIVERY_TIMEOUT_SECONDS)
        try:
            return await rebuild(desk.database, desk.store, publisher)
        finally:
            await publisher.close()

    output.print_fields(at_desk(data, work)._asdict(), as_json=as_json)


def show_settings(data: DataDir = None, as_json: AsJson = False) -> None:
    """Print the settings in force, secrets left out."""
    settings = settings_for("settings", data)
    values = settings.model_dump(mode="json")
    values["database"]["url"] = redact_url(settings.database_url)
    values["redis"]["url"] = redact_url(settings.redis.url.get_secret_value())
    if as_json:
        output.print_json(values, indent=True)
        return
    output.print_fields(_flat("CAPISTREAM", values), as_json=False)


def _flat(prefix: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    separator = "_" if prefix == "CAPISTREAM" else "__"
    found: dict[str, object] = {}
    for name, inner in value.items():
        found |= _flat(f"{prefix}{separator}{name.upper()}", inner)
    return found
