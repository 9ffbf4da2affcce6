"""The event log's measurement is of a busy system's month, the same in every run."""

import itertools
from collections import Counter

from benchmarks.audit_work import DAY_MS, DAYS, DOMAINS, ENDS_AT, PLATFORMS, questions, records
from schemas.audit import read_told
from schemas.outcome import Outcome
from schemas.routing import Routing

OUTCOMES = 10_000


def test_the_work_is_what_a_month_is() -> None:
    told = [read_told(record.value) for record in records(OUTCOMES)]
    outcomes = [one for one in told if isinstance(one, Outcome)]
    routings = [one for one in told if isinstance(one, Routing)]
    assert (len(outcomes), len(routings)) == (OUTCOMES, OUTCOMES // len(PLATFORMS))
    names = {one.outcome_id for one in outcomes} | {one.routing_id for one in routings}
    assert len(names) == len(told)
    kinds = Counter(one.outcome.value for one in outcomes)
    assert kinds["delivered"] > 0.8 * OUTCOMES
    assert {"skipped", "duplicate", "rejected", "expired", "retrying", "parked"} < set(kinds)
    domains = Counter(one.domain_id for one in routings)
    assert DOMAINS * 0.9 < len(domains) <= DOMAINS
    times = [one.received_at for one in routings]
    assert times == sorted(times)
    assert times[-1] - times[0] > (DAYS - 1) * DAY_MS
    assert times[-1] < ENDS_AT


def test_every_run_is_the_same() -> None:
    first, second = (list(itertools.islice(records(100), 100)) for _ in range(2))
    assert first == second
    assert questions(20, 100) == questions(20, 100)


def test_each_filter_is_asked_for_alone_and_with_others() -> None:
    asked = questions(1000, OUTCOMES // 5)
    used = [one.query.model_fields_set - {"limit"} for one in asked]
    filters = set().union(*used)
    assert len(filters) == 11
    assert {name for one in used if len(one) == 1 for name in one} == filters
    assert {len(one) for one in used} == {0, 1, 2, 3, 4}
    assert {len(one.domain_ids) for one in asked} == {1, 2, 3, 5, 10, 25}
