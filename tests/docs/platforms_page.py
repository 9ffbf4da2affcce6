"""Writes ``docs/platforms.md`` out of the code: ``python -m tests.docs.platforms_page``.

Everything on the page is what the platform files do when they are asked, or the tables in them; a
test compares the page with what this writes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from platforms.base import AccountCredentials, Fate, Platform, Request, Response
from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.event import ActionSource, Event, EventName
from schemas.outcome import Reason, Skip
from tests.docs.markdown import ROOT

PAGE: Final = ROOT / "docs" / "platforms.md"
_GOLDEN: Final = ROOT / "tests" / "golden"
_INTRODUCTION: Final = """\
# What each ad platform gets

Written from the code by `python -m tests.docs.platforms_page`; a test compares the two.

Amounts, times and hashes differ from platform to platform, and a platform answers 200 to most that
are wrong. Hashes are SHA-256 in lower-case hex of the pre-image that the named rule in
`platforms/identity.py` writes; what is such a hash already goes through as it is. An event without
the person's consent is sent nowhere. In a request's body, `"field":"value"` stands for the fields of
an event.
"""
_LINK: Final = re.compile(r"https://[^\s`]+")
_TOKEN: Final = "TOKEN"
_ANY_EVENT: Final = b'{"field":"value"}'
_MOST_EXAMPLE_CHARS: Final = 60
_USER: Final = {
    "email": "ada@example.com",
    "ipAddress": "203.0.113.7",
    "userAgent": "Mozilla/5.0",
    "kwaiClickId": "click",
}
_PURCHASE: Final[dict[str, Any]] = {
    "eventId": "o-1",
    "eventName": "Purchase",
    "eventTime": 1_795_176_000,
    "eventSourceUrl": "https://shop.example/thanks",
    "userData": _USER,
    "customData": {"currency": "EUR", "value": 1, "searchString": "shoes"},
}
# What makes a platform leave an event out; the purchase is good for all of them.
_FLAWS: Final[tuple[dict[str, Any], ...]] = (
    *({"actionSource": source} for source in ActionSource),
    {"eventSourceUrl": None},
    *({"eventName": name} for name in EventName),
    {"eventName": "Search", "customData": {}},
    *({"eventName": "Custom", "customEventName": name} for name in ("N" * 80, "a b", "Purchase")),
    {"customData": {"currency": "EUR"}},
    {"customData": {"value": 1}},
    {"userData": {}},
    {"userData": {"kwaiClickId": "click"}},
    {"consent": {"limitedDataUse": True}},
)
_FATES: Final = {
    Fate.DELIVERED: "delivered",
    Fate.REJECTED: "rejected for good",
    Fate.REFUSED_BATCH: "refused: divided until the culprit is found",
    Fate.THROTTLED: "waits, then tried again",
    Fate.RETRYABLE: "tried again",
    Fate.MISCONFIGURED: "parked until the credentials are mended",
}
_STATUSES: Final = (200, 302, 400, 401, 403, 404, 413, 422, 429, 500, 503)


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *map(_section, PLATFORMS.values())])


def _section(platform: Platform) -> str:
    parts = {
        "Request": _request(platform),
        "Limits": _limits(platform),
        "Event names": _names(platform),
        "Identifiers": _identifiers(platform),
        "Fields of a full purchase": _fields(platform),
        "What is not sent": _skips(platform),
        "Answers": _answers(platform),
        "Limited data use": _limited(platform),
    }
    chapters = [f"### {title}\n\n{text}\n" for title, text in parts.items()]
    return "\n".join([f"## {platform.NAME}\n", *_links(platform), "", *chapters])


def _links(platform: Platform) -> Iterator[str]:
    for link in _LINK.findall(platform.__doc__ or ""):
        yield f"<{link.rstrip('.')}>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )


def _code(text: object) -> str:
    return f"`{text}`"


def _credentials(platform: Platform, **more: str) -> AccountCredentials:
    fields = {"pixel_id": "ACCOUNT", "ad_account_id": "ACCOUNT", "access_token": _TOKEN} | more
    model = platform.Credentials
    return model.model_validate({k: v for k, v in fields.items() if k in model.model_fields})


def _request(platform: Platform) -> str:
    request = platform.request([_ANY_EVENT], _credentials(platform))
    test = platform.request([_ANY_EVENT], _credentials(platform, test_event_code="CODE"))
    path = request.path.replace("ACCOUNT", "{account}")
    return _table(
        ["Part", "Form"],
        [
            ("call", _code(f"{request.method} {platform.BASE_URL}{path}")),
            ("token", _place(request, _TOKEN)),
            ("test", _place(test, "CODE") or _difference(request, test)),
            ("body", _code(request.body.decode())),
        ],
    )


def _place(request: Request, word: str) -> str:
    """Where in a request a word stands; empty when it does not."""
    for where, fields in (("header", request.headers), ("query", request.query)):
        for name, value in fields.items():
            if word in value:
                return f"{where} {_code(f'{name}: {value}')}"
    if word.encode() in request.body:
        keys = [key for key, value in _leaves(json.loads(request.body)) if value == word]
        return f"body, {_code(keys[0])}"
    return ""


def _difference(request: Request, test: Request) -> str:
    added = dict(test.query.items() - request.query.items())
    return "query " + ", ".join(_code(f"{key}={value}") for key, value in added.items())


def _limits(platform: Platform) -> str:
    limits = platform.LIMITS
    return _table(
        ["What", "Most"],
        [
            ("events in a request", limits.max_events),
            ("bytes of a request", f"{limits.max_body_bytes:,}"),
            ("oldest event", f"{limits.max_age_seconds // 86_400} days"),
            ("ahead of the clock", f"{limits.max_ahead_seconds} s"),
            ("repeats are told for", _hours(limits.dedupe_window_seconds)),
        ],
    )


def _hours(seconds: int | None) -> str:
    return "never" if seconds is None else f"{seconds // 3600} h"


def _event(**changes: Any) -> Event:
    return Event.model_validate(_PURCHASE | changes)


def _destination(platform: Platform, **changes: Any) -> Destination:
    fields = {"id": "d1", "platform": platform.SLUG, "account": "1", "sealed": ""}
    return Destination.model_validate(fields | changes)


def _payload(platform: Platform, **changes: Any) -> dict[str, Any] | Skip:
    return platform.payload(_event(**changes), _destination(platform))


def _names(platform: Platform) -> str:
    rows = []
    for name in EventName:
        payload = _payload(platform, eventName=name)
        told = "not sent" if isinstance(payload, Skip) else _code(_told_name(payload))
        rows.append((_code(name), told))
    return _table(["Event", platform.NAME], rows)


def _told_name(payload: Mapping[str, Any]) -> str:
    kind = payload.get("type")
    if isinstance(kind, dict):
        return " ".join(kind.values())
    return str(payload.get("event_name") or payload.get("event"))


def _identifiers(platform: Platform) -> str:
    rows = []
    table = [*getattr(platform, "IDENTIFIERS", ()), *getattr(platform, "_EXTERNAL_ID", ())]
    for key, attribute, rule in table:
        first = " ".join((rule.__doc__ or "").partition("\n\n")[0].replace("``", "`").split())
        rows.append((_code(key), _code(attribute), _code(rule.__name__), first))
    return _table(["Key", "Ours", "Rule", "Pre-image"], rows) if rows else "None is sent."


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by dotted path; of a list of objects, the first stands for all."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, str) and value.startswith("{"):
        yield from _leaves(json.loads(value), f"{path} (JSON as text)")
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _leaves(value[0], f"{path}[]")
    else:
        yield path, value


def _fields(platform: Platform) -> str:
    golden = json.loads((_GOLDEN / platform.SLUG / "purchase_full.payload.json").read_text())
    return _table(
        ["Field", "Example"], [(_code(key), _code(_short(value))) for key, value in _leaves(golden)]
    )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_EXAMPLE_CHARS else f"{text[:_MOST_EXAMPLE_CHARS]}…"


def _skips(platform: Platform) -> str:
    renamed = _destination(platform, eventNames={"Lead": "?" * 80})
    answers = [platform.payload(_event(eventName="Lead"), renamed)]
    answers += [_payload(platform, **flaw) for flaw in _FLAWS]
    found = sorted({(skip.reason, skip.detail) for skip in answers if isinstance(skip, Skip)})
    days, ahead = platform.LIMITS.max_age_seconds // 86_400, platform.LIMITS.max_ahead_seconds
    always = [
        (Reason.TOO_OLD, f"older than {days} days when it came"),
        (Reason.IN_THE_FUTURE, f"more than {ahead} s ahead of the clock when it came"),
        (Reason.OVERSIZE, "alone more than a request may hold"),
    ]
    return _table(["Reason", "Why"], [(_code(reason), why) for reason, why in [*found, *always]])


def codes(platform: Platform) -> list[int]:
    """The vendor's codes that the platform file names, in its sets and constants."""
    named: set[int] = set()
    for name, value in vars(platform).items():
        if not re.fullmatch(r"_[A-Z_]+", name) or "SECONDS" in name or "STATUSES" in name:
            continue
        numbers = value if isinstance(value, frozenset | dict) else [value]
        named |= {each for each in numbers if type(each) is int}
    return sorted(named)


