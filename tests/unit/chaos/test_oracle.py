"""Each thing that can be wrong is found, and what faults may leave behind is not taken for one."""

import dataclasses
from typing import Any

import pytest

from tests.chaos.oracle import (
    Alert,
    Breach,
    Evidence,
    FinalOutcome,
    Obligation,
    Receipt,
    judge,
)

DAY_MS = 24 * 3600 * 1000
FATES = {"meta": "delivered", "snackvideo": "skipped"}


def owed(event_id: str = "e", *, tries: int = 1, taken: int = 1, **fates: str) -> Obligation:
    return Obligation("dom", "pixel", event_id, fates or FATES, tries, taken)


def told(platform: str, kind: str, **changes: Any) -> FinalOutcome:
    """About the first copy of the event, unless said otherwise."""
    source = changes.get("source", "raw-events-0-1")
    first = FinalOutcome(
        name=f"{source} {platform}",
        domain_id="dom",
        event_id="e",
        platform=platform,
        kind=kind,
        source=source,
        received_at=1000,
        at=2000,
    )
    return first._replace(**changes)


def second(platform: str, kind: str, **changes: Any) -> FinalOutcome:
    """About a copy that was accepted later."""
    return told(
        platform, kind, **{"source": "raw-events-0-9", "received_at": 5000, "at": 6000} | changes
    )


TAKEN = Receipt("meta", "pixel", "e")
DELIVERED = told("meta", "delivered")
SKIPPED = told("snackvideo", "skipped")
REPEATED = (second("meta", "duplicate"), second("snackvideo", "duplicate"))
GOOD = Evidence([DELIVERED, SKIPPED], posted={TAKEN}, confirmed={TAKEN})
TWO_COPIES = dataclasses.replace(GOOD, finals=[*GOOD.finals, *REPEATED])
EXPIRED = dataclasses.replace(GOOD, expired={("dom", "meta")})
ALERT = Alert("one", "dom", "meta", 1000)


def breaches(obligation: Obligation, evidence: Evidence) -> list[Breach]:
    return [violation.breach for violation in judge([obligation], evidence)]


def but(evidence: Evidence, *finals: FinalOutcome, **changes: Any) -> Evidence:
    """With these final outcomes, where there are any."""
    if finals:
        changes["finals"] = finals
    return dataclasses.replace(evidence, **changes)


@pytest.mark.parametrize(
    ("obligation", "evidence"),
    [
        pytest.param(owed(), GOOD, id="one-copy"),
        pytest.param(owed(tries=2, taken=2), TWO_COPIES, id="accepted-twice"),
        pytest.param(owed(tries=2), TWO_COPIES, id="accepted-twice-and-answered-once"),
        pytest.param(owed(tries=2), GOOD, id="sent-twice-and-accepted-once"),
        pytest.param(owed(taken=0), Evidence([]), id="never-accepted"),
        pytest.param(owed(), but(GOOD, DELIVERED, DELIVERED, SKIPPED), id="told-again"),
        pytest.param(
            owed(), but(GOOD, DELIVERED, SKIPPED, SKIPPED, once={"delivered"}), id="may-be-told-again"
        ),
        pytest.param(
            owed(tries=2, taken=2),
            but(GOOD, *GOOD.finals, second("meta", "delivered"), second("snackvideo", "skipped"), emptied=[(3000, 3001)]),
            id="second-copy-after-redis-was-emptied",
        ),
        pytest.param(
            owed(tries=2, taken=2, meta="delivered"),
            but(GOOD, second("meta", "delivered"), DELIVERED, emptied=[(3000, 3001)]),
            id="second-copy-that-is-told-first",
        ),
        pytest.param(
            owed(tries=2, taken=2),
            but(TWO_COPIES, *TWO_COPIES.finals, told("meta", "duplicate", at=6000), emptied=[(3000, 3001)]),
            id="worked-again-after-redis-was-emptied",
        ),
        pytest.param(
            owed(tries=2, taken=2),
            but(TWO_COPIES, DELIVERED, SKIPPED, *REPEATED, second("meta", "delivered", at=7000), emptied=[(6500, 6501)]),
            id="no-duplicate-any-more-after-redis-was-emptied",
        ),
        pytest.param(
            owed(),
            but(GOOD, DELIVERED, SKIPPED, told("meta", "delivered", at=3000), once={"delivered"}, emptied=[(2000, 2001)]),
            id="told-again-after-redis-was-emptied",
        ),
        pytest.param(owed(), but(EXPIRED, alerts=[ALERT, ALERT]), id="an-alert-of-one-name"),
        pytest.param(
            owed(),
            but(EXPIRED, alerts=[ALERT, ALERT._replace(name="two", at=DAY_MS + 1)]),
            id="an-alert-of-the-next-day",
        ),
    ],
)  # fmt: skip
def test_nothing_is_wrong(obligation: Obligation, evidence: Evidence) -> None:
    assert judge([obligation], evidence) == []


