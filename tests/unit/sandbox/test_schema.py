"""The compiled checks give the verdicts of the general validators, on valid and broken events."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from openapi_schema_validator import OAS30Validator

from sandbox import pinterest, reddit
from sandbox.schema import compile_schema, unknown_keys
from tests.unit.sandbox.samples import SAMPLES

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer()),
    st.text(max_size=120),
    st.sampled_from(["WEBSITE", "PURCHASE", "EUR", "tablet", "LDU"]),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])


@st.composite
def damaged(draw: st.DrawFn, slug: str) -> Any:
    """A good request with some values replaced, taken away or added."""
    sample = SAMPLES[slug]
    body = deepcopy(sample.body(sample.event()))
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(list(places(body)))) if body else (body, "data")
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove" if isinstance(holder, dict):
                holder.pop(key, None)
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["wifi", "app_id", "extra", "opt_out"]))] = draw(JUNK)
            case _:
                holder[key] = draw(JUNK)
    return body


PINTEREST_CHECK = compile_schema(pinterest.BODY)
PINTEREST_VALIDATOR = OAS30Validator(pinterest.BODY)
REDDIT_CHECK = compile_schema(reddit.BODY)
REDDIT_VALIDATOR = Draft4Validator(reddit.BODY)


@given(damaged("pinterest"))
def test_pinterest_verdicts_are_those_of_an_openapi_validator(body: Any) -> None:
    assert (PINTEREST_CHECK(body) is None) == PINTEREST_VALIDATOR.is_valid(body)


@given(damaged("reddit"))
def test_reddit_verdicts_are_those_of_a_json_schema_validator(body: Any) -> None:
    assert (REDDIT_CHECK(body) is None) == REDDIT_VALIDATOR.is_valid(body)


def test_a_keyword_that_is_not_implemented_is_not_skipped() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        compile_schema({"type": "array", "uniqueItems": True})


@pytest.mark.parametrize(
    ("schema", "value", "path", "rule"),
    [
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, ("a", 1), "type"),
        ({"required": ["a"]}, {}, ("a",), "required"),
        ({"type": "integer"}, True, (), "type"),
        ({"type": "integer"}, 1.0, (), "type"),
        ({"type": "number", "minimum": 0}, -0.5, (), "minimum"),
        ({"type": "string", "maxLength": 2}, "abc", (), "maxLength"),
        ({"enum": ["a"]}, ["a"], (), "enum"),
    ],
)
def test_a_problem_says_where_and_what(
    schema: Mapping[str, Any], value: Any, path: tuple[str | int, ...], rule: str
) -> None:
    problem = compile_schema(schema)(value)
    assert problem is not None
    assert (problem.path, problem.rule) == (path, rule)


def test_unknown_keys_are_found_at_every_depth() -> None:
    schema = {
        "properties": {
            "a": {"items": {"properties": {"b": {}}}},
            "free": {"type": "object"},
            "open": {"properties": {"x": {}}, "additionalProperties": True},
            "either": {"anyOf": [{"properties": {"x": {}}}, {"properties": {"y": {}}}]},
        }
    }
    value = {
        "a": [{"b": 1}, {"c": 1}],
        "free": {"q": 1},
        "open": {"q": 1},
        "either": {"x": 1, "y": 1, "z": 1},
        "d": 1,
    }
    assert unknown_keys(schema, value) == ["a.c", "either.z", "d"]
