"""No credential gets into a log."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.logs import redact, redact_url

CANARY = "EAABcanary0123456789"
PROGRAM = """
import logging, sys
from runtime.logs import configure_logs, get_logger
from runtime.settings import LogSettings
configure_logs(LogSettings(format=sys.argv[1]), "sinks")
log = get_logger("test")
text = "no: {'access_token': '%s'}" % sys.argv[2]
log.warning("It failed.", error=text)
try:
    raise ValueError("Authorization: Bearer " + sys.argv[2])
except ValueError:
    log.exception("A request failed.", batch=3)
    logging.getLogger("library").exception("password=%s", sys.argv[2])
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_token_in_the_text_of_an_exception_is_blanked(form: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, form, CANARY],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert ran.stdout == ""
    assert CANARY not in ran.stderr
    assert ran.stderr.count("[redacted]") >= 2
    assert "A request failed." in ran.stderr
    assert "ValueError" in ran.stderr
    if form == "json":
        lines = [json.loads(line) for line in ran.stderr.splitlines()]
        assert [line["level"] for line in lines] == ["warning", "error", "error"]
        assert {line["process"] for line in lines} == {"sinks"}
        assert lines[1]["batch"] == 3


QUOTING = """
import logging, sys
from runtime.errors import CapistreamError
from runtime.logs import configure_logs, get_logger
from runtime.settings import LogSettings
configure_logs(LogSettings(format=sys.argv[1]), "streams")
log = get_logger("test")
quoted = sys.argv[2]
try:
    try:
        {}[quoted]
    except KeyError as error:
        raise ValueError("not a number: " + quoted) from error
except ValueError:
    log.exception("A transform failed.")
    logging.getLogger("library").exception("A request failed.")
try:
    raise ExceptionGroup(quoted, [TypeError(quoted), FileNotFoundError(2, "no file", "x.pem")])
except ExceptionGroup as group:
    group.__context__ = ValueError(quoted)
    group.__context__.__context__ = group
    log.exception("Several failed.")
try:
    raise CapistreamError("there is no key")
except CapistreamError as error:
    log.critical("Stopping.", exc_info=error)
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_others_exceptions_quote_is_not_shown(form: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUOTING, form, "ada@example.com"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "ada@" not in ran.stdout + ran.stderr
    for kind in ("KeyError", "ValueError", "ExceptionGroup", "TypeError"):
        assert kind in ran.stderr, kind
    assert "CapistreamError: there is no key" in ran.stderr
    assert "FileNotFoundError: [Errno 2] no file: 'x.pem'" in ran.stderr
    assert ran.stderr.count("line 11, in") == 2, "where it failed"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "bearer {}",
        "https://x.example/?access_token={}&a=b",
        '{{"access_token": "{}"}}',
        "{{'access_token': '{}'}}",
        "Access-Token: {}",
        "sasl_password={}",
        "client_secret: {}",
        "PASSWORD='{}'",
    ],
)
def test_what_a_credential_looks_like(text: str) -> None:
    assert CANARY not in redact(text.format(CANARY))


@given(st.from_regex(r"[A-Za-z0-9._-]{6,60}", fullmatch=True))
def test_any_token_behind_its_name_is_blanked(token: str) -> None:
    assert redact(f"x access_token={token} y") == "x access_token=[redacted] y"


@pytest.mark.parametrize(
    "text", ["", "an event was refused", "100/2804003", "The e-mail is not hashed."]
)
def test_other_text_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:1/0", "redis://host:1/0"),
        ("postgresql+asyncpg://me:secret@host/db?x=secret", "postgresql+asyncpg://me@host/db"),
        ("https://host/path?access_token=secret#secret", "https://host/path"),
        ("http://a:b@c:secret@host/", "http://a@host/"),
    ],
)
def test_a_url_is_shown_without_password_and_query(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_the_path_of_a_database_file_is_shown_whole() -> None:
    assert redact_url("sqlite+aiosqlite:////tmp/x.db") == "sqlite+aiosqlite:////tmp/x.db"
