"""What lanes work with, and what they are told of their destinations."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from platforms.base import AccountCredentials
from runtime.clock import Clock
from runtime.errors import CapistreamError
from runtime.settings import SinksSettings
from schemas.delivery import Delivery
from sinks.client import PlatformClient
from sinks.journal import Entry
from sinks.ledger import Ledger
from sinks.offsets import Position


class DestinationGoneError(CapistreamError):
    """The destination is no longer configured."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a destination is reached with now."""

    credentials: AccountCredentials
    revision: str
    """Changes with the credentials."""


@dataclass(frozen=True, slots=True)
class LaneTools:
    """What every lane works with."""

    settings: SinksSettings
    clock: Clock
    client: PlatformClient
    ledger: Ledger
    dice: Callable[[], float]
    room: asyncio.Semaphore
    """For requests of all lanes together."""
    is_crowded: Callable[[], bool]
    """Whether the process holds as much as it may."""
    record: Callable[[Sequence[Entry]], None]
    """Have these put on record."""
    ours: Callable[[Sequence[Position]], list[bool]]
    """Which of these records are still this process's to work."""
    account: Callable[[Delivery], Account]
    """Raises ``DestinationGoneError``, or ``CapistreamError`` when it cannot be opened."""
    failed: Callable[[BaseException], None]
    """Hears of what must not happen."""
