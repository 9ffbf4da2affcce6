"""JSON Schema, as far as the vendors' schemas use it, compiled to plain functions.

A general validator spends about a millisecond on an event; these closures spend microseconds,
which is what lets one process stand in for six platforms under load. A keyword that is not
implemented is an error when the schema is compiled, never a rule that is silently skipped.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing that is wrong with a document."""

    path: tuple[str | int, ...]
    rule: str
    """The schema keyword that was broken, such as ``required``."""
    wanted: Any
    """What that keyword asked for."""
    value: Any
    """What was there instead."""
    message: str
    """In the words of Python's ``jsonschema``. Like there, it may repeat what was sent."""

    def under(self, key: str | int) -> "Problem":
        """The same problem, seen from the value that holds this one at ``key``."""
        return replace(self, path=(key, *self.path))


Check = Callable[[Any], Problem | None]

ANNOTATIONS = frozenset({"$schema", "title", "description", "format", "nullable", "required"})
"""Keywords that ``compile_schema`` need not dispatch on: notes, or read with their neighbours."""

TYPES: Mapping[str, frozenset[type]] = {
    "object": frozenset({dict}),
    "array": frozenset({list}),
    "string": frozenset({str}),
    "boolean": frozenset({bool}),
    "integer": frozenset({int}),
    "number": frozenset({int, float}),
}
"""What JSON decodes to, exactly: a boolean is no integer, though it is one in Python."""


def compile_schema(schema: Schema) -> Check:
    """A function that returns the first problem of a decoded JSON value, or None.

    ``integer`` means a JSON number written without a fraction, as in the servers' own languages:
    ``1.0`` is refused. Raises ValueError on a keyword that is not implemented.
    """
    checks = tuple(_checks(schema))

    def check(value: Any) -> Problem | None:
        for each in checks:
            problem = each(value)
            if problem is not None:
                return problem
        return None

    if schema.get("nullable"):
        return lambda value: None if value is None else check(value)
    return checks[0] if len(checks) == 1 else check


def _checks(schema: Schema) -> Iterator[Check]:
    for keyword in sorted(schema, key=lambda keyword: keyword != "type"):
        if keyword in KEYWORDS:
            yield KEYWORDS[keyword](schema[keyword])
        elif keyword not in ANNOTATIONS | {"properties", "additionalProperties"}:
            raise ValueError(f"schema keyword {keyword!r} is not implemented")
    if schema.keys() & {"properties", "additionalProperties", "required"}:
        yield _members(schema)


def _type(wanted: str) -> Check:
    types = TYPES[wanted]

    def check(value: Any) -> Problem | None:
        if type(value) in types:
            return None
        return Problem((), "type", wanted, value, f"{value!r} is not of type {wanted!r}")

    return check


def _members(schema: Schema) -> Check:
    missing = _missing(tuple(schema.get("required", ())))
    wrong = _wrong(
        {name: compile_schema(sub) for name, sub in schema.get("properties", {}).items()},
        closed=schema.get("additionalProperties") is False,
    )
    return lambda value: (missing(value) or wrong(value)) if isinstance(value, dict) else None


def _missing(required: tuple[str, ...]) -> Check:
    def check(value: dict[str, Any]) -> Problem | None:
        for name in required:
            if name not in value:
                text = f"{name!r} is a required property"
                return Problem((name,), "required", name, None, text)
        return None

    return check


def _wrong(members: Mapping[str, Check], *, closed: bool) -> Check:
    def check(value: dict[str, Any]) -> Problem | None:
        for name, item in value.items():
            member = members.get(name)
            if member is not None:
                problem = member(item)
                if problem is not None:
                    return problem.under(name)
            elif closed:
                text = f"Additional properties are not allowed ({name!r} was unexpected)"
                return Problem((name,), "additionalProperties", members, item, text)
        return None

    return check


def _items(schema: Schema) -> Check:
    item = compile_schema(schema)

    def check(value: Any) -> Problem | None:
        if isinstance(value, list):
            for index, each in enumerate(value):
                problem = item(each)
                if problem is not None:
                    return problem.under(index)
        return None

    return check


def _any_of(schemas: list[Schema]) -> Check:
    branches = tuple(compile_schema(schema) for schema in schemas)

    def check(value: Any) -> Problem | None:
        for branch in branches:
            if branch(value) is None:
                return None
        text = f"{value!r} is not valid under any of the given schemas"
        return Problem((), "anyOf", schemas, value, text)

    return check


def _enum(allowed: list[str]) -> Check:
    members = frozenset(allowed)

    def check(value: Any) -> Problem | None:
        if isinstance(value, str) and value in members:
            return None
        return Problem((), "enum", allowed, value, f"{value!r} is not one of {allowed!r}")

    return check


def _pattern(pattern: str) -> Check:
    search = re.compile(pattern).search

    def check(value: Any) -> Problem | None:
        if not isinstance(value, str) or search(value):
            return None
        return Problem((), "pattern", pattern, value, f"{value!r} does not match {pattern!r}")

    return check


def _bound(rule: str, types: frozenset[type], broken: Callable[[Any, Any], bool], text: str) -> Any:
    """A maker of checks that compare a value of ``types`` with the keyword's limit."""

    def make(limit: float) -> Check:
        def check(value: Any) -> Problem | None:
            if type(value) not in types or not broken(value, limit):
                return None
            return Problem((), rule, limit, value, f"{value!r} {text} {limit}")

        return check

    return make


KEYWORDS: Mapping[str, Callable[[Any], Check]] = {
    "type": _type,
    "items": _items,
    "anyOf": _any_of,
    "enum": _enum,
    "pattern": _pattern,
    "minimum": _bound(
        "minimum", TYPES["number"], lambda v, n: v < n, "is less than the minimum of"
    ),
    "maximum": _bound(
        "maximum", TYPES["number"], lambda v, n: v > n, "is greater than the maximum of"
    ),
    "minLength": _bound("minLength", TYPES["string"], lambda v, n: len(v) < n, "is shorter than"),
    "maxLength": _bound("maxLength", TYPES["string"], lambda v, n: len(v) > n, "is longer than"),
    "minItems": _bound("minItems", TYPES["array"], lambda v, n: len(v) < n, "has fewer items than"),
    "maxItems": _bound("maxItems", TYPES["array"], lambda v, n: len(v) > n, "has more items than"),
}


def unknown_keys(schema: Schema, value: Any) -> list[str]:
    """Dotted paths of the keys in ``value`` that ``schema`` does not name, open objects included.

    What a platform with an open schema drops in silence, such as ``user.emial``. Nothing is
    unknown in an object that names no properties or says ``"additionalProperties": true``.
    """
    if isinstance(value, list):
        items = schema.get("items", {})
        return [path for each in value for path in unknown_keys(items, each)]
    properties = _properties(schema)
    if not isinstance(value, dict) or not properties or schema.get("additionalProperties"):
        return []
    found = []
    for name, item in value.items():
        if name not in properties:
            found.append(name)
        else:
            found += [f"{name}.{path}" for path in unknown_keys(properties[name], item)]
    return found


def _properties(schema: Schema) -> dict[str, Schema]:
    """The members that an object may have by ``schema`` or by any of its branches."""
    found = dict(schema.get("properties", {}))
    for branch in schema.get("anyOf", ()):
        found |= branch.get("properties", {})
    return found
