"""``/openapi.json`` and ``/docs`` as they are served."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from ingest.documents import BASE_URL
from ingest.errors import ErrorCode
from ingest.gateway import create_app
from ingest.openapi import REFUSALS, document
from runtime.api_docs import DocsPage
from runtime.clock import SystemClock
from tests.outline import Outline
from tests.unit.ingest.test_gateway import settings

Client = TestClient[Any, Any]


def docs_html() -> str:
    return DocsPage(document(), REFUSALS, BASE_URL).html()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create_app(settings(tmp_path), SystemClock()))) as client:
        yield client


async def test_the_document_is_served(client: Client) -> None:
    async with client.get("/openapi.json") as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        assert orjson.loads(await answer.read()) == orjson.loads(orjson.dumps(document()))


async def test_the_page_may_load_and_run_nothing(client: Client) -> None:
    async with client.get("/docs") as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
        assert answer.content_type == "text/html"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; ")
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_what_is_known_is_not_sent_again(client: Client, path: str) -> None:
    async with client.get(path) as first:
        tag = first.headers["ETag"]
        assert "max-age" in first.headers["Cache-Control"]
    for known, status in ((tag, 304), (f'"x", {tag}', 304), ("*", 304), ('"x"', 200)):
        async with client.get(path, headers={"If-None-Match": known}) as again:
            assert again.status == status
            assert again.headers["ETag"] == tag
            assert again.headers["X-Request-Id"]
            assert bool(await again.read()) is (status == 200)


def test_the_page_is_whole_and_leads_nowhere_else() -> None:
    outline = Outline(docs_html())
    assert outline.open == []
    names = {tag for tag, _ in outline.tags}
    assert not names & {"script", "link", "img", "iframe", "form", "object"}
    anchors = {attributes["id"] for _, attributes in outline.tags if "id" in attributes}
    for _, attributes in outline.tags:
        assert not attributes.keys() & {"src", "style", "onclick", "onload"}
        target = attributes.get("href")
        assert target in (None, "/openapi.json") or (
            target.startswith("#") and target.removeprefix("#") in anchors
        )


def test_the_page_tells_of_every_route_error_and_field() -> None:
    page = docs_html()
    for path, methods in document()["paths"].items():
        assert f"</span> {path}</code></h2>" in page
        for operation in methods.values():
            assert operation["summary"].replace("'", "&#39;") in page
    assert [code for code in ErrorCode if f"<code>{code}</code>" not in page] == []
    for field in (
        *("events[].eventTime", "events[].userData.rdtUuid", "events[].consent.marketing"),
        *("events[].customData.contents[].price", "facebook.event_name", "dispatchKey"),
        *("reddit.type.tracking_type", "snackvideo.access_token"),
    ):
        assert f"<code>{field}</code>" in page, field


def test_the_page_shows_commands_that_send_the_examples() -> None:
    page = docs_html()
    assert "curl -sS https://ssp.shop.example/v1/events" in page
    assert "X-SSP-Token: $TOKEN" in page
    assert "Authorization: Bearer $TOKEN" in page
