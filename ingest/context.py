"""What the gateway's handlers find in their application and request."""

from typing import Final

import redis.asyncio
from aiohttp import web

from ingest.admission import Admission, Admissions
from runtime.clock import Clock
from runtime.config_feed import ConfigFeed
from runtime.dispatches import Dispatches
from runtime.kafka import TopicAdmin
from runtime.producer import RecordProducer
from runtime.settings import Settings
from runtime.vault import DomainTokens

SETTINGS: Final = web.AppKey("settings", Settings)
CLOCK: Final = web.AppKey("clock", Clock)
FEED: Final = web.AppKey("feed", ConfigFeed)
TOKENS: Final = web.AppKey("tokens", DomainTokens)
ADMIN: Final = web.AppKey("admin", TopicAdmin)
ADMISSIONS: Final = web.AppKey("admissions", Admissions)
DISPATCHES: Final = web.AppKey("dispatches", Dispatches)
REDIS: Final = web.AppKey("redis", redis.asyncio.Redis)
PRODUCER: Final = web.AppKey("producer", RecordProducer)
REQUEST_ID: Final = web.RequestKey("request_id", str)
ADMISSION: Final = web.RequestKey("admission", Admission)
