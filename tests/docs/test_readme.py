"""The README's tables and examples say what the code does."""

import json
import re
from collections.abc import Iterator
from types import UnionType
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel, SecretStr

from ingest.errors import STATUS
from ingest.pmw import read_blocks
from ingest.validate import read_request
from manage.api import ROUTES
from manage.routes import Access
from platforms.registry import PLATFORMS
from runtime.settings import PREFIX, Settings
from sandbox.control import routes
from sandbox.script import Order
from schemas import limits
from schemas.config import Destination
from schemas.dead_letter import DeadLetterReason
from schemas.event import Consent, Content, CustomData, Event, EventName, UserData
from schemas.outcome import OutcomeKind, Reason, Skip
from tests.docs.markdown import DOCUMENTS, ROOT, blocks, codes, name, section, table

README: Final = (ROOT / "README.md").read_text()
JSON_EXAMPLES: Final = [
    pytest.param(block.text, id=f"{name(path)}-{number}")
    for path in DOCUMENTS
    for number, block in enumerate(blocks(path.read_text()))
    if block.language == "json"
]
NOT_YET: Final = "not given yet"


@pytest.mark.parametrize("text", JSON_EXAMPLES)
def test_json_examples_are_what_they_seem(text: str) -> None:
    document = json.loads(text)

    if "events" in document:
        accepted = read_request(
            text.encode(),
            strict=True,
            ip_address=None,
            user_agent=None,
            is_dispatch="dispatchKey" in document,
        )
        assert len(accepted.events) == len(document["events"])
    elif "facebook" in document:
        read = read_blocks(
            text.encode(), strict=True, received_at=1, ip_address=None, user_agent=None
        )
        assert read.events[0].document["byPlatform"] == {
            "meta": document["facebook"],
            "tiktok": document["tiktok"],
        }
    elif "steps" in document:
        Order.model_validate_json(text)
    else:
        assert document["success"] is ("error" not in document)
        assert document["requestId"]


def test_error_codes_and_their_status() -> None:
    stated = {row[0]: int(row[1]) for row in table(README, "Code")}

    assert stated == {f"`{code}`": status.value for code, status in STATUS.items()}


def test_limits() -> None:
    stated = {codes(row[2])[0]: int(row[1]) for row in table(README, "Limit")}

    assert stated == {key: int(value) for key, value in vars(limits).items() if key.isupper()}


def test_fields_of_the_event() -> None:
    stated = [field for row in table(README, "Field") for field in codes(row[0])]
    parts: dict[str, type[BaseModel]] = {
        "": Event,
        "userData.": UserData,
        "customData.": CustomData,
        "contents.": Content,
        "consent.": Consent,
    }
    nested = {"userData", "customData", "consent"}

    known = {
        f"{prefix}{field.alias}"
        for prefix, model in parts.items()
        for field in model.model_fields.values()
    }
    assert len(stated) == len(set(stated))
    assert set(stated) == known - nested


def _told(slug: str, payload: dict[str, Any]) -> str:
    """What a platform calls an event, as the table writes it."""
    match slug:
        case "tiktok":
            return str(payload["event"])
        case "reddit":
            kind = payload["type"]
            custom = kind.get("custom_event_name")
            return f"{kind['tracking_type']} ({custom})" if custom else str(kind["tracking_type"])
        case _:
            return str(payload["event_name"])


def _event(event_name: str, custom_name: str | None) -> Event:
    return Event.model_validate(
        {
            "eventId": "e",
            "eventName": event_name,
            "eventTime": 1767225600,
            "customEventName": custom_name,
            "eventSourceUrl": "https://shop.example/",
            "userData": {"email": "a@example.com", "kwaiClickId": "click"},
            "customData": {"value": 1, "currency": "EUR", "searchString": "tea"},
        }
    )


@pytest.mark.parametrize("row", table(README, "Event"), ids=lambda row: row[0])
def test_event_names_are_what_is_sent(row: list[str]) -> None:
    event_name, *custom = codes(row[0])
    event = _event(event_name, custom[0] if custom else None)
    sent = []
    for slug, platform in PLATFORMS.items():
        destination = Destination(id="d", platform=slug, account="1", sealed="")
        payload = platform.payload(event, destination)
        if isinstance(payload, Skip):
            assert payload.reason is Reason.UNSUPPORTED_EVENT, payload
            sent.append("not sent")
        else:
            sent.append(f"`{_told(slug, payload)}`")

    assert row[1:] == sent


def test_every_event_name_is_listed() -> None:
    stated = {codes(row[0])[0] for row in table(README, "Event")}

    assert stated == set(EventName)


