"""Objects in a platform's own words, read by its ``BLOCK`` and judged by its stand-in."""

import json
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.base import Fate
from platforms.blocks import BlockError, ReadBlock, read_block
from platforms.registry import PLATFORMS
from schemas.event import Event
from tests.contract.stand_ins import STAND_INS, credentials, deliver, destination
from tests.strategies import destinations, events

GOLDEN: Final = Path(__file__).parents[1] / "golden"
SLUGS: Final = sorted(PLATFORMS)
NOW: Final = 1_795_176_060
RECEIVED_AT: Final = NOW * 1000 + 123
# What each platform refuses an event without, and a sender need not write.
NEEDLESS: Final = {
    "meta": {"event_time", "action_source"},
    "pinterest": {"event_time", "action_source"},
    "reddit": {"event_at", "action_source"},
    "snackvideo": {"is_attributed", "mmpcode", "pixelSdkVersion"},
    "snapchat": {"event_time", "action_source"},
    "tiktok": {"event_time"},
}
every_platform = pytest.mark.parametrize("slug", SLUGS)


def _golden(slug: str) -> list[Path]:
    """The events that the platform gets."""
    files = sorted((GOLDEN / slug).glob("*.event.json"))
    return [file for file in files if "skip" not in _payload_of(file)]


def _payload_of(file: Path) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads(
        file.with_name(file.name.replace(".event.", ".payload.")).read_text()
    )
    return payload


def _purchase(slug: str) -> dict[str, Any]:
    return _payload_of(GOLDEN / slug / "purchase_full.event.json")


def _read(slug: str, block: dict[str, Any]) -> ReadBlock:
    return read_block(block, PLATFORMS[slug].BLOCK, RECEIVED_AT)


def _is_taken(slug: str, payload: dict[str, Any]) -> bool:
    _, [verdict] = deliver(slug, [payload], NOW)
    return verdict.fate is Fate.DELIVERED


def _bare(slug: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Without what a sender may leave out: the time, and what equals its default."""
    spec = PLATFORMS[slug].BLOCK
    left_out = {key for key, value in spec.defaults.items() if payload[key] == value}
    left_out |= set(spec.time or ())
    return {key: value for key, value in payload.items() if key not in left_out}


def _replaced(block: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = orjson.loads(orjson.dumps(block))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


every_golden = pytest.mark.parametrize(
    ("slug", "file"),
    [
        pytest.param(slug, file, id=f"{slug}-{file.name.partition('.')[0]}")
        for slug in SLUGS
        for file in _golden(slug)
    ],
)


@every_golden
def test_what_we_send_is_read_as_the_event_that_it_was(slug: str, file: Path) -> None:
    spec, stand_in = PLATFORMS[slug].BLOCK, STAND_INS[slug]
    event, payload = Event.model_validate_json(file.read_bytes()), _payload_of(file)
    read = _read(slug, payload)
    assert list(read.payload.items()) == list(payload.items())
    # Reddit's custom events have a type beside their name; its stand-in tells the name.
    is_typed = payload.get("type", {}).get("tracking_type") == "CUSTOM"
    assert read.event_name == ("CUSTOM" if is_typed else stand_in.event_name(payload))
    assert read.event_id == (event.event_id if spec.id else None)
    exact = event.event_time - event.event_time % spec.time_unit_ms
    assert read.event_time == (exact if spec.time else RECEIVED_AT)


@every_golden
def test_a_block_without_time_and_defaults_is_completed_to_what_the_platform_takes(
    slug: str, file: Path
) -> None:
    bare = _bare(slug, _payload_of(file))
    assert not _is_taken(slug, bare)
    assert _is_taken(slug, _read(slug, bare).payload)


@every_platform
def test_what_a_platform_demands_and_no_sender_need_write_is_filled_in(slug: str) -> None:
    whole = _purchase(slug)
    for needless in NEEDLESS[slug]:
        block = {key: value for key, value in whole.items() if key != needless}
        assert not _is_taken(slug, block)
        payload = _read(slug, block).payload
        assert payload.keys() == whole.keys()
        assert _is_taken(slug, payload)


@every_platform
@given(data=st.data())
def test_whatever_we_send_is_read_as_it_is(slug: str, data: st.DataObject) -> None:
    event, where = data.draw(events()), data.draw(destinations(slug))
    payload = PLATFORMS[slug].payload(event, where)
    if isinstance(payload, dict):
        assert _read(slug, payload).payload == payload


@every_platform
@pytest.mark.parametrize(
    "time",
    [NOW - 60, (NOW - 60) * 1000, NOW - 60.0, NOW - 59.75, f"{NOW - 60}", f" {NOW - 60}000 "],
    ids=repr,
)
def test_a_time_in_any_form_is_one_that_the_platform_takes(slug: str, time: float | str) -> None:
    path = PLATFORMS[slug].BLOCK.time
    if path is None:
        return
    read = _read(slug, _replaced(_purchase(slug), path, time))
    assert (NOW - 60) * 1000 <= read.event_time < (NOW - 59) * 1000
    assert _is_taken(slug, read.payload)


@every_platform
def test_an_id_that_is_a_number_is_one_that_the_platform_takes(slug: str) -> None:
    path = PLATFORMS[slug].BLOCK.id
    if path is None:
        return
    read = _read(slug, _replaced(_purchase(slug), path, 1001))
    assert (read.event_id, STAND_INS[slug].event_id(read.payload)) == ("1001", "1001")
    assert _is_taken(slug, read.payload)


@every_platform
def test_an_id_may_be_left_out_where_the_platform_allows_it(slug: str) -> None:
    spec = PLATFORMS[slug].BLOCK
    if spec.id is None:
        return
    without = _purchase(slug)
    inner = without
    for key in spec.id[:-1]:
        inner = inner[key]
    del inner[spec.id[-1]]
    assert _is_taken(slug, without) is not spec.demands_id
    if spec.demands_id:
        with pytest.raises(BlockError, match="must be given"):
            _read(slug, without)
    else:
        assert _read(slug, without).event_id is None


@every_platform
def test_a_block_cannot_overrule_what_its_request_carries(slug: str) -> None:
    platform = PLATFORMS[slug]
    sound = platform.payload(
        Event.model_validate_json((GOLDEN / slug / "purchase_full.event.json").read_bytes()),
        destination(slug),
    )
    assert isinstance(sound, dict)
    body = orjson.loads(platform.request([b'{"x":1}'], credentials(slug)).body)
    for key in body.keys() - {"x"}:
        try:
            block = _read(slug, sound | {key: "stolen"}).payload
        except BlockError as error:
            assert error.field == key  # noqa: PT017 - one of two right answers
            continue
        sent = orjson.loads(platform.request([orjson.dumps(block)], credentials(slug)).body)
        assert sent[key] != "stolen"
