"""The OpenAPI document: whole, valid, and exact in what it allows and what it forbids."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from aiohttp import hdrs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_schema_validator import OAS31Validator
from schemathesis import GenerationMode

from ingest import examples
from ingest.errors import STATUS, ErrorCode
from ingest.gateway import create_app
from ingest.openapi import document
from ingest.pmw import read_blocks
from ingest.validate import InvalidPayloadError, read_dispatch_key, read_object, read_request
from runtime.clock import SystemClock
from schemas.limits import MAX_BODY_BYTES
from tests.unit.ingest import test_gateway

Reader = Callable[[bytes], object]
NOW: Final = 1_767_225_600_000

READERS: Final[dict[str, Reader]] = {
    "/v1/events": lambda body: read_request(
        body, strict=False, ip_address="203.0.113.7", user_agent="UA"
    ),
    "/v1/pmw-events": lambda body: read_blocks(
        body, strict=False, received_at=NOW, ip_address=None, user_agent=None
    ),
    "/v1/sync/purchase-events": lambda body: read_request(
        body, strict=False, ip_address=None, user_agent=None, is_dispatch=True
    ),
    "/v1/sync/dispatch-status": lambda body: read_dispatch_key(read_object(body)),
}
LOADED: Final = schemathesis.openapi.from_dict(document())


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    return [
        (path, method, operation)
        for path, methods in document()["paths"].items()
        for method, operation in methods.items()
    ]


def allows(path: str, body: object) -> bool:
    """Whether the document allows a body."""
    content = document()["paths"][path]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"] | {"components": document()["components"]}
    return bool(Draft202012Validator(schema).is_valid(body))


def takes(path: str, body: object) -> bool:
    """Whether the gateway takes it."""
    try:
        READERS[path](json.dumps(body, allow_nan=False).encode())
    except InvalidPayloadError:
        return False
    return True


def test_it_is_an_openapi_document() -> None:
    LOADED.validate()
    assert document()["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("name", document()["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    OAS31Validator.check_schema(document()["components"]["schemas"][name])


def test_it_has_every_route_and_no_other(tmp_path: Path) -> None:
    app = create_app(test_gateway.settings(tmp_path), SystemClock())
    served = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource and route.method not in (hdrs.METH_OPTIONS, hdrs.METH_HEAD)
    }
    assert {(path, method) for path, method, _ in operations()} == served


def test_it_has_every_error_under_its_status() -> None:
    shown = {}
    parts = [operation["responses"] for _, _, operation in operations()]
    components = document()["components"]["responses"]
    named = {"NotFound": "404", "MethodNotAllowed": "405"}
    parts.append({named[name]: response for name, response in components.items()})
    for responses in parts:
        for status, response in responses.items():
            for code in response.get("content", {}).get("application/json", {}).get("examples", ()):
                shown[code] = int(status)
    assert shown == {code.value: status.value for code, status in STATUS.items()}
    assert document()["components"]["schemas"]["ErrorCode"]["enum"] == list(ErrorCode)


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, list | tuple):
            return set().union(*map(references, value))
        if not isinstance(value, dict):
            return set()
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))

    for reference in references(document()):
        found = document()
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_example_is_what_its_schema_says() -> None:
    checked = 0
    for _, _, operation in operations():
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (c for part in parts for c in part.get("content", {}).values()):
            schema = content["schema"] | {"components": document()["components"]}
            shown = [each["value"] for each in content.get("examples", {}).values()]
            for example in shown + ([content["example"]] if "example" in content else []):
                Draft202012Validator(schema).validate(example)
                checked += 1
    assert checked > 40


@pytest.mark.parametrize("path", READERS)
def test_what_is_shown_is_taken_without_a_warning(path: str) -> None:
    content = document()["paths"][path]["post"]["requestBody"]["content"]
    body = json.dumps(content["text/plain"]["example"]).encode()
    found = READERS[path](body)
    assert getattr(found, "unknown_keys", []) == []


GENEROUS: Final = settings(suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", READERS)
def test_what_it_allows_is_taken_and_what_it_forbids_is_refused(
    path: str, mode: GenerationMode
) -> None:
    @GENEROUS
    @given(LOADED[path]["POST"].as_strategy(generation_mode=mode))
    def agree(case: schemathesis.Case[Any]) -> None:
        body = case.body
        assume(isinstance(body, dict | list | str | int | float | None))
        assume(len(json.dumps(body)) <= MAX_BODY_BYTES)
        assert takes(path, body) is allows(path, body)

    agree()


EVENT: Final[dict[str, Any]] = {"eventName": "Purchase", "eventTime": 1767225600}
TAKEN: Final = (
    {"eventTime": 1e9},
    {"eventTime": 99_999_999_999_999},
    {"eventId": ""},
    {"eventId": None},
    {"eventId": " " * 200},
    {"eventId": 7},
    {"eventId": 7.0},
    {"eventId": 2**64 - 1},
    {"customData": {"value": -5e-7}},
    {"customData": {"value": -5.551115123125783e-17}},
    {"customData": {"value": 10**12}},
    {"customData": {"value": "1000000000000.00"}},
    {"customData": {"value": "\u00a0.5 "}},
    {"customData": {"value": "49."}},
    {"customData": {"value": "49.9900000000"}},
    {"customData": {"value": " "}},
    {"customData": {"currency": "\teur\n"}},
    {"customData": {"currency": ""}},
    {"customData": {"numItems": "2.0000"}},
    {"customData": {"numItems": " 2\x1f"}},
    {"customData": {"numItems": None}},
    {"customData": {"contents": [{"id": -1, "quantity": "1000000", "price": None}]}},
    {"userData": {"externalId": 42, "phone": 4915112345678, "email": "", "city": None}},
    {"userData": {"firstName": " " * 100}},
    {"testEventCode": "TEST_4-2"},
    {"testEventCode": " TEST42\x1c"},
    {"testEventCode": " "},
    {"testEventCode": None},
    {"unheard": {"of": [1e300, 2**70]}},
)
FORBIDDEN: Final = (
    {"eventTime": 999_999_999.9},
    {"eventTime": 10**14},
    {"eventTime": "1767225600"},
    {"eventTime": True},
    {"eventId": " " * 201},
    {"eventId": 7.5},
    {"eventId": 2**64},
    {"eventId": -(2**53)},
    {"eventId": True},
    {"customData": {"value": -6e-7}},
    {"customData": {"value": 10**12 + 1}},
    {"customData": {"value": "1000000000000.01"}},
    {"customData": {"value": "1e3"}},
    {"customData": {"value": "1_000"}},
    {"customData": {"value": "+5"}},
    {"customData": {"value": "-0"}},
    {"customData": {"value": "٣"}},
    {"customData": {"value": "."}},
    {"customData": {"value": "49.1234567"}},
    {"customData": {"value": True}},
    {"customData": {"currency": "EU"}},
    {"customData": {"currency": "ÄÖÜ"}},
    {"customData": {"numItems": True}},
    {"customData": {"numItems": "2.5"}},
    {"customData": {"numItems": "1000001"}},
    {"customData": {"numItems": "1_0"}},
    {"customData": {"contents": None}},
    {"customData": {"contents": [{"quantity": None}]}},
    {"userData": {"externalId": 1.5}},
    {"userData": {"firstName": " " * 101}},
    {"userData": None},
    {"testEventCode": "TEST 42"},
    {"testEventCode": "x" * 65},
    {"testEventCode": 42},
    {"consent": {"marketing": 1}},
)


@pytest.mark.parametrize("changes", TAKEN, ids=repr)
def test_what_shops_send_is_allowed_and_taken(changes: dict[str, Any]) -> None:
    body = {"events": [EVENT | changes]}
    assert (allows("/v1/events", body), takes("/v1/events", body)) == (True, True)


@pytest.mark.parametrize("changes", FORBIDDEN, ids=repr)
def test_nonsense_is_forbidden_and_refused(changes: dict[str, Any]) -> None:
    body = {"events": [EVENT | changes]}
    assert (allows("/v1/events", body), takes("/v1/events", body)) == (False, False)


META: Final = {"event_name": "AddToCart"}
BODIES: Final = (
    (True, {"facebook": META}),
    (True, {"facebook": META, "meta": None}),
    (True, {"meta": META | {"event_id": 7.0, "event_time": " 1767225600.25 "}}),
    (True, {"meta": META | {"event_id": " ", "event_time": ""}, "shop": 1}),
    (True, {"pinterest": META | {"event_id": "e"}}),
    (True, {"reddit": {"type": {"tracking_type": "LEAD"}, "metadata": None}}),
    (False, {"facebook": META, "meta": META}),
    (False, {"facebook": None}),
    (False, {"facebook": META, "tiktok": {}}),
    (False, {"facebook": {"event_name": "\u2003"}}),
    (False, {"facebook": META | {"event_time": "1e9"}}),
    (False, {"facebook": META | {"event_time": "1_767_225_600"}}),
    (False, {"facebook": META | {"event_time": "999999999"}}),
    (False, {"pinterest": META}),
    (False, {"pinterest": META | {"event_id": " "}}),
    (False, {"reddit": {"type": {"tracking_type": "LEAD"}, "metadata": "x"}}),
    (False, {"snackvideo": META | {"access_token": "x"}}),
    (False, {"facebook": META, "event": " "}),
)


@pytest.mark.parametrize(("is_right", "body"), BODIES, ids=repr)
def test_blocks(body: dict[str, Any], is_right: bool) -> None:
    path = "/v1/pmw-events"
    assert (allows(path, body), takes(path, body)) == (is_right, is_right)


@given(
    st.text(max_size=3) | st.just("x" * 201) | st.text(" \u2003\x1c", min_size=199, max_size=202)
)
def test_dispatch_keys(key: str) -> None:
    path = "/v1/sync/dispatch-status"
    assert takes(path, {"dispatchKey": key}) is allows(path, {"dispatchKey": key})


def test_the_example_is_the_event_of_the_readme() -> None:
    assert allows("/v1/events", examples.EVENTS)
    assert takes("/v1/events", examples.EVENTS)