@pytest.mark.parametrize(
    ("breach", "obligation", "evidence"),
    [
        pytest.param(Breach.LOST, owed(meta="delivered"), Evidence([]), id="without-a-trace"),
        pytest.param(Breach.LOST, owed(), but(GOOD, DELIVERED), id="at-one-destination"),
        pytest.param(Breach.LOST, owed(tries=2, taken=2), but(TWO_COPIES, *GOOD.finals, REPEATED[0]), id="of-one-copy"),
        pytest.param(Breach.LOST, owed(tries=2), but(TWO_COPIES, *GOOD.finals, REPEATED[0]), id="of-a-copy-that-was-not-answered"),
        pytest.param(Breach.NO_FIRST_COPY, owed(meta="delivered"), but(GOOD, told("meta", "duplicate")), id="only-repeats"),
        pytest.param(
            Breach.SECOND_COPY,
            owed(tries=2, taken=2),
            but(TWO_COPIES, *GOOD.finals, second("meta", "delivered"), REPEATED[1]),
            id="both-copies-count",
        ),
        pytest.param(
            Breach.SECOND_COPY,
            owed(tries=2, taken=2),
            but(TWO_COPIES, *GOOD.finals, second("meta", "delivered"), REPEATED[1], emptied=[(900, 999)]),
            id="redis-was-emptied-before-both",
        ),
        pytest.param(
            Breach.SECOND_COPY,
            owed(tries=2, taken=2),
            but(TWO_COPIES, *GOOD.finals, second("meta", "delivered"), REPEATED[1], emptied=[(6001, 6002)]),
            id="redis-was-emptied-after-both",
        ),
        pytest.param(Breach.WRONG_FATE, owed(), but(GOOD, told("meta", "expired"), SKIPPED), id="expired"),
        pytest.param(Breach.CONTRADICTED, owed(), but(GOOD, DELIVERED, told("meta", "rejected"), SKIPPED), id="two-ends"),
        pytest.param(
            Breach.CONTRADICTED,
            owed(),
            but(GOOD, DELIVERED, told("meta", "rejected"), SKIPPED, emptied=[(1500, 1501)]),
            id="two-ends-that-redis-does-not-excuse",
        ),
        pytest.param(
            Breach.CONTRADICTED,
            owed(),
            but(GOOD, DELIVERED, told("meta", "duplicate", at=2500), SKIPPED, emptied=[(2600, 2601)]),
            id="a-duplicate-before-redis-was-emptied",
        ),
        pytest.param(
            Breach.CONTRADICTED, owed(), but(GOOD, DELIVERED, told("meta", "delivered", name="other"), SKIPPED), id="two-names"
        ),
        pytest.param(Breach.TWICE, owed(), but(GOOD, DELIVERED, DELIVERED, SKIPPED, once={"delivered"}), id="told-again"),
        pytest.param(
            Breach.TWICE,
            owed(),
            but(GOOD, DELIVERED, SKIPPED, told("meta", "delivered", at=3000), once={"delivered"}, emptied=[(990, 995)]),
            id="told-again-long-after-redis-was-emptied",
        ),
        pytest.param(Breach.INVENTED_OUTCOME, owed(), but(GOOD, *GOOD.finals, told("meta", "delivered", event_id="x")), id="nobody-sent-it"),
        pytest.param(Breach.INVENTED_OUTCOME, owed(), but(GOOD, *GOOD.finals, told("meta", "delivered", domain_id="x")), id="another-shop"),
        pytest.param(Breach.INVENTED_OUTCOME, owed(), but(GOOD, *GOOD.finals, told("reddit", "delivered")), id="not-a-destination"),
        pytest.param(Breach.INVENTED_OUTCOME, owed(meta="delivered"), but(TWO_COPIES, DELIVERED, REPEATED[0]), id="more-than-were-sent"),
        pytest.param(Breach.INVENTED_DELIVERY, owed(), but(GOOD, posted={TAKEN, Receipt("meta", "pixel", "x")}), id="nobody-sent-that"),
        pytest.param(Breach.INVENTED_DELIVERY, owed(), but(GOOD, posted={TAKEN, Receipt("meta", "x", "e")}), id="another-account"),
        pytest.param(Breach.INVENTED_DELIVERY, owed(), but(GOOD, posted={TAKEN, Receipt("snackvideo", "pixel", "e")}), id="to-be-skipped"),
        pytest.param(Breach.UNCONFIRMED, owed(), but(GOOD, confirmed=set()), id="posted-and-not-taken"),
        pytest.param(Breach.NO_ALERT, owed(), EXPIRED, id="none"),
        pytest.param(Breach.NO_ALERT, owed(), but(EXPIRED, expired={("dom", "meta"), ("dom", "reddit")}, alerts=[ALERT]), id="one-of-two"),
        pytest.param(Breach.FALSE_ALERT, owed(), but(GOOD, alerts=[ALERT]), id="nothing-was-wrong"),
        pytest.param(Breach.FALSE_ALERT, owed(), but(EXPIRED, alerts=[ALERT, ALERT._replace(name="two")]), id="told-under-two-names"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(breach: Breach, obligation: Obligation, evidence: Evidence) -> None:
    assert breaches(obligation, evidence) == [breach]


def test_everything_that_can_be_wrong_is_tried() -> None:
    (marks,) = (m for m in test_what_is_wrong_is_found.pytestmark if m.name == "parametrize")  # type: ignore[attr-defined]
    assert {case.values[0] for case in marks.args[1]} == set(Breach)


def test_what_shares_an_id_is_told_apart_by_its_shop() -> None:
    other = Obligation("other", "pixel-2", "e", {"meta": "rejected"}, 1, 1)
    refused = told("meta", "rejected", domain_id="other", name="n")
    posted = {TAKEN, Receipt("meta", "pixel-2", "e")}
    evidence = but(GOOD, *GOOD.finals, refused, posted=posted)

    assert judge([owed(), other], evidence) == []
    swapped = but(evidence, *GOOD.finals, refused._replace(kind="delivered"))
    assert [v.breach for v in judge([owed(), other], swapped)] == [
        Breach.WRONG_FATE,
        Breach.UNCONFIRMED,
    ]
