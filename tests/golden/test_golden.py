"""One folder per platform: events and their payloads, answers and their verdicts.

``<name>.event.json`` is an event as a shop sends it, ``<name>.payload.json`` what the platform
gets (or the skip). ``answers/<name>.json`` holds an HTTP answer and, per delivery, the verdict.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS30Validator

from platforms.base import Fate, Response
from platforms.registry import PLATFORMS
from schemas.event import Event
from schemas.outcome import Skip
from tests.golden.storefront import VECTORS, destination
from tests.strategies import destinations, events

HERE: Final = Path(__file__).parent


def _files(pattern: str) -> list[Any]:
    return [
        pytest.param(file, id=f"{slug}-{file.stem}")
        for slug in sorted(PLATFORMS)
        for file in sorted((HERE / slug).glob(pattern))
    ]


def _load(file: Path) -> Any:
    return json.loads(file.read_text())


def _write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("file", _files("*.event.json"))
def test_the_payload_of_an_event(file: Path, *, update_golden: bool) -> None:
    slug = file.parent.name
    answer = PLATFORMS[slug].payload(Event.model_validate(_load(file)), destination(slug))
    actual = {"skip": asdict(answer)} if isinstance(answer, Skip) else answer
    golden = file.with_name(file.name.replace(".event.", ".payload."))
    if update_golden:
        _write(golden, actual)
    assert json.loads(orjson.dumps(actual)) == _load(golden)


@pytest.mark.parametrize("file", _files("answers/*.json"))
def test_the_verdicts_of_an_answer(file: Path, *, update_golden: bool) -> None:
    case = _load(file)
    body = case["body"]
    raw = body.encode() if isinstance(body, str) else orjson.dumps(body)
    response = Response(case["status"], raw, case.get("headers", {}))
    verdicts = PLATFORMS[file.parents[1].name].read(response, case["batch_size"])
    actual = [
        {key: value for key, value in asdict(verdict).items() if value is not None}
        for verdict in verdicts
    ]
    if update_golden:
        _write(file, case | {"verdicts": actual})
        case = _load(file)
    assert actual == case["verdicts"]


@pytest.mark.parametrize("slug", sorted(PLATFORMS))
def test_each_platform_has_a_success_that_was_none(slug: str) -> None:
    case = _load(HERE / slug / "answers" / "200_but_failed.json")
    assert case["status"] == 200
    assert Fate.DELIVERED not in {verdict["fate"] for verdict in case["verdicts"]}


def _payloads(slug: str) -> list[Any]:
    loaded = [_load(file) for file in sorted((HERE / slug).glob("*.payload.json"))]
    return [payload for payload in loaded if "skip" not in payload]


PINTEREST: Final = OAS30Validator(_load(VECTORS / "pinterest_conversion_events.schema.json"))
REDDIT: Final = jsonschema.Draft7Validator(_load(VECTORS / "reddit_v3.schema.json"))


def test_the_closed_schemas_take_every_golden_payload() -> None:
    PINTEREST.validate({"data": _payloads("pinterest")})
    REDDIT.validate({"data": {"events": _payloads("reddit")}})


@given(event=events(), data=st.data())
def test_the_closed_schemas_take_every_payload(event: Event, data: st.DataObject) -> None:
    pinterest = PLATFORMS["pinterest"].payload(event, data.draw(destinations("pinterest")))
    if isinstance(pinterest, dict):
        PINTEREST.validate({"data": [pinterest]})
    reddit = PLATFORMS["reddit"].payload(event, data.draw(destinations("reddit")))
    if isinstance(reddit, dict):
        REDDIT.validate({"data": {"events": [reddit]}})


def test_the_closed_schemas_refuse_what_the_platforms_refuse() -> None:
    (payload, *_) = _payloads("pinterest")
    assert not PINTEREST.is_valid({"data": [payload | {"category_name": "x"}]})
    assert not PINTEREST.is_valid({"data": [payload | {"user_data": {"ph": ["x"]}}]})
    (payload, *_) = _payloads("reddit")
    assert not REDDIT.is_valid({"data": {"events": [payload | {"action_source": "website"}]}})
