"""What the process tells about itself."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from manage.readiness import Readiness
from runtime.database import Database
from runtime.settings import KafkaSettings, RedisSettings, Settings


async def ask(settings: Settings, database: Database, path: str) -> tuple[int, Any]:
    """Status and body."""
    app = web.Application()
    Readiness(settings, database).add_to(app)
    async with TestClient(TestServer(app)) as client, client.get(path) as answer:
        is_json = answer.content_type == "application/json"
        return answer.status, await answer.json() if is_json else await answer.text()


NOWHERE: Final[Mapping[str, Any]] = {
    "redis": RedisSettings(url=SecretStr("redis://127.0.0.1:1/0")),
    "kafka": KafkaSettings(bootstrap="127.0.0.1:1"),
}


@pytest.mark.parametrize("away", [(), ("redis",), ("kafka",), ("redis", "kafka")], ids=str)
async def test_it_is_ready_without_kafka_and_redis(
    settings: Settings, database: Database, away: tuple[str, ...]
) -> None:
    found = settings.model_copy(update={name: NOWHERE[name] for name in away})
    parts = dict.fromkeys(("database", "kafka", "redis"), "ok") | dict.fromkeys(away, "unreachable")
    assert await ask(found, database, "/ready") == (200, {"status": "ready", "parts": parts})


async def test_it_is_not_without_the_database(settings: Settings) -> None:
    away = Database("postgresql+asyncpg://capistream@127.0.0.1:1/capistream")
    status, body = await ask(settings, away, "/ready")
    assert (status, body["status"], body["parts"]["database"]) == (503, "not_ready", "unreachable")
    await away.close()


async def test_figures(settings: Settings, database: Database) -> None:
    status, text = await ask(settings, database, "/metrics")
    assert status == 200
    assert "# HELP capistream_config_records_total" in text
