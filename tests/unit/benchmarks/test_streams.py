"""The streams' measurement gives everybody the same work, and compares what belongs together."""

from pathlib import Path

import pytest

from benchmarks import quix_home
from benchmarks.quix_home import NoQuixError, quix_python
from benchmarks.streams import ARRANGEMENTS, Round, figures_of, notes_of, ratios_of
from benchmarks.streams_bed import Drained
from benchmarks.streams_steps import measure_transforms
from benchmarks.streams_work import FED, SHOP, raw_record, records_of, wanted_of
from schemas.raw_event import RawEvent
from schemas.topics import AUDIT, deliveries
from streams.decode import decode
from tests.outcomes import outcomes_among

NOW_MS = 1_767_225_600_000


def _raw(number: int) -> RawEvent:
    return decode(raw_record(number, NOW_MS, "run")[1])


def _round(*, ours: float, limit: float = 4000.0, least: float = 0.5) -> Round:
    rates = {"limit": limit, "ours": ours, "ours_of_two": 1.5 * ours, "naive": 500.0}
    return {
        name: Drained(
            rate, cpu_us_per_event=1100.0 if name == "naive" else 200.0, least_busy_share=least
        )
        for name, rate in rates.items()
    }


@pytest.mark.parametrize("number", range(20))
def test_an_event_goes_to_every_platform(number: int) -> None:
    """None of the funnel's events is skipped anywhere: a run has five records of each event."""
    records = records_of(_raw(number), "raw-events-0-1", None, NOW_MS)
    assert {record.topic for record in records} == {*map(deliveries, FED), AUDIT}
    assert outcomes_among(records) == []


def test_a_repeat_has_the_claim_of_another_and_five_outcomes() -> None:
    """In the same partition, for it has the same key."""
    repeat, original = _raw(49), _raw(24)
    assert wanted_of(repeat, "t")[0] == wanted_of(original, "t")[0]
    assert raw_record(49, NOW_MS, "run")[0] == raw_record(24, NOW_MS, "run")[0]
    records = records_of(repeat, "raw-events-0-9", "raw-events-0-1", NOW_MS)
    assert {record.topic for record in records} == {AUDIT}
    assert len(outcomes_among(records)) == len(FED)


def test_two_runs_have_no_event_in_common() -> None:
    """Else the second would find nothing but duplicates."""
    first, second = (decode(raw_record(7, NOW_MS, run)[1]) for run in ("a", "b"))
    assert wanted_of(first, "t")[0] != wanted_of(second, "t")[0]


def test_steps_name_every_platform() -> None:
    """A step that is not measured would be hidden in the others."""
    steps = measure_transforms(3)
    assert {f"payload {slug}" for slug in FED} < steps.keys()
    assert all(microseconds > 0 for microseconds in steps.values())
    assert len(SHOP.destinations) == len(FED)


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is half as fast for one round changes no ratio."""
    rounds = [_round(ours=3600.0), _round(ours=1800.0, limit=2000.0), _round(ours=3200.0)]
    ratios = ratios_of(rounds, transforms_us=100.0)
    assert ratios["ours_vs_limit"] == 0.9
    assert ratios["two_workers_vs_one"] == 1.5
    assert ratios["naive_overhead_vs_ours"] == 10.0


def test_what_was_not_measured_is_none() -> None:
    """Quix cannot be installed everywhere."""
    rounds = [_round(ours=3600.0)]
    assert figures_of(rounds)["quix"] is None
    assert ratios_of(rounds, 100.0)["ours_vs_quix"] is None
    assert figures_of(rounds)["ours"] == {"events_per_second": 3600, "cpu_us_per_event": 200.0}


def test_an_idle_worker_is_told() -> None:
    """Two workers of which one holds no partitions are one."""
    assert notes_of([_round(ours=1.0)]) == []
    (note,) = notes_of([_round(ours=1.0), _round(ours=1.0, least=0.03)])
    assert "3%" in note


def test_arrangements_are_told_apart_by_name() -> None:
    """Their figures stand under it."""
    assert len({one.name for one in ARRANGEMENTS}) == len(ARRANGEMENTS)


def test_an_environment_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With what was tried, so that the figure's absence can be explained."""
    monkeypatch.setattr(quix_home, "HOME", tmp_path / "quix")
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    with pytest.raises(NoQuixError, match=r"quixstreams==.*no-python"):
        quix_python()
    assert "making an environment" in capfd.readouterr().err
