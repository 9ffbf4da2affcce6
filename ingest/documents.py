"""``GET /openapi.json`` and ``GET /docs``: what the gateway takes, for programs and for people."""

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import ETag, web
from jinja2 import Environment, StrictUndefined

from ingest.errors import STATUS
from ingest.openapi import ADVICE, JSON, document
from schemas.lenient import NOT_BLANK

Schema = Mapping[str, Any]

_CACHE_CONTROL: Final = "public, max-age=300"


def openapi_json() -> bytes:
    """The document as JSON."""
    return orjson.dumps(document())


def docs_html() -> str:
    """The page for people, made of the same document; it loads nothing and runs nothing."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    template = environment.from_string(files("ingest").joinpath("docs.html").read_text())
    shown = document()
    errors = [(code, STATUS[code].value, advice) for code, advice in ADVICE.items()]
    return template.render(document=shown, errors=errors, rows=rows, curl=curl, JSON=JSON)


def rows(schema: Schema, path: str = "") -> Iterator[tuple[str, str, bool, str]]:
    """A body's table: path, what may stand there, whether it must, and what it means."""
    known = resolve(schema)
    required = known.get("required", ())
    for name, told in known.get("properties", {}).items():
        if told is False:
            yield f"{path}{name}", "must be left out", False, ""
            continue
        field = f"{path}{name}"
        yield field, " or ".join(_kinds(told)), name in required, told.get("description", "")
        for alternative in (told, *told.get("anyOf", ())):
            is_list = "items" in alternative
            inner = resolve(alternative["items"] if is_list else alternative)
            yield from rows(inner, f"{field}[]." if is_list else f"{field}.")


def resolve(schema: Schema) -> Schema:
    """The schema that a reference names, or the schema itself."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    named: Schema = document()["components"]["schemas"][reference.rpartition("/")[2]]
    return named


def _kinds(schema: Schema) -> Iterator[str]:
    """What may stand there, in words."""
    known = resolve(schema)
    if "anyOf" in known and "properties" not in known:
        for alternative in known["anyOf"]:
            yield from _kinds(alternative)
    elif "enum" in known:
        yield ", ".join("null" if value is None else str(value) for value in known["enum"])
    elif "const" in known:
        yield orjson.dumps(known["const"]).decode()
    elif "type" in known:
        kinds = known["type"] if isinstance(known["type"], list) else [known["type"]]
        yield " or ".join(kinds) + _bounds(known)
    else:
        yield "anything"


_BOUNDS: Final = {
    "minimum": "from {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minItems": "{} or more",
    "maxItems": "at most {}",
    "maxLength": "at most {} characters",
}


def _bounds(schema: Schema) -> str:
    told = [words.format(schema[key]) for key, words in _BOUNDS.items() if key in schema]
    told += [f"such as {example}" for example in schema.get("examples", ())]
    if schema.get("pattern") == NOT_BLANK:
        told.append("not blank")
    return f" ({', '.join(told)})" if told else ""


def curl(path: str, method: str, operation: Mapping[str, Any]) -> str:
    """The command that sends an operation's example."""
    lines = [f"curl -sS https://ssp.shop.example{path}"]
    for requirement in operation["security"][:1]:
        (name,) = requirement
        scheme = document()["components"]["securitySchemes"][name]
        header = (
            f"{scheme['name']}: $TOKEN"
            if scheme["type"] == "apiKey"
            else "Authorization: Bearer $TOKEN"
        )
        lines.append(f'-H "{header}"')
    if method == "post":
        example = operation["requestBody"]["content"][JSON]["example"]
        lines += [f'-H "Content-Type: {JSON}"', f"--data-binary '{json.dumps(example)}'"]
    return " \\\n  ".join(lines)


def serve(
    body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler of bytes that stay the same as long as the process lives."""
    tag = ETag(hashlib.blake2b(body, digest_size=12).hexdigest())
    common = {"Cache-Control": _CACHE_CONTROL, "X-Content-Type-Options": "nosniff"}

    async def get(request: web.Request) -> web.Response:
        is_known = any(known.value in (tag.value, "*") for known in request.if_none_match or ())
        response = web.Response(status=304) if is_known else web.Response(body=body)
        if not is_known:
            response.content_type, response.charset = content_type, "utf-8"
        response.headers.update(common | dict(headers or {}))
        response.etag = tag
        return response

    return get


def add_documents(application: web.Application) -> None:
    """Make both documents and add their routes."""
    page = docs_html()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    application.router.add_get("/openapi.json", serve(openapi_json(), JSON))
    application.router.add_get(
        "/docs", serve(page.encode(), "text/html", {"Content-Security-Policy": policy})
    )
