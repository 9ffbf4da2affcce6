"""What is filled in, what comes out as it came in, what is refused and in which words."""

import copy
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from platforms.base import Block
from platforms.blocks import MAX_DEPTH, BlockError, block_schema, read_block
from platforms.registry import PLATFORMS
from schemas.limits import MAX_BODY_BYTES, MAX_EVENT_ID_CHARS, MAX_NAME_CHARS
from schemas.raw_event import Blocks, Door, RawEvent

RECEIVED_AT: Final = 1_795_176_060_123
FLAT: Final = Block(
    name=("event_name",),
    id=("event_id",),
    time=("event_time",),
    defaults={"action_source": "website"},
)
DEEP: Final = Block(
    name=("type", "name"), id=("meta", "about", "id"), time=("meta", "at"), time_unit_ms=1
)
BARE: Final = Block(name=("name",), id=None, time=None, reserved=frozenset({"token", "account"}))
STRICT: Final = Block(name=("name",), id=("id",), time=None, demands_id=True)
SPECS: Final = st.sampled_from(
    [FLAT, DEEP, BARE, STRICT, *(platform.BLOCK for platform in PLATFORMS.values())]
)
KEYS: Final = st.sampled_from(
    [
        *("event_name", "event", "name", "type", "tracking_type", "metadata", "meta", "about"),
        *("event_id", "id", "conversion_id", "event_time", "event_at", "at", "action_source"),
        *("token", "pixelId", "testFlag", "user_data"),
    ]
)
LEAVES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),  # lone surrogates among them
    st.sampled_from([1_795_176_000, 1_795_176_000_250, "1795176000", " ", "Purchase", 10**40]),
)
JSON: Final = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
OBJECTS: Final = st.dictionaries(KEYS, JSON, max_size=8)
# What a block may hold besides what we must know of it.
OTHERS: Final = st.dictionaries(
    st.sampled_from(["user_data", "custom_data", "event_source_url", "", "é"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("aé ", max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner),
        max_leaves=8,
    ),
)


def _nested(depth: int) -> dict[str, Any]:
    """A block of so many objects and lists inside one another."""
    inner: list[Any] = []
    for _ in range(depth - 2):
        inner = [inner]
    return {"event_name": "Purchase", "x": inner}


def _refusal(block: dict[str, Any], spec: Block = FLAT) -> tuple[str | None, str]:
    with pytest.raises(BlockError) as refused:
        read_block(block, spec, RECEIVED_AT)
    return refused.value.field, refused.value.message


def test_a_custom_event_gets_a_time_and_an_action_source() -> None:
    block = {"event_name": "Sign", "event_id": "pmw_1", "user_data": {"fbp": "fb.1.1.1"}}
    read = read_block(block, FLAT, RECEIVED_AT)
    assert read.payload == block | {"action_source": "website", "event_time": 1_795_176_060}
    assert (read.event_name, read.event_id) == ("Sign", "pmw_1")
    assert read.event_time == 1_795_176_060_000


@pytest.mark.parametrize("meta", [{}, {"meta": None}, {"meta": {}}])
def test_objects_on_the_way_to_a_time_are_made(meta: dict[str, Any]) -> None:
    read = read_block({"type": {"name": "Buy"}} | meta, DEEP, RECEIVED_AT)
    assert read.payload["meta"] == {"at": RECEIVED_AT}
    assert (read.event_name, read.event_id, read.event_time) == ("Buy", None, RECEIVED_AT)


def test_without_a_place_for_it_the_time_is_that_of_receipt() -> None:
    read = read_block({"name": "Buy", "event_time": "junk"}, BARE, RECEIVED_AT)
    assert read.payload == {"name": "Buy", "event_time": "junk"}
    assert read.event_time == RECEIVED_AT


@pytest.mark.parametrize("blank", [None, "", " \t"])
def test_a_blank_counts_as_left_out(blank: str | None) -> None:
    keys = ("action_source", "event_time", "event_id", "event_source_url")
    block = dict.fromkeys(keys, blank) | {"event_name": "Buy"}
    read = read_block(block, FLAT, RECEIVED_AT)
    assert read.event_id is None
    assert list(read.payload) == list(block)
    filled = {"action_source": "website", "event_time": RECEIVED_AT // 1000}
    assert read.payload == block | filled


@given(others=OTHERS, order=st.permutations(["event_name", "event_id", "event_time"]))
def test_everything_else_comes_out_as_it_came_in(others: dict[str, Any], order: list[str]) -> None:
    known = {"event_name": "Buy", "event_id": "e", "event_time": 1_795_176_000.5}
    block = {order[0]: known[order[0]], **others, order[1]: known[order[1]]}
    block[order[2]] = known[order[2]]
    payload = read_block(block, FLAT, RECEIVED_AT).payload
    expected = block | {"event_time": 1_795_176_000, "action_source": "website"}
    assert orjson.dumps(payload) == orjson.dumps(expected)


@given(spec=SPECS, value=st.sampled_from([0, False, "app", [], {}, "WEB "]), data=st.data())
def test_a_default_never_overrules(spec: Block, value: Any, data: st.DataObject) -> None:
    given_keys = data.draw(st.sets(st.sampled_from(sorted(spec.defaults) or ["x"])))
    block = _sound(spec) | dict.fromkeys(given_keys, value)
    payload = read_block(block, spec, RECEIVED_AT).payload
    for key in given_keys:
        assert payload[key] == value
        assert type(payload[key]) is type(value)
    for key in spec.defaults.keys() - given_keys:
        assert payload[key] == spec.defaults[key]


def _sound(spec: Block) -> dict[str, Any]:
    """A block that can be read, with no time in it."""
    block: dict[str, Any] = {}
    for path, value in ((spec.name, "Purchase"), (spec.id, "e-1")):
        inner = block
        for key in (path or ())[:-1]:
            inner = inner.setdefault(key, {})
        if path:
            inner[path[-1]] = value
    return block


@given(spec=SPECS, block=OBJECTS, is_sound=st.booleans())
def test_any_object_is_read_or_refused_and_never_changed(
    spec: Block, block: dict[str, Any], *, is_sound: bool
) -> None:
    if is_sound:
        block = block | _sound(spec)
    before = copy.deepcopy(block)
    try:
        read = read_block(block, spec, RECEIVED_AT)
    except BlockError as refused:
        refused.message.encode()  # goes into an answer
    else:
        orjson.dumps(read.payload)
        assert 0 < len(read.event_name) <= MAX_NAME_CHARS
        assert len(read.event_id or "") <= MAX_EVENT_ID_CHARS
        # What is complete is complete: a later reading, at another time, adds nothing.
        again = read_block(read.payload, spec, RECEIVED_AT + 86_400_000)
        assert repr(again.payload) == repr(read.payload)
        assert (again.event_name, again.event_id) == (read.event_name, read.event_id)
        if spec.time:
            assert again.event_time == read.event_time
    assert repr(block) == repr(before)


def test_any_mapping_is_read() -> None:
    read = read_block(MappingProxyType({"event_name": "Buy"}), FLAT, RECEIVED_AT)
    assert list(read.payload) == ["event_name", "action_source", "event_time"]


@pytest.mark.parametrize(
    "time",
    [1_795_176_000, 1_795_176_000_250, 1_795_176_000.25, "1795176000", " 1795176000250 "],
)
def test_a_time_is_read_in_seconds_and_milliseconds(time: float | str) -> None:
    in_seconds = read_block({"event_name": "Buy", "event_time": time}, FLAT, RECEIVED_AT)
    assert in_seconds.payload["event_time"] == 1_795_176_000
    assert type(in_seconds.payload["event_time"]) is int
    assert in_seconds.event_time == 1_795_176_000_000
    block = {"type": {"name": "Buy"}, "meta": {"at": time}}
    in_milliseconds = read_block(block, DEEP, RECEIVED_AT)
    rest = 250 if "25" in str(time) else 0
    assert in_milliseconds.payload["meta"]["at"] == 1_795_176_000_000 + rest
    assert in_milliseconds.event_time == 1_795_176_000_000 + rest


@pytest.mark.parametrize(
    ("time", "says"),
    [
        ("2026-11-20T12:00:00Z", "must be a number"),
        ([1_795_176_000], "must be a number"),
        (True, "must be a number"),
        (1_795_176, "after 2001"),
        (float("nan"), "after 2001"),
        ("inf", "must be a number"),
        (1_795_176_000_000_000, "seconds or milliseconds"),
    ],
)
def test_a_time_that_is_none(time: object, says: str) -> None:
    field, message = _refusal({"event_name": "Buy", "event_time": time})
    assert field == "event_time"
    assert says in message


@pytest.mark.parametrize("name", [None, "", "  ", 7, ["Buy"], "x" * (MAX_NAME_CHARS + 1)])
def test_a_name_that_is_none(name: object) -> None:
    field, message = _refusal({"type": {"name": name}}, DEEP)
    assert field == "type.name"
    assert "1 to 100 characters" in message


def test_the_longest_name_and_id() -> None:
    name, event_id = "x" * MAX_NAME_CHARS, "é" * MAX_EVENT_ID_CHARS
    read = read_block({"event_name": name, "event_id": event_id}, FLAT, RECEIVED_AT)
    assert (read.event_name, read.event_id) == (name, event_id)


@pytest.mark.parametrize("event_id", [True, 1.5, {}, ["e"], "x" * (MAX_EVENT_ID_CHARS + 1)])
def test_an_id_that_is_none(event_id: object) -> None:
    block = {"type": {"name": "Buy"}, "meta": {"about": {"id": event_id}}}
    field, message = _refusal(block, DEEP)
    assert field == "meta.about.id"
    assert "at most 200 characters" in message


def test_an_id_that_is_a_number_becomes_text() -> None:
    read = read_block({"event_name": "Buy", "event_id": -7}, FLAT, RECEIVED_AT)
    assert read.payload["event_id"] == read.event_id == "-7"


def test_an_id_that_the_platform_demands() -> None:
    assert _refusal({"name": "Buy", "id": " "}, STRICT)[0] == "id"
    assert _refusal({"name": "Buy"}, STRICT) == (
        "id",
        "must be given: the platform takes no event without it",
    )


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "Buy"}, "type"),
        ({"type": {"name": "Buy"}, "meta": []}, "meta"),
        ({"type": {"name": "Buy"}, "meta": {"about": "x"}}, "meta.about"),
    ],
)
def test_what_must_be_an_object(block: dict[str, Any], field: str) -> None:
    assert _refusal(block, DEEP) == (field, "must be an object")


