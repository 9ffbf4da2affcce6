"""What the handlers of the management API work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manage.callbacks import CallbackClient
    from manage.limits import Limits
    from manage.live import Live
    from manage.mail import Mailer
    from manage.probe import Prober
    from manage.publish import Publisher
    from manage.store import Store
    from runtime.clock import Clock
    from runtime.database import Database
    from runtime.settings import Settings
    from runtime.vault import DomainTokens, Vault
    from schemas.event_log import EventLog


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, for as long as the process lives."""

    settings: Settings
    clock: Clock
    database: Database
    vault: Vault
    tokens: DomainTokens
    store: Store
    publisher: Publisher
    event_log: EventLog
    mailer: Mailer
    limits: Limits
    live: Live
    prober: Prober
    callbacks: CallbackClient

    @property
    def public_url(self) -> str:
        """Where people reach the API."""
        manage = self.settings.manage
        return manage.public_url or f"http://{manage.host}:{manage.port}"
