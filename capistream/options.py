"""The options that every command shares."""

from pathlib import Path
from typing import Annotated

import typer

from runtime.logs import configure_logs
from runtime.settings import LogSettings, Settings, load_settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Directory of state; a running `capistream up` is found by it. "
        "[default: CAPISTREAM_DATA_DIR or ./.capistream]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
LogsAsJson = Annotated[bool, typer.Option("--json", help="Log JSON, for collectors.")]


def settings_for(process: str, data: Path | None, logs_as_json: bool = False) -> Settings:
    """The settings in force, with this process's logging set up by them.

    Raises ``ConfigError``.
    """
    settings = load_settings(data)
    logs = LogSettings(level=settings.log.level, format="json") if logs_as_json else settings.log
    configure_logs(logs, process)
    return settings