def test_what_belongs_to_the_destination_is_refused() -> None:
    block = {"name": "Buy", "token": "x", "account": None}
    assert _refusal(block, BARE) == (
        "account",
        "must be left out: the destination's own is sent",
    )


@pytest.mark.parametrize("value", ["\ud800", 2**64, {7: 7}, object()])
def test_what_is_no_json(value: object) -> None:
    field, message = _refusal({"event_name": "Buy", "x": [value]})
    assert field is None
    assert message.startswith("cannot be written as JSON: ")


def test_a_block_is_no_larger_than_a_body() -> None:
    block = {"event_name": "Buy", "x": ""}
    block["x"] = "x" * (MAX_BODY_BYTES - len(orjson.dumps(block)))
    read_block(block, FLAT, RECEIVED_AT)
    block["x"] += "x"
    assert _refusal(block) == (None, "exceeds 100 KB: send less in it")


def test_the_deepest_block_can_be_written_and_read_again() -> None:
    payload = read_block(_nested(MAX_DEPTH), FLAT, RECEIVED_AT).payload
    blocks = Blocks.model_validate(
        {"eventId": "e", "eventName": "Buy", "eventTime": 1, "byPlatform": {"meta": payload}}
    )
    raw = RawEvent.model_validate(
        {"domainId": "d", "door": Door.PMW_EVENTS, "requestId": "r", "receivedAt": 1}
        | {"blocks": blocks}
    )
    assert RawEvent.model_validate_json(raw.model_dump_json()) == raw


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 250, 100_000])
def test_a_block_that_is_too_deep(depth: int) -> None:
    assert _refusal(_nested(depth)) == (None, "is nested too deeply: at most 32 levels")


