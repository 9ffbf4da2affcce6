"""The gateway's OpenAPI document as it is served."""

from typing import Final

from aiohttp import web

from ingest.openapi import REFUSALS, document
from runtime import api_docs

BASE_URL: Final = "https://ssp.shop.example"


def add_documents(application: web.Application) -> None:
    """Add ``GET /openapi.json`` and ``GET /docs``."""
    api_docs.add_documents(application, document(), REFUSALS, BASE_URL)
