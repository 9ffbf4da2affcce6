"""What platforms' answers have in common: JSON or not, when to come back, what may be repeated."""

import re
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import orjson
from pydantic import SecretStr

from platforms.base import AccountCredentials, Fate, Response, Verdict

_MAX_DETAIL_CHARS: Final = 200
_MAX_CODE_CHARS: Final = 40
_LEAST_NO_CODE: Final = 10**8
_MAX_READ_CHARS: Final = 1000
"""Of a vendor's text, before redaction: a page of HTML is not worth reading."""

_MAX_RETRY_AFTER_SECONDS: Final = 24 * 3600
"""Longer than any platform blocks; more would be a broken header."""

_CUT_WORD: Final = re.compile(r"[^\s\"',;&]*$")
"""What the end of a text may be the first part of, by which nobody tells any more what it is."""

# The first two are of a request that is quoted back: fields of its body, which may be quoted in
# their turn, and credentials in its head or its address.
_REDACTED: Final = (
    (
        re.compile(
            r"(?P<key>(?P<q>\\{0,3}[\"'])[\w.-]+(?P=q)\s*:\s*)"
            r"(?:\[[^\]]*(?:\]|$)|(?P<v>\\{0,3}[\"']).*?(?:(?<!\\)(?P=v)|$))"
        ),
        r"\g<key>[value]",
    ),
    (
        re.compile(
            r"(?i)((?:access[_-]?token|authorization|password|secret)[\"'\\]*\s*[:=]\s*[\"'\\]*"
            r"(?:(?:bearer|basic)\s+)?|\bbearer\s+)[^\s\"'&,;}\\]{6,}"
        ),
        r"\1[token]",
    ),
    (re.compile(r"https?://\S+"), "[url]"),
    (re.compile(r"[^\s@\"'<>]*(?:@|%40)[^\s\"'<>]+"), "[email]"),
    (re.compile(r"[A-Za-z0-9_-]{32,}"), "[token]"),
    (re.compile(r"(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}"), "[address]"),
    (re.compile(r"\+?\d[\d\s().-]{4,}\d"), "[number]"),
)


def without_secrets(response: Response, credentials: AccountCredentials) -> Response:
    """The answer without the secrets that it quotes, however it writes them: no pattern knows a
    token in a sentence, and what is cut later could leave half of one."""
    body = response.body
    for _, value in credentials:
        if isinstance(value, SecretStr):
            secret = value.get_secret_value()
            for written in (secret, quote(secret, safe=""), secret.replace("/", "\\/")):
                body = body.replace(written.encode(), b"[token]")
    return response if body is response.body else replace(response, body=body)


def json_object(response: Response) -> dict[str, Any] | None:
    """The body as a JSON object, or None: HTML, truncated, empty, a list."""
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def safe_text(text: object, most_chars: int = _MAX_DETAIL_CHARS) -> str | None:
    """A vendor's text that may be stored and shown: one line, bounded, no addresses, numbers,
    links, hashes or tokens in it, and no values of a request that it quotes. None when there is no
    text."""
    if not isinstance(text, str):
        return None
    if len(text) > _MAX_READ_CHARS:
        text = _CUT_WORD.sub("", text[:_MAX_READ_CHARS])
    line = " ".join(text.split())
    for pattern, placeholder in _REDACTED:
        line = pattern.sub(placeholder, line)
    return line[:most_chars] or None


def number(code: object) -> int | None:
    """A vendor's numeric code, which some write as text; None when it is anything else."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) <= _MAX_CODE_CHARS:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


def safe_code(code: object) -> str | None:
    """A vendor's code as bounded text; None when it is neither a text nor a number that can be a
    code rather than, say, a phone number."""
    if isinstance(code, int) and not isinstance(code, bool):
        return str(code) if abs(code) < _LEAST_NO_CODE else None
    return safe_text(code, _MAX_CODE_CHARS)


def retry_after_seconds(response: Response) -> float | None:
    """The ``Retry-After`` header in seconds, between 0 and a day.

    A date is measured against the answer's own ``Date``, so that no clock is needed.
    """
    text = response.headers.get("retry-after", "").strip()
    try:
        if text.isascii() and text.isdigit():
            seconds = float(text)
        else:
            until = parsedate_to_datetime(text)
            seconds = (until - parsedate_to_datetime(response.headers["date"])).total_seconds()
    except (ValueError, TypeError, KeyError):
        return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)


def every(batch_size: int, verdict: Verdict) -> list[Verdict]:
    """The same verdict for each delivery: an answer that speaks of the request as a whole."""
    return [verdict] * batch_size


def throttled(
    response: Response, batch_size: int, code: str | None = None, detail: str | None = None
) -> list[Verdict]:
    """Told to slow down, for as long as the platform says, if it does."""
    verdict = Verdict(Fate.THROTTLED, code, detail, retry_after_seconds(response))
    return every(batch_size, verdict)


def refused(
    batch_size: int,
    code: str | None,
    detail: str | None,
    culprits: Mapping[int, str | None] | None = None,
) -> list[Verdict]:
    """The request was refused whole.

    ``culprits`` are the positions that the platform named, each with its text: those are
    rejected, their neighbours may be innocent. A batch of one is its own culprit.
    """
    named = culprits or {}
    if batch_size == 1:
        return [Verdict(Fate.REJECTED, code, named.get(0) or detail)]
    return [
        Verdict(Fate.REJECTED, code, named[position] or detail)
        if position in named
        else Verdict(Fate.REFUSED_BATCH, code, detail)
        for position in range(batch_size)
    ]


def by_status(
    response: Response, batch_size: int, code: str | None = None, detail: str | None = None
) -> list[Verdict]:
    """What the HTTP status alone says, once the platform's own words have been read in vain."""
    status = response.status
    code = code or f"HTTP {status}"
    if status == 429:
        return throttled(response, batch_size, code, detail)
    if status in {401, 403, 404}:
        return every(batch_size, Verdict(Fate.MISCONFIGURED, code, detail))
    if status in {408, 425} or not 400 <= status < 500:
        wait = retry_after_seconds(response)
        sentence = detail or "the answer does not say that the events were taken"
        return every(batch_size, Verdict(Fate.RETRYABLE, code, sentence, wait))
    return refused(batch_size, code, detail)


def not_the_platform(response: Response, batch_size: int) -> list[Verdict]:
    """An answer that is not the platform's JSON: a proxy's page, a cut-off body, nothing at all.

    Only what any server may say is believed; nothing is rejected for good on a stranger's word.
    """
    status = response.status
    is_page = response.body.lstrip().startswith(b"<")
    if status in {413, 429} or (status in {401, 403} and not is_page):
        return by_status(response, batch_size)
    detail = "the answer is not the platform's: an HTML page, or a cut-off or empty body"
    wait = retry_after_seconds(response)
    return every(batch_size, Verdict(Fate.RETRYABLE, f"HTTP {status}", detail, wait))