def is_read(block: dict[str, Any], spec: Block) -> bool:
    """Whether the block is taken."""
    try:
        read_block(block, spec, RECEIVED_AT)
    except BlockError:
        return False
    return True


def least(spec: Block, path: tuple[str, ...] | None, value: Any) -> dict[str, Any]:
    """The least block that is taken, with ``value`` at a path."""
    block: dict[str, Any] = {}
    for where, what in ((spec.name, "Purchase"), (spec.id, "e-1"), (path, value)):
        *outer, last = where or ("",)
        inner = block
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[last] = what
    block.pop("", None)
    return block


def variants(spec: Block) -> Iterator[tuple[tuple[str, ...] | None, Any, bool]]:
    """Paths, what lies there, and whether that is to be taken."""
    yield None, None, True
    yield spec.name, " ", False
    yield spec.name[:1], 7, False
    if spec.id:
        yield spec.id, 12, True
        yield spec.id, [1], False
        yield spec.id, None, not spec.demands_id
        yield spec.id, " ", not spec.demands_id
    if spec.time:
        yield spec.time, "1795176000", True
        yield spec.time, "soon", False
    for key in spec.reserved:
        yield (key,), 1, False


@pytest.mark.parametrize("spec", [FLAT, DEEP, BARE, STRICT, *(p.BLOCK for p in PLATFORMS.values())])
def test_the_schema_allows_what_is_read(spec: Block) -> None:
    allows = Draft202012Validator(block_schema(spec)).is_valid
    for path, value, taken in variants(spec):
        block = least(spec, path, value)
        assert (allows(block), is_read(block, spec)) == (taken, taken), block
    assert (allows({}), is_read({}, spec)) == (False, False)
