"""Logging: events with fields, JSON in production and readable in a terminal, no secret in it."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from runtime.settings import LogSettings

_CREDENTIAL: Final = re.compile(
    r"(?i)((?:access[_-]?token|authorization|bearer|password|secret)[\"']?\s*[=:]?\s*[\"']?)"
    r"(?:bearer\s+)?[^\s\"'&,}]{6,}"
)
"""What a credential looks like in a vendor's or a library's text. Our own lines never hold one;
this catches the text of an exception that does."""


def redact(text: str) -> str:
    """Blank what looks like a credential in a text that is not ours."""
    return _CREDENTIAL.sub(r"\1[redacted]", text)


def redact_url(url: str) -> str:
    """A URL without its password and its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    who = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{who}{host}{parts.path}"


def _redact_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
    return event


def configure_logs(settings: LogSettings, process: str) -> None:
    """Set up logging of this process, ours and the libraries', to standard error."""
    readable = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_values,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.level.upper())
    # Faust and its client build a record per message below warning level, an eighth of a worker.
    for chatty in ("faust", "mode", "aiokafka", "asyncio", "aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
