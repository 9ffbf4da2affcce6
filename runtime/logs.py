"""Logging: events with fields, JSON in production and readable in a terminal, no secret in it."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from runtime.errors import CapistreamError
from runtime.settings import LogSettings

_CREDENTIAL: Final = re.compile(
    r"(?i)((?:access[_-]?token|authorization|bearer|password|secret)[\"']?\s*[=:]?\s*[\"']?)"
    r"(?:bearer\s+)?[^\s\"'&,}]{6,}"
)
"""What a credential looks like in a vendor's or a library's text. Our own lines never hold one;
this catches a text of theirs that does."""


def redact(text: str) -> str:
    """Blank what looks like a credential in a text that is not ours."""
    return _CREDENTIAL.sub(r"\1[redacted]", text)


def redact_url(url: str) -> str:
    """A URL without its password and its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    who = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{who}{host}{parts.path}"


def told(error: BaseException) -> str:
    """What may be logged of an exception: of ours what it says, of others only what it is.

    Theirs quote what they choked on: a shopper's address, the head of a request with its token. An
    ``OSError`` names a file or a host.
    """
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return f"{name}: {error}" if isinstance(error, CapistreamError | OSError) else name


def _traceback(exc_info: structlog.typing.ExcInfo) -> str:
    return "".join(_frames(exc_info[1], set())).rstrip()


def _frames(error: BaseException, shown: set[int]) -> Iterator[str]:
    """A traceback as Python writes it, with ``told`` in place of what the exceptions say."""
    shown.add(id(error))
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier is not None and id(earlier) not in shown:
        yield from _frames(earlier, shown)
        yield "\nThat led to:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{told(error)}\n"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _frames(each, shown)


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
        structlog.processors.ExceptionRenderer(_traceback),
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
    # Faust and its client build a record per message below warning level, an eighth of a worker;
    # SQLite's tells each statement with its values.
    for chatty in (
        "faust",
        "mode",
        "aiokafka",
        "asyncio",
        "aiohttp.access",
        "alembic",
        "aiosqlite",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(process=process)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
