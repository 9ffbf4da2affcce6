"""The OpenAPI document of the management API: whole, valid, and what the table of routes says."""

import re
from typing import Any, Final

import orjson
import pytest
import schemathesis
from aiohttp import hdrs
from jsonschema import Draft202012Validator
from openapi_schema_validator import OAS31Validator

from manage.api import ROUTES
from manage.app import create_app
from manage.documents import BASE_URL
from manage.errors import STATUS, ErrorCode
from manage.openapi import OPERATIONS, REFUSALS, document
from manage.routes import Access, Route
from manage.services import Services
from manage.tables import Role
from runtime.api_docs import DocsPage
from schemas.lenient import NOT_BLANK
from tests.outline import Outline

DOCUMENT: Final = document(ROUTES)
SCHEMAS: Final[dict[str, Any]] = DOCUMENT["components"]["schemas"]
JSON: Final = "application/json"


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation."""
    return [
        (path, method, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


def codes(operation: dict[str, Any], status: int) -> set[str]:
    """Which codes it says that a status comes with."""
    response = operation["responses"].get(str(status), {})
    return set(response.get("content", {}).get(JSON, {}).get("examples", ()))


def test_it_is_an_openapi_document() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    OAS31Validator.check_schema(SCHEMAS[name])


def test_it_has_every_route_and_no_other(services: Services) -> None:
    served = {
        (route.resource.canonical, route.method.lower())
        for route in create_app(services, ROUTES).router.routes()
        if route.resource and route.method != hdrs.METH_HEAD
    }
    told = {(path, method) for path, method, _ in operations()}
    assert served <= told
    # The process adds those; see manage.worker.
    assert told - served <= {("/ready", "get"), ("/metrics", "get")}


def test_no_two_paths_differ_in_the_names_of_their_parts_only() -> None:
    shapes = [re.sub(r"\{.*?\}", "{}", path) for path in DOCUMENT["paths"]]
    assert sorted(set(shapes)) == sorted(shapes)


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert sorted(set(names)) == sorted(names)


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, list | tuple):
            return set().union(*map(references, value))
        if not isinstance(value, dict):
            return set()
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))

    for reference in references(DOCUMENT):
        found = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_every_example_is_what_its_schema_says() -> None:
    checked = 0
    for _, _, operation in operations():
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in (c for part in parts for c in part.get("content", {}).values()):
            schema = content["schema"] | {"components": DOCUMENT["components"]}
            shown = [each["value"] for each in content.get("examples", {}).values()]
            for example in shown + ([content["example"]] if "example" in content else []):
                Draft202012Validator(schema).validate(example)
                checked += 1
    assert checked > 5 * len(ROUTES)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.body], ids=lambda r: r.handler.__name__)
def test_the_example_of_a_body_is_taken(route: Route) -> None:
    assert route.body is not None
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    example = operation["requestBody"]["content"][JSON]["example"]
    route.body.model_validate_json(orjson.dumps(example), strict=True)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r.handler.__name__)
def test_it_tells_who_may_call_and_what_they_may_be_told(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    has_session = route.access > Access.ANYBODY and not route.bearer
    schemes = ["syncToken"] if route.bearer else ["session"] if has_session else []
    assert [name for one in operation["security"] for name in one] == schemes
    assert (ErrorCode.NOT_AUTHENTICATED in codes(operation, 401)) is has_session
    assert (ErrorCode.RATE_LIMITED in codes(operation, 429)) is (
        has_session or ErrorCode.RATE_LIMITED in route.codes
    )
    assert (ErrorCode.FORBIDDEN in codes(operation, 403)) is (
        route.access > Access.USER or ErrorCode.FORBIDDEN in route.codes
    )
    changes = route.method != "GET" and not route.bearer
    assert (ErrorCode.ORIGIN_NOT_ALLOWED in codes(operation, 403)) is changes
    assert {ErrorCode.INTERNAL_ERROR} == codes(operation, 500)
    assert ErrorCode.UNAVAILABLE in codes(operation, 503)
    for code in route.codes:
        assert code in codes(operation, STATUS[code])
    for status, response in operation["responses"].items():
        assert "X-Request-Id" in response["headers"]
        assert ("Retry-After" in response["headers"]) is (status in ("429", "503"))
        assert ("X-RateLimit-Limit" in response["headers"]) is has_session


def test_every_code_has_its_advice() -> None:
    assert [code for code, _, _ in REFUSALS.table()] == list(ErrorCode)
    assert SCHEMAS["ErrorCode"]["enum"] == list(ErrorCode)


def test_the_fields_of_an_answer_are_all_there() -> None:
    assert set(SCHEMAS["EventsAnswer"]["required"]) == {"events", "nextCursor"}
    assert set(SCHEMAS["Step"]["required"]) == set(SCHEMAS["Step"]["properties"])
    assert SCHEMAS["Role"]["enum"] == list(Role)


def test_what_is_absent_from_an_address_is_not_null() -> None:
    (listed,) = [o for _, _, o in operations() if o["operationId"] == "listEvents"]
    kinds = {parameter["name"]: parameter["schema"] for parameter in listed["parameters"]}
    assert kinds["limit"] == {"type": "integer", "default": 50, "minimum": 1, "maximum": 200}
    assert kinds["outcome"] == {"$ref": "#/components/schemas/State"}
    assert "anyOf" not in kinds["domainId"]
    assert "EventsQuery" not in SCHEMAS


def test_a_text_that_may_not_be_empty_may_not_be_blank() -> None:
    name = SCHEMAS["NameBody"]["properties"]["name"]
    assert NOT_BLANK in (name["pattern"], *(part["pattern"] for part in name.get("allOf", ())))


def test_the_page_is_whole_and_tells_of_every_route_and_parameter() -> None:
    page = DocsPage(DOCUMENT, REFUSALS, BASE_URL).html()
    outline = Outline(page)
    assert outline.open == []
    anchors = {attributes["id"] for _, attributes in outline.tags if "id" in attributes}
    assert anchors >= {operation["operationId"] for _, _, operation in operations()}
    for path, _, _ in operations():
        assert f"</span> {path}</code></h2>" in page
    assert "query <code>destinationId</code>" in page
    assert "path <code>event_id</code> <strong>required</strong>" in page
    assert "--cookie &#34;sc_session=$SESSION&#34;" in page
    assert OPERATIONS.paths().keys() <= DOCUMENT["paths"].keys()


def test_descriptions_are_for_readers_of_json() -> None:
    told = orjson.dumps(SCHEMAS).decode()
    assert "``" not in told
    assert SCHEMAS["EventsAnswer"]["properties"]["nextCursor"]["description"].endswith(
        "null at the end."
    )
    page = DocsPage(DOCUMENT, REFUSALS, BASE_URL).html()
    assert "30 days before <code>until</code> when absent." in page
    assert "`" not in page
