"""What must hold when the faults are over, whatever they were. Pure.

The load generator notes an obligation for everything that it sends; the audit, the platforms' side
and the alerts are the evidence. Nothing here knows which faults there were, but for one thing: a
Redis that was emptied excuses a second copy that was accepted before and after.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple, Self

from typing_extensions import override

DELIVERED: Final = "delivered"
DUPLICATE: Final = "duplicate"

_DAY_MS: Final = 24 * 3600 * 1000
_SLACK_MS: Final = 1000
"""How long before the moment of its outcome a delivery may have been remembered."""


@dataclass(slots=True)
class Obligation:
    """One event that was sent, and what is owed for it."""

    domain_id: str
    account: str
    """What the platforms know the shop by."""
    event_id: str
    fates: Mapping[str, str]
    """Platform → the final outcome of the copy that counts."""
    tries: int = 0
    """How often it was sent."""
    taken: int = 0
    """How often that was answered 2xx."""


class FinalOutcome(NamedTuple):
    """One record of a final outcome."""

    name: str
    domain_id: str
    event_id: str
    platform: str
    kind: str
    source: str
    """Which accepted copy of the event it is about."""
    received_at: int
    at: int

    @classmethod
    def of(cls, outcome: Mapping[str, Any]) -> Self:
        """As it lies on audit."""
        return cls(
            outcome["outcomeId"],
            outcome["domainId"],
            outcome["eventId"],
            outcome.get("platform", ""),
            outcome["outcome"],
            outcome["source"],
            outcome["receivedAt"],
            outcome["at"],
        )

    @override
    def __str__(self) -> str:
        return f"{self.kind} at {self.at}, {self.source} of {self.received_at}"


class Alert(NamedTuple):
    """One record of an alert."""

    name: str
    domain_id: str
    platform: str
    at: int

    @classmethod
    def of(cls, alert: Mapping[str, Any]) -> Self:
        """As it lies on audit."""
        return cls(alert["alertId"], alert["domainId"], alert["platform"], alert["at"])


class Receipt(NamedTuple):
    """An event that a platform got."""

    platform: str
    account: str
    event_id: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is to be seen from outside."""

    finals: Sequence[FinalOutcome]
    """Every record, those that repeat another too, in the order of the log."""
    alerts: Sequence[Alert] = ()
    posted: Set[Receipt] = frozenset()
    confirmed: Set[Receipt] = frozenset()
    """Of the posted ones, those that a platform took."""
    emptied: Sequence[tuple[int, int]] = ()
    """Between which moments, Unix milliseconds, Redis was emptied."""
    expired: Set[tuple[str, str]] = frozenset()
    """(domain id, platform) of each destination whose token ran out for a while."""
    once: Set[str] = frozenset()
    """Outcomes that lie on audit once, not only under one name."""


