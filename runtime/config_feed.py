"""Every domain's configuration, followed from ``domain-configs``: no process but ``manage`` needs
the database.

Caught up is told by the end-of-partition event of the fetch, not by watermarks, which the
embedded broker gets wrong.

A topic that was lost and made anew is told by its identity and read from its start: its offsets begin
again, so that going on where one was would pass over what is there now. What was known stays in force
meanwhile.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import Consumer, TopicPartition
from pydantic import ValidationError

from runtime.kafka import ConsumedRecord, read_all, reader_config
from runtime.lifecycle import stop_at_once
from runtime.logs import get_logger
from runtime.metrics import CONFIG_RECORDS
from runtime.settings import Settings
from runtime.topic_identity import TopicIdentity
from schemas.config import DomainConfig
from schemas.topics import DOMAIN_CONFIGS

log = get_logger(__name__)

_POLL_SECONDS: Final = 0.2
_START_POLL_SECONDS: Final = 0.01
"""Until the topic has been found: it is there in most cases, and somebody waits."""


class ConfigFeed:
    """The configuration of every domain, kept current by a thread; reads never wait."""

    def __init__(
        self, settings: Settings, on_change: Callable[[DomainConfig], None] | None = None
    ) -> None:
        """``on_change`` is called on the loop for each domain that changed."""
        self._settings = settings
        self._on_change = on_change
        self._by_id: dict[str, DomainConfig] = {}
        self._by_host: dict[str, DomainConfig] = {}
        self._by_sync_token: dict[str, DomainConfig] = {}
        self._on_topic: dict[str, int] = {}
        self._read_to_end = False
        self._loop = asyncio.get_running_loop()
        self._caught_up = asyncio.Event()
        self._changed = asyncio.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config-feed", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    async def stop(self) -> None:
        """Stop following; what was read stays readable."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join)

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was on the topic at the start has been read."""
        return self._caught_up.is_set()

    async def wait_until_caught_up(self) -> None:
        """Return when the feed has read to the end once."""
        await self._caught_up.wait()

    def __iter__(self) -> Iterator[DomainConfig]:
        """Every domain, as it is now."""
        return iter(list(self._by_id.values()))

    def on_topic(self) -> dict[str, int] | None:
        """The revision of each domain that is on the topic; None until it was read to its end.

        It differs from the domains that are known when the topic was lost: those stay in force.
        """
        return dict(self._on_topic) if self._read_to_end else None

    def by_host(self, host: str) -> DomainConfig | None:
        """The domain of a storefront host (lower case, no port)."""
        return self._by_host.get(host)

    def by_id(self, domain_id: str) -> DomainConfig | None:
        """The domain of that id."""
        return self._by_id.get(domain_id)

    def by_sync_token(self, sha256: str) -> DomainConfig | None:
        """The domain whose sync token has this SHA-256 (hex)."""
        return self._by_sync_token.get(sha256)

    async def wait_for(self, domain_id: str, timeout_seconds: float) -> DomainConfig | None:
        """The domain of that id, waited for while it may still be on its way here."""
        try:
            async with asyncio.timeout(timeout_seconds), self._changed:
                await self._changed.wait_for(lambda: domain_id in self._by_id)
        except TimeoutError:
            return None
        return self._by_id.get(domain_id)

    def _run(self) -> None:
        """What ends this thread ends the process: a configuration that stands still unseen would
        send to accounts that were removed."""
        try:
            self._follow()
        except Exception:
            log.exception("The configuration cannot be followed; stopping.")
            stop_at_once()

    def _follow(self) -> None:
        consumer = Consumer(
            reader_config(self._settings.kafka, "config-feed") | {"auto.offset.reset": "earliest"}
        )
        topic = self._settings.topic(DOMAIN_CONFIGS)
        identity = TopicIdentity(self._settings.kafka, topic)
        poll_seconds = _START_POLL_SECONDS
        try:
            while not self._stop.is_set():
                if identity.has_changed():
                    self._read_to_end = False
                    self._on_topic.clear()
                    consumer.assign([TopicPartition(topic, 0, 0)])
                    poll_seconds = _POLL_SECONDS
                records, ends = read_all(consumer, 500, poll_seconds)
                changed = [domain for record in records if (domain := self._apply(record))]
                if changed or ends:
                    self._read_to_end = self._read_to_end or bool(ends)
                    self._tell_loop(changed, caught_up=bool(ends))
        finally:
            consumer.close()

    def _apply(self, record: ConsumedRecord) -> DomainConfig | None:
        domain_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self._on_topic.pop(domain_id, None)
            self._remove(domain_id)
            return None
        try:
            config = DomainConfig.model_validate_json(record.value)
        except ValidationError as error:
            CONFIG_RECORDS.labels("unreadable").inc()
            log.error(  # noqa: TRY400 - the traceback says less than the fields
                "A domain's configuration could not be read; the previous one stays in force.",
                domain=domain_id,
                errors=[f"{e['loc']}: {e['msg']}" for e in error.errors(include_input=False)],
            )
            return None
        self._on_topic[config.domain_id] = config.revision
        known = self._by_id.get(config.domain_id)
        if known is not None and known.revision > config.revision:
            CONFIG_RECORDS.labels("older").inc()
            return None
        self._remove(config.domain_id)
        self._by_id[config.domain_id] = config
        self._by_host[config.host] = config
        self._by_sync_token[config.sync_token_sha256] = config
        CONFIG_RECORDS.labels("applied").inc()
        return config

    def _remove(self, domain_id: str) -> None:
        known = self._by_id.pop(domain_id, None)
        if known is None:
            return
        if self._by_host.get(known.host) is known:
            del self._by_host[known.host]
        if self._by_sync_token.get(known.sync_token_sha256) is known:
            del self._by_sync_token[known.sync_token_sha256]

    def _tell_loop(self, changed: list[DomainConfig], *, caught_up: bool) -> None:
        future = asyncio.run_coroutine_threadsafe(self._announce(changed, caught_up), self._loop)
        del future  # the loop runs it; nothing here waits for it

    async def _announce(self, changed: list[DomainConfig], caught_up: bool) -> None:  # noqa: FBT001
        if caught_up:
            self._caught_up.set()
        async with self._changed:
            self._changed.notify_all()
        if self._on_change is not None:
            for config in changed:
                self._on_change(config)
