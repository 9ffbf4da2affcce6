"""The OpenAPI document of the management API as it is served."""

from typing import Final

from aiohttp import web

from manage.openapi import REFUSALS, document
from manage.routes import Route
from runtime import api_docs

BASE_URL: Final = "https://manage.example"


def add_documents(application: web.Application, routes: tuple[Route, ...]) -> None:
    """Add ``GET /openapi.json`` and ``GET /docs`` of these routes."""
    api_docs.add_documents(application, document(routes), REFUSALS, BASE_URL)