def _answers(platform: Platform) -> str:
    """What the file makes of each code that it names, of a status without a word of the vendor's,
    and of the golden answers."""
    fates: list[tuple[str, Fate]] = []
    for code in codes(platform):
        body: dict[str, Any] = {"code": code, "result": code, "message": ""}
        body = {"error": body} if platform.SLUG == "meta" else body
        fates.append((str(code), _fate(platform, 200, body)))
    fates += [(f"HTTP {status}", _fate(platform, status, {})) for status in _STATUSES]
    rows = []
    for fate, group in groupby(fates, key=lambda pair: pair[1]):
        rows.append((", ".join(_spans([text for text, _ in group])), _FATES[fate]))
    examples = []
    for file in sorted((_GOLDEN / platform.SLUG / "answers").glob("*.json")):
        case = json.loads(file.read_text())
        told = dict.fromkeys(_FATES[Fate(verdict["fate"])] for verdict in case["verdicts"])
        examples.append((file.stem.replace("_", " "), case["status"], "; ".join(told)))
    meanings = _table(["Code, or status alone", "What becomes of the events"], rows)
    return f"{meanings}\n\n{_table(['Answer', 'HTTP', 'What becomes of the events'], examples)}"


def _fate(platform: Platform, status: int, body: dict[str, Any]) -> Fate:
    size = min(2, platform.LIMITS.max_events)
    return platform.read(Response(status, json.dumps(body).encode()), size)[0].fate


def _spans(texts: Sequence[str]) -> Iterator[str]:
    """Numbers in a row as a span."""
    numbers = [int(text) if text.isdigit() else None for text in texts]
    start = 0
    for at in range(1, len(texts) + 1):
        last, this = numbers[at - 1], numbers[at] if at < len(texts) else None
        if last is None or this != last + 1:
            yield texts[start] if at - start == 1 else f"{texts[start]}-{texts[at - 1]}"
            start = at


def _limited(platform: Platform) -> str:
    who = {"userData": _USER | {"state": "California", "country": "US"}}
    free = _payload(platform, **who)
    limited = _payload(platform, **who, consent={"limitedDataUse": True})
    if isinstance(limited, Skip):
        return f"{limited.detail}: the event is not sent (`{limited.reason}`)."
    added = dict(_leaves(limited)).keys() - dict(_leaves(free)).keys()
    rows = [(_code(k), _code(_short(value))) for k, value in _leaves(limited) if k in added]
    return _table(["Field", "Value"], rows)


if __name__ == "__main__":
    PAGE.write_text(page())
