"""The sinks stage alone, on a real log: what waits, what is mended, what dies."""

import time
from collections import Counter

import pytest

from tests.integration.conftest import ON_APACHE
from tests.integration.dying_sinks import STEPS, STEPS_FILE
from tests.integration.outflow import Outflow
from tests.integration.system import FINAL, eventually

SHORT_WAITS = {
    "CAPISTREAM_SINKS__IN_PLACE_SECONDS": "1",
    "CAPISTREAM_SINKS__RETRY_SECONDS": "1,2,3",
    "CAPISTREAM_SINKS__BACKOFF_CAP_SECONDS": "1",
    "CAPISTREAM_SINKS__LINGER_SECONDS": "0.2",
}

PROCESSES = 2 if ON_APACHE else 1
"""The embedded broker may take half a minute to share out partitions among two."""


def numbered(prefix: str, count: int) -> list[str]:
    """So many event ids."""
    return [f"{prefix}-{number}" for number in range(count)]


def not_once(fates: dict[str, list[str]], *kinds: str) -> dict[str, list[str]]:
    """The deliveries that have not exactly one final outcome, of these kinds, as it lies on audit.

    The embedded broker has no transactions: there it may lie twice, under one id."""
    wrong = {}
    for name, told in fates.items():
        final = [one for one in told if one in FINAL]
        final = final if ON_APACHE else sorted(set(final))
        if len(final) != 1 or final[0] not in kinds:
            wrong[name] = told
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("outflow", [SHORT_WAITS], indirect=True)
def test_what_cannot_be_sent_waits_in_the_retry_topics_and_arrives(outflow: Outflow) -> None:
    outflow.script("meta", {"kind": "status", "status": 503, "times": None})
    with outflow.workers():
        outflow.feed("meta", numbered("m", 300))
        outflow.feed("tiktok", numbered("t", 20))
        outflow.until_told("tiktok", "delivered", within=30)
        eventually(
            lambda: len(outflow.system.records("deliveries.meta.retry.2")),
            within=30,
            until=lambda count: count >= 300,
        )
        assert not any("delivered" in told for told in outflow.fates("meta").values())
        outflow.behave()
        fates = outflow.until_told("meta", "delivered", within=40)
    assert not not_once(fates, "delivered")
    assert set(outflow.received("meta").values()) == {1}
    assert {told[0] for told in fates.values()} == {"retrying"}
    # Each attempt is told once: here, in the first tier, in the second.
    assert max(told.count("retrying") for told in fates.values()) <= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "outflow", [SHORT_WAITS | {"CAPISTREAM_SINKS__PARKED_SECONDS": "3600"}], indirect=True
)
def test_what_is_parked_is_released_at_once_when_the_destination_is_mended(
    outflow: Outflow,
) -> None:
    outflow.system.set_token(outflow.shop.host, "meta", "expired-token")
    with outflow.workers(PROCESSES):
        outflow.feed("meta", numbered("m", 2_000))
        outflow.feed("snapchat", numbered("s", 10))
        outflow.until_told("meta", "parked", within=40)
        outflow.until_told("snapchat", "delivered", within=20)
        outflow.feed("meta", numbered("later", 500))
        outflow.until_told("meta", "parked", within=20)
        for number in range(10):
            outflow.feed("meta", numbered(f"known-{number}", 20))
            outflow.until_told("meta", "parked", within=20)
        assert outflow.stats("meta")["requests"] <= PROCESSES * 4, "nobody asks for what is known"
    # What is parked outlives the processes that parked it.
    with outflow.workers(PROCESSES):
        outflow.feed("snapchat", numbered("again", 10))
        outflow.until_told("snapchat", "delivered", within=30)
        began_at = time.monotonic()
        outflow.system.set_token(outflow.shop.host, "meta", "good-token")
        fates = outflow.until_told("meta", "delivered", within=30)
        took = time.monotonic() - began_at
    assert took < 25, "the command itself takes a second or two"
    assert not not_once(fates, "delivered")
    assert all(told.count("parked") == 1 for told in fates.values())
    assert outflow.received("meta") == Counter(outflow.sent["meta"])
    assert len({alert["alertId"] for alert in outflow.alerts()}) == 1
    assert outflow.alerts()[0]["alert"] == "misconfigured"


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("outflow", [SHORT_WAITS], indirect=True)
def test_killed_at_every_step_each_outcome_is_there_once(outflow: Outflow) -> None:
    steps = [step for step, (owner, *_) in STEPS.items() if _is_of_this_log(owner.__name__)]
    path = outflow.system.directory / STEPS_FILE
    path.write_text("".join(f"{step}\n" for step in steps))
    with outflow.workers(module="tests.integration.dying_sinks") as workers:
        for number in range(len(steps) + 1):
            outflow.feed("meta", [f"{number}-refuse-at-meta", *numbered(str(number), 50)])
            outflow.feed("reddit", numbered(str(number), 50))
            dead = min(number + 1, len(steps))
            eventually(lambda: len(workers.ended) >= dead, within=60, until=bool)  # noqa: B023
        meta = outflow.until_final("meta", within=60)
        reddit = outflow.until_told("reddit", "delivered", within=30)
    assert path.read_text() == "", "each step was taken"
    assert not not_once(meta, "delivered", "rejected")
    assert not not_once(reddit, "delivered")
    rejected = {name for name, told in meta.items() if "rejected" in told}
    assert rejected == {f"{number}-refuse-at-meta" for number in range(len(steps) + 1)}
    assert len(outflow.letters()) >= len(rejected)
    if ON_APACHE:
        assert len(outflow.letters()) == len(rejected)


def _is_of_this_log(owner: str) -> bool:
    unused = {"FlushThenCommit", "Group"} if ON_APACHE else {"TransactionalCommit"}
    return owner not in unused


@pytest.mark.slow
def test_many_that_wait_for_one_do_not_delay_a_few_for_another(outflow: Outflow) -> None:
    outflow.script("meta", {"kind": "slow", "seconds": 2, "times": None})
    outflow.feed("meta", numbered("m", 30_000))
    outflow.feed("pinterest", numbered("p", 3))
    with outflow.workers():
        fates = outflow.until_told("pinterest", "delivered", within=60)
        done = len(outflow.fates("meta"))
        assert done < 20_000, "the few did not wait for the many"
        outflow.behave()
    assert not not_once(fates, "delivered")
