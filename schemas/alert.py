"""What a merchant has to mend before a destination works again: also a value of ``audit``."""

import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import Field

from schemas.record import Record
from schemas.topics import AUDIT, DAY_SECONDS
from schemas.wire import SCHEMA_VERSION, Wire


class AlertKind(StrEnum):
    """What is the matter."""

    MISCONFIGURED = "misconfigured"
    """The platform refuses the token or the account: everything for the destination waits."""


class Alert(Wire):
    """One destination that somebody has to look at."""

    kind: Literal["alert"] = "alert"
    schema_version: int = Field(default=SCHEMA_VERSION, le=SCHEMA_VERSION)
    alert_id: str
    alert: AlertKind
    domain_id: str
    destination_id: str
    platform: str
    code: str | None = None
    """The platform's own code, when it gave one."""
    detail: str | None = None
    """A safe sentence: no personal data, no credential."""
    at: int
    """Unix milliseconds."""

    @property
    def name(self) -> str:
        """What no other one is called."""
        return self.alert_id

    def to_record(self) -> Record:
        """As it goes onto ``audit``."""
        value = self.model_dump_json(exclude_none=True).encode()
        return Record(AUDIT, self.domain_id.encode(), value)


def alert_id(alert: AlertKind, destination_id: str, revision: str, at: int) -> str:
    """Name an alert so that every process that sees the same trouble names it the same.

    ``revision`` stands for the credentials that are in trouble. What lasts is told again on the
    next day (UTC); a reader that keeps one alert per name has one a day.
    """
    day = at // (DAY_SECONDS * 1000)
    text = f"{alert}|{destination_id}|{revision}|{day}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
