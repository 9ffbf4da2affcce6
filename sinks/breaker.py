"""Whether a destination may be asked, and by how many requests at once. Pure: it is told the time.

Closed, all that have room may go. After a failure the destination is left alone for a while; after
several in a row, after being told to slow down, or with a wrong token, it is then tried by exactly
one request, whose success closes the breaker and whose failure opens it again.
"""

from dataclasses import dataclass
from enum import StrEnum

from sinks.backoff import Backoff


class State(StrEnum):
    """What is known of a destination."""

    WORKING = "working"
    FAILING = "failing"
    """It did not answer, answered that it cannot, or asked to be left alone."""
    MISCONFIGURED = "misconfigured"
    """Its token or its account is wrong."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave for one request. News of a request from before the breaker's last turn does not turn
    it again: ten requests that fail together are one failure."""

    turn: int


class Breaker:
    """The breaker of one destination."""

    def __init__(self, backoff: Backoff, failures_until_open: int) -> None:
        """Closed. ``failures_until_open`` is after how many failures in a row it opens."""
        self._backoff = backoff
        self._limit = failures_until_open
        self._turn = 0
        self._failures = 0
        self._probing = False
        self.state = State.WORKING
        self.held_until = 0.0
        """Nothing is sent before this moment (monotonic seconds)."""

    @property
    def needs_probe(self) -> bool:
        """Whether only one request may go, to see whether the destination works again."""
        return self._failures >= self._limit or self.state is State.MISCONFIGURED

    def room(self, now: float, free: int) -> int:
        """How many requests may be sent, when there is room for ``free``."""
        if now < self.held_until:
            return 0
        if self.needs_probe:
            return 0 if self._probing else min(free, 1)
        return free

    def begin(self) -> Permit:
        """A request is sent."""
        self._probing = self.needs_probe
        return Permit(self._turn)

    def ended(self, permit: Permit) -> None:
        """The request is over, whatever came of it, or was not made after all."""
        if permit.turn == self._turn:
            self._probing = False

    def succeeded(self, permit: Permit) -> None:
        """The platform took what was sent, or refused just some of it."""
        if permit.turn == self._turn:
            self._turned(State.WORKING, 0, self.held_until)

    def failed(self, permit: Permit, now: float, asked_seconds: float | None = None) -> None:
        """The request failed for no fault of its deliveries; try again later.

        ``asked_seconds`` is how long the platform asked to wait, if it did.
        """
        if permit.turn == self._turn:
            failures = self._failures + 1
            self._turned(State.FAILING, failures, now + self._backoff(failures, asked_seconds))
        elif asked_seconds is not None:
            self.hold(now + asked_seconds)

    def throttled(self, permit: Permit, now: float, asked_seconds: float | None) -> None:
        """The platform asked to slow down: it is tried by one request after its time."""
        if permit.turn == self._turn:
            self._failures = max(self._failures, self._limit - 1)
        self.failed(permit, now, asked_seconds)

    def misconfigured(self, now: float, seconds: float) -> None:
        """Token or account is wrong: wait for a change of the configuration, or so many seconds."""
        self._turned(State.MISCONFIGURED, self._failures, now + seconds)

    def hold(self, until: float) -> None:
        """Send nothing before ``until`` (monotonic seconds), though all is well."""
        self.held_until = max(self.held_until, until)

    def suspect(self) -> None:
        """Let the next request be a probe."""
        if not self.needs_probe:
            self._turn += 1
            self._failures = self._limit

    def reset(self) -> None:
        """Its configuration changed: nothing that is known of it holds any more."""
        self._turned(State.WORKING, 0, 0.0)

    def _turned(self, state: State, failures: int, held_until: float) -> None:
        if state is not State.WORKING or self.state is not State.WORKING or self._failures:
            self._turn += 1
        self.state, self._failures, self.held_until = state, failures, held_until
        self._probing = False