class Breach(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    """Accepted, and without a final outcome at a destination."""
    NO_FIRST_COPY = "no_first_copy"
    """Each copy is said to repeat another."""
    SECOND_COPY = "second_copy"
    """Two copies count, and nothing excuses it."""
    WRONG_FATE = "wrong_fate"
    """The copy that counts came to another end than it should."""
    CONTRADICTED = "contradicted"
    """One delivery has two final outcomes."""
    TWICE = "twice"
    """An outcome that is to lie on audit once lies there again."""
    INVENTED_OUTCOME = "invented_outcome"
    """For what nobody sent, or sent less often."""
    INVENTED_DELIVERY = "invented_delivery"
    """A platform got what was not for it."""
    UNCONFIRMED = "unconfirmed"
    """Told to be delivered, and the platform does not have it."""
    NO_ALERT = "no_alert"
    """A token ran out and nobody was told."""
    FALSE_ALERT = "false_alert"
    """Nothing was wrong with the destination, or it was told already."""


class Violation(NamedTuple):
    """One thing that is wrong."""

    breach: Breach
    what: str


def judge(obligations: Iterable[Obligation], evidence: Evidence) -> list[Violation]:
    """Everything that is wrong."""
    owed = {(one.domain_id, one.event_id): one for one in obligations}
    found: defaultdict[tuple[str, str], list[FinalOutcome]] = defaultdict(list)
    violations = []
    for final in evidence.finals:
        obligation = owed.get((final.domain_id, final.event_id))
        if obligation is None or final.platform not in obligation.fates:
            what = f"{final.event_id} at {final.platform}: {final}"
            violations.append(Violation(Breach.INVENTED_OUTCOME, what))
        else:
            found[final.domain_id, final.event_id].append(final)
    for key, obligation in owed.items():
        violations += _judge_event(obligation, found[key], evidence)
    violations += _judge_posts(owed.values(), evidence.posted)
    violations += _judge_alerts(evidence)
    return violations


def _judge_event(
    obligation: Obligation, finals: Sequence[FinalOutcome], evidence: Evidence
) -> Iterator[Violation]:
    copies = {final.source for final in finals}
    for platform in obligation.fates:
        mine: defaultdict[str, list[FinalOutcome]] = defaultdict(list)
        for final in finals:
            if final.platform == platform:
                mine[final.source].append(final)
        what = f"{obligation.event_id} at {platform}"
        yield from _judge_count(obligation, what, len(mine), len(copies))
        for told in mine.values():
            yield from _judge_copy(what, told, evidence)
        if mine:
            yield from _judge_first(obligation, platform, what, mine.values(), evidence)


def _judge_count(obligation: Obligation, what: str, told: int, copies: int) -> Iterator[Violation]:
    """A copy that is told at one destination was accepted, whether or not its sender knows."""
    due = max(obligation.taken, copies)
    if told < due:
        yield Violation(Breach.LOST, f"{what}: {told} of {due} copies have an outcome")
    if told > obligation.tries:
        sent = f"{told} copies have an outcome, {obligation.tries} were sent"
        yield Violation(Breach.INVENTED_OUTCOME, f"{what}: {sent}")


def _judge_copy(what: str, told: Sequence[FinalOutcome], evidence: Evidence) -> Iterator[Violation]:
    """All records about one copy at one destination.

    Worked again after Redis was emptied, a copy may find another one in its place, or none any
    more; and what had been delivered before is not remembered.
    """
    if len(names := {final.name for final in told}) > 1:
        yield Violation(Breach.CONTRADICTED, f"{what}: {sorted(names)} for {told[0]}")
    kinds = Counter(final.kind for final in told)
    moments = [final.at for final in told]
    records = "; ".join(map(str, told))
    if len(kinds) > 1 and not (
        DUPLICATE in kinds and _emptied_between(told[0].received_at, max(moments), evidence)
    ):
        yield Violation(Breach.CONTRADICTED, f"{what}: {records}")
    if any(kinds[kind] > 1 for kind in evidence.once) and not _emptied_between(
        min(moments) - _SLACK_MS, max(moments), evidence
    ):
        yield Violation(Breach.TWICE, f"{what}: {records}")


def _judge_first(
    obligation: Obligation,
    platform: str,
    what: str,
    copies: Iterable[Sequence[FinalOutcome]],
    evidence: Evidence,
) -> Iterator[Violation]:
    """The copy that counts: there is one, and it came to the right end."""
    counted = [final for told in copies for final in told[:1] if final.kind != DUPLICATE]
    counted.sort(key=lambda final: final.received_at)
    if not counted:
        yield Violation(Breach.NO_FIRST_COPY, what)
    for earlier, later in pairwise(counted):
        if not _emptied_between(earlier.received_at, later.at, evidence):
            yield Violation(Breach.SECOND_COPY, f"{what}: {earlier} and {later}")
    for final in counted:
        if final.kind != obligation.fates[platform]:
            yield Violation(Breach.WRONG_FATE, f"{what}: {final}")
    receipt = Receipt(platform, obligation.account, obligation.event_id)
    if any(final.kind == DELIVERED for final in counted) and receipt not in evidence.confirmed:
        yield Violation(Breach.UNCONFIRMED, what)


def _emptied_between(earlier: int, later: int, evidence: Evidence) -> bool:
    return any(begin <= later and earlier <= end for begin, end in evidence.emptied)


def _judge_posts(obligations: Iterable[Obligation], posted: Set[Receipt]) -> Iterator[Violation]:
    meant = {
        Receipt(platform, obligation.account, obligation.event_id)
        for obligation in obligations
        for platform, fate in obligation.fates.items()
        if fate != "skipped"
    }
    for receipt in sorted(posted - meant, key=str):
        yield Violation(Breach.INVENTED_DELIVERY, str(receipt))


def _judge_alerts(evidence: Evidence) -> Iterator[Violation]:
    """One name for each destination in trouble, and day; it may be written more than once."""
    told: defaultdict[tuple[str, str], dict[int, set[str]]] = defaultdict(dict)
    for alert in evidence.alerts:
        days = told[alert.domain_id, alert.platform]
        days.setdefault(alert.at // _DAY_MS, set()).add(alert.name)
    for destination in evidence.expired - told.keys():
        yield Violation(Breach.NO_ALERT, str(destination))
    for destination, days in told.items():
        if destination not in evidence.expired or any(len(names) > 1 for names in days.values()):
            yield Violation(Breach.FALSE_ALERT, f"{destination}: {days}")
