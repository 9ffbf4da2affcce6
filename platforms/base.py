"""What an ad platform is to the rest of the system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, SecretStr

from schemas.config import Destination
from schemas.event import Event
from schemas.lenient import TestEventCode
from schemas.outcome import Skip


class AccountCredentials(BaseModel):
    """What a destination needs to be reached: the base of each platform's own model.

    Unknown fields are refused, so that a misspelt one is named when it is set and not when the
    first purchase fails. Secret fields are ``SecretStr``. ``account`` names the field that a
    merchant knows the destination by.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
    account_field: ClassVar[str] = "pixel_id"

    test_event_code: TestEventCode = None

    @property
    def account(self) -> str:
        """The public id of this destination."""
        return str(getattr(self, self.account_field))

    def under(self, test_event_code: str | None) -> Self:
        """The same for deliveries that were routed under this test code; None: live ones.

        A delivery may have waited while the code of its destination changed, so its own counts.
        """
        return self.model_copy(update={"test_event_code": test_event_code})

    def reveal(self) -> dict[str, Any]:
        """All fields with the secrets readable: for the vault to seal, and nothing else."""
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in self
            if value is not None
        }


_FRAME_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, and one event in it, may be."""

    max_events: int
    max_body_bytes: int
    max_age_seconds: int
    """Older than this, an event is refused or useless."""
    max_ahead_seconds: int = 300
    """How far in the future an event may lie: the clocks of shops drift."""
    dedupe_window_seconds: int | None = None
    """For how long the platform tells a repeat by its event id; None when it never does."""

    @property
    def max_payload_bytes(self) -> int:
        """What the payloads of one request may take together: the rest is the request's frame."""
        return self.max_body_bytes - _FRAME_BYTES


@dataclass(frozen=True, slots=True)
class Block:
    """Where an object of the platform's batch keeps what we must know of it, as paths of keys.

    A sender may have written such an object itself (``POST /v1/pmw-events``); ``platforms.blocks``
    reads it.
    """

    name: tuple[str, ...]
    id: tuple[str, ...] | None
    """None when the platform knows no event ids."""
    time: tuple[str, ...] | None
    """None when the platform takes no time: then it is the time of receipt."""
    time_unit_ms: int = 1000
    """What one unit of a time is: 1000 for seconds, 1 for milliseconds."""
    demands_id: bool = False
    """Whether the platform refuses an event without an id."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """What the platform demands and a sender may leave out: plain values, by key."""
    reserved: frozenset[str] = frozenset()
    """Keys that the request has beside the object's own: a sender's would overrule them."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP call, without the base URL, which is a setting."""

    path: str
    body: bytes = field(repr=False)
    """May hold a credential, hence not shown."""
    headers: Mapping[str, str] = field(repr=False)
    """May hold a credential, hence not shown."""
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    """May hold a credential, hence not shown."""
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Response:
    """What came back. ``headers`` has lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Fate(StrEnum):
    """What a platform's answer means for one delivery."""

    DELIVERED = "delivered"
    """The platform's body confirms it."""
    REJECTED = "rejected"
    """This event is refused for good."""
    REFUSED_BATCH = "refused_batch"
    """The request was refused whole and nothing in it was stored; this event may be innocent.
    Never given for a batch of one: there, it is ``REJECTED``."""
    THROTTLED = "throttled"
    """Told to slow down."""
    RETRYABLE = "retryable"
    """Nothing is known to be wrong with the event; try again later."""
    MISCONFIGURED = "misconfigured"
    """Token or account is wrong: no event of this destination can succeed until it is mended."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the platform said of one delivery."""

    fate: Fate
    code: str | None = None
    """The platform's own code, such as ``100/2804003``."""
    detail: str | None = None
    """A sentence of ours or a bounded text of the vendor's, without personal data."""
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """A call that tells whether credentials work, and makes nobody's conversion of it."""

    request: Request
    refused_with: frozenset[str] = frozenset()
    """Codes with which the platform refuses the event of the call: it has accepted the credentials
    then."""

    def accepts(self, verdict: Verdict) -> bool:
        """Whether this answer to the call says that the credentials work."""
        return verdict.fate is Fate.DELIVERED or (
            verdict.fate is Fate.REJECTED and verdict.code in self.refused_with
        )


class Platform(Protocol):
    """The shape of a platform module; each file in this folder is one.

    All functions are pure: same input, same output, no clock, no I/O.
    """

    SLUG: str
    """Names the platform in topics, settings, metrics and the command line."""
    NAME: str
    """How the vendor writes it."""
    BASE_URL: str
    """Scheme and host of the vendor's API, without a trailing slash."""
    LIMITS: Limits
    BLOCK: Block
    Credentials: type[AccountCredentials]

    def payload(self, event: Event, destination: Destination) -> dict[str, Any] | Skip:
        """The exact JSON object of this event in the platform's batch, or why it is not sent.

        Numbers are int, float, str, never Decimal: the dict is ready for ``orjson.dumps``.
        Age, consent and switches are judged before (``streams.route``); everything that is this
        platform's own rule is judged here.
        """
        ...

    def request(self, batch: Sequence[bytes], credentials: Any) -> Request:
        """The HTTP call for payloads that are already JSON; ``credentials`` is this module's."""
        ...

    def read(self, response: Response, batch_size: int) -> list[Verdict]:
        """One verdict per delivery, in the batch's order, always exactly ``batch_size`` long."""
        ...

    def probe(self, credentials: Any, now: int) -> Probe:
        """The call of one event that tells whether ``credentials`` work; ``now`` is Unix time in
        seconds. It must not count as anything that a person did."""
        ...
