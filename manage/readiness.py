"""What the process tells about itself: whether it can serve, and its figures."""

import asyncio
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from runtime.database import Database
from runtime.errors import UnavailableError
from runtime.kafka import TopicAdmin
from runtime.redis import connect
from runtime.settings import Settings

SECONDS: Final = 2.0
"""After which a part does not answer."""


class Readiness:
    """``GET /ready`` and ``GET /metrics``."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._admin = TopicAdmin(settings.kafka)
        patience = {"timeout_seconds": min(SECONDS, settings.redis.timeout_seconds)}
        self._redis = connect(settings.redis.model_copy(update=patience))

    def add_to(self, app: web.Application) -> None:
        """Serve both, for as long as the application lives."""
        app.router.add_get("/ready", self.get_ready)
        app.router.add_get("/metrics", self.get_metrics)
        app.on_cleanup.append(self._close)

    async def get_ready(self, _request: web.Request) -> web.Response:
        """Whether requests can be answered, and what each part says.

        Without Kafka they can: a change is kept, and on its way when Kafka is back. Without Redis,
        too: this process counts by itself.
        """
        database, kafka, redis = await asyncio.gather(
            self._database_state(), self._kafka_state(), self._redis_state()
        )
        ready = database == "ok"
        body = {
            "status": "ready" if ready else "not_ready",
            "parts": {"database": database, "kafka": kafka, "redis": redis},
        }
        return web.json_response(body, status=200 if ready else 503)

    async def get_metrics(self, _request: web.Request) -> web.Response:
        """All figures in Prometheus' text format."""
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _database_state(self) -> str:
        try:
            async with asyncio.timeout(SECONDS), self._database.reading() as session:
                await session.execute(text("SELECT 1"))
        except (SQLAlchemyError, OSError):  # a timeout is one, too
            return "unreachable"
        return "ok"

    async def _kafka_state(self) -> str:
        try:
            await asyncio.to_thread(self._admin.reach, SECONDS)
        except UnavailableError:
            return "unreachable"
        return "ok"

    async def _redis_state(self) -> str:
        try:
            await self._redis.ping()
        except (RedisError, OSError):
            return "unreachable"
        return "ok"

    async def _close(self, _app: web.Application) -> None:
        await self._redis.aclose()