@pytest.mark.parametrize("row", table(README, "Platform"), ids=lambda row: row[0])
def test_platforms_and_their_limits(row: list[str]) -> None:
    slug, option, events, days, ahead, address = row
    platform = PLATFORMS[slug.strip("`")]

    assert option == f"`--{platform.Credentials.account_field.replace('_', '-')}`"
    assert int(events) == platform.LIMITS.max_events
    assert int(days) * 86_400 == platform.LIMITS.max_age_seconds
    assert int(ahead) == platform.LIMITS.max_ahead_seconds
    assert address == f"`{platform.BASE_URL}`"


def test_every_platform_is_listed() -> None:
    assert [row[0].strip("`") for row in table(README, "Platform")] == list(PLATFORMS)


def test_outcomes() -> None:
    stated = {row[0]: row[1] for row in table(README, "Outcome")}

    assert stated == {f"`{kind}`": "yes" if kind.is_final else "no" for kind in OutcomeKind}


def test_reasons() -> None:
    rows = {row[0].strip("`"): row[1] for row in table(README, "Reason")}
    packages = ("streams", "sinks", "platforms")
    source = "".join(f.read_text() for part in packages for f in (ROOT / part).glob("*.py"))
    given = {Reason[key].value for key in re.findall(r"\bReason\.([A-Z_]+)", source)}

    assert rows.keys() == set(Reason)
    assert {reason for reason, kinds in rows.items() if kinds != NOT_YET} == given
    for kinds in rows.values():
        assert kinds == NOT_YET or set(codes(kinds)) <= set(OutcomeKind)


def test_dead_letter_reasons() -> None:
    sentence = section(README, "Outcomes").partition("dead-letters` with their bytes")[2]

    assert codes(sentence) == list(DeadLetterReason)


def _defaults(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, object]]:
    for field_name, info in model.model_fields.items():
        variable = f"{prefix}{field_name.upper()}"
        endpoint = _value_model(info.annotation)
        if isinstance(info.default, BaseModel):
            yield from _defaults(type(info.default), f"{variable}__")
        elif endpoint is not None:
            yield from _defaults(endpoint, f"{variable}__<PLATFORM>__")
        else:
            yield variable, None if info.default_factory else info.default


def _value_model(annotation: Any) -> type[BaseModel] | None:
    """The model of a mapping's values, if they are one."""
    last = get_args(annotation)[-1:]
    if isinstance(annotation, UnionType) or not last:
        return None
    return last[0] if isinstance(last[0], type) and issubclass(last[0], BaseModel) else None


def test_settings_and_their_defaults() -> None:
    known = {}
    for variable, default in _defaults(Settings, PREFIX):
        plain = default.get_secret_value() if isinstance(default, SecretStr) else default
        known[f"`{variable}`"] = "" if plain in (None, "") else f"`{plain}`"

    assert {row[0]: row[1] for row in table(README, "Variable")} == known


@pytest.mark.parametrize("row", table(README, "You see"), ids=lambda row: row[0])
def test_what_is_seen_is_what_is_said(row: list[str]) -> None:
    packages = ("capistream", "ingest", "runtime", "schemas", "streams")
    source = "".join(f.read_text() for part in packages for f in (ROOT / part).glob("*.py"))

    seen = [part for code in codes(row[0]) for part in code.split("…")]
    assert [part for part in seen if part not in source] == []


def test_calls_of_the_management_api() -> None:
    roles = {
        Access.ANYBODY: "anybody", Access.USER: "a user", Access.MEMBER: "a member",
        Access.ADMIN: "an admin", Access.OWNER: "the owner",
    }  # fmt: skip
    served = {
        f"{route.method} {route.path}": "the shop" if route.bearer else roles[route.access]
        for route in ROUTES
    }

    assert {codes(row[0])[0]: row[1] for row in table(README, "Call")} == served


def test_sandbox_endpoints() -> None:
    served = {f"{route.method} {route.path}" for route in _route_defs()}

    assert {codes(row[0])[0] for row in table(README, "Request")} == served


def _route_defs() -> list[Any]:
    return [route for route in routes if hasattr(route, "method")]


def test_every_kind_of_fault_is_shown() -> None:
    script = next(
        json.loads(block.text)
        for block in blocks(section(README, "The sandbox"))
        if block.language == "json"
    )
    schema = Order.model_json_schema()["$defs"].values()

    shown = {step["kind"] for step in script["steps"]}
    assert shown == {part["properties"]["kind"]["const"] for part in schema}
