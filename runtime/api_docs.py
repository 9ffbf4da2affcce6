"""``GET /openapi.json`` and ``GET /docs``: what an HTTP door takes, for programs and for people."""

import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import orjson
from aiohttp import ETag, web
from jinja2 import Environment, StrictUndefined

from runtime.openapi import JSON, Refusals
from schemas.lenient import NOT_BLANK

Schema = Mapping[str, Any]

_CACHE_CONTROL: Final = "public, max-age=300"


def add_documents(
    application: web.Application, document: Schema, refusals: Refusals, base_url: str
) -> None:
    """Add the routes of both documents; ``base_url`` is where the examples send to."""
    page = DocsPage(document, refusals, base_url).html()
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    application.router.add_get("/openapi.json", serve(orjson.dumps(document), JSON))
    application.router.add_get(
        "/docs", serve(page.encode(), "text/html", {"Content-Security-Policy": policy})
    )


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


@dataclass(frozen=True)
class DocsPage:
    """The page for people, made of the OpenAPI document; it loads nothing and runs nothing."""

    document: Schema
    refusals: Refusals
    base_url: str

    def html(self) -> str:
        """The whole page."""
        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["json"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
        template = environment.from_string(files("runtime").joinpath("docs.html").read_text())
        return template.render(
            document=self.document,
            refusals=self.refusals,
            refusal=self.refusals.example(next(iter(self.refusals.invalid))),
            rows=self.rows,
            kinds=self.kinds,
            curl=self.curl,
            JSON=JSON,
        )

    def rows(self, schema: Schema, path: str = "") -> Iterator[tuple[str, str, bool, str]]:
        """A body's table: path, what may stand there, whether it must, and what it means."""
        known = self._resolve(schema)
        required = known.get("required", ())
        for name, told in known.get("properties", {}).items():
            if told is False:
                yield f"{path}{name}", "must be left out", False, ""
                continue
            field = f"{path}{name}"
            yield field, self.kinds(told), name in required, told.get("description", "")
            for alternative in (told, *told.get("anyOf", ())):
                is_list = "items" in alternative
                inner = self._resolve(alternative["items"] if is_list else alternative)
                yield from self.rows(inner, f"{field}[]." if is_list else f"{field}.")

    def kinds(self, schema: Schema) -> str:
        """What may stand there, in words."""
        return " or ".join(self._kinds(schema))

    def curl(self, path: str, method: str, operation: Mapping[str, Any]) -> str:
        """The command that sends an operation's example."""
        lines = [f"curl -sS {self.base_url}{path}"]
        if method not in ("get", "post"):
            lines.append(f"-X {method.upper()}")
        for requirement in operation["security"][:1]:
            (name,) = requirement
            lines.append(_proof(self.document["components"]["securitySchemes"][name]))
        if "requestBody" in operation:
            example = operation["requestBody"]["content"][JSON]["example"]
            lines += [f'-H "Content-Type: {JSON}"', f"--data-binary '{json.dumps(example)}'"]
        return " \\\n  ".join(lines)

    def _resolve(self, schema: Schema) -> Schema:
        """The schema that a reference names, or the schema itself."""
        reference = schema.get("$ref")
        if reference is None:
            return schema
        named: Schema = self.document["components"]["schemas"][reference.rpartition("/")[2]]
        return named

    def _kinds(self, schema: Schema) -> Iterator[str]:
        known = self._resolve(schema)
        if "anyOf" in known and "properties" not in known:
            for alternative in known["anyOf"]:
                yield from self._kinds(alternative)
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


def _proof(scheme: Schema) -> str:
    """What of a command proves who sends it."""
    if scheme["type"] != "apiKey":
        return '-H "Authorization: Bearer $TOKEN"'
    if scheme["in"] == "cookie":
        return f'--cookie "{scheme["name"]}=$SESSION"'
    return f'-H "{scheme["name"]}: $TOKEN"'
