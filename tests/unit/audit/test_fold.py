"""What comes of records does not depend on how they come."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.fold import ACCEPTED, UNDER_WAY, CounterKey, Key, Known, Standing, change, fold, readable
from schemas.outcome import Outcome, OutcomeKind, Reason
from schemas.routing import Routing
from tests.unit.audit.told import META, NOON, TIKTOK, Told

Said = Outcome | Routing


class Tables:
    """What is in the database, as far as it bears on what is written."""

    def __init__(self) -> None:
        self.events: set[Key] = set()
        self.deliveries: dict[Key, Known] = {}
        self.counters: Counter[CounterKey] = Counter()
        self.usage: Counter[tuple[str, int, str]] = Counter()
        self.attempts: set[object] = set()
        self.texts: set[object] = set()

    def take(self, said: Sequence[Said]) -> None:
        """Write a batch."""
        batch = fold(said)
        changed = change(batch, self.events & batch.events.keys(), self.deliveries)
        self.events |= {event.key for event in changed.events}
        for new in changed.new:
            key = new.received_at, new.delivery_id
            assert key not in self.deliveries
            self.deliveries[key] = Known(new.standing, new.routed_at)
        for received_at, name, *standing in changed.advanced:
            known = self.deliveries[received_at, name]
            self.deliveries[received_at, name] = known._replace(standing=Standing(*standing))
        for received_at, name, routed_at in changed.routed:
            known = self.deliveries[received_at, name]
            self.deliveries[received_at, name] = known._replace(routed_at=routed_at)
        for counted, n in changed.counters.items():
            self.counters[counted] += n
        for (domain_id, hour), (accepted, billable) in changed.usage.items():
            self.usage[domain_id, hour, "accepted"] += accepted
            self.usage[domain_id, hour, "billable"] += billable
        self.attempts |= set(batch.attempts)
        self.texts |= set(batch.texts)

    def assert_it_adds_up(self) -> None:
        """What is accepted is under way or has come to an end, and is what there is."""
        places = {one._replace(outcome="", reason="") for one in self.counters}
        for place in places:
            counted = Counter[str]()
            for one, n in self.counters.items():
                if one._replace(outcome="", reason="") == place:
                    counted[one.outcome] += n
            accepted, under_way = counted.pop(ACCEPTED), counted.pop(UNDER_WAY)
            assert accepted == under_way + counted.total()
        assert sum(n for one, n in self.counters.items() if one.outcome == ACCEPTED) == len(
            self.deliveries
        )
        waiting = [one for one in self.deliveries.values() if not one.standing.is_final]
        assert sum(n for one, n in self.counters.items() if one.outcome == UNDER_WAY) == len(
            waiting
        )


def _said(*values: bytes | None) -> list[Said]:
    read = [readable(value) for value in values]
    assert all(isinstance(one, Outcome | Routing) for one in read)
    return [one for one in read if isinstance(one, Outcome | Routing)]


def _histories(number: int) -> list[list[Said]]:
    """Ways that an event's records may go, in the order of the log."""
    one = Told(number, received_at=NOON + number, order_id=f"T-{number}")
    again = Told(number, received_at=NOON + number, replay_id="rpl_1")
    bot: dict[str, Any] = {"reason": Reason.BOT, "detail": "A program."}
    return [
        _said(one.routing(META, TIKTOK), one.outcome(), one.outcome(to=TIKTOK, attempt=1)),
        _said(
            one.routing(META),
            one.outcome(OutcomeKind.RETRYING, at=20, attempt=1, reason=Reason.THROTTLED),
            one.outcome(OutcomeKind.PARKED, at=30, attempt=2, code="190"),
            one.refused(attempt=3),
        ),
        _said(one.routing(META), one.outcome(OutcomeKind.RETRYING, attempt=1)),
        _said(one.routing(), one.outcome(OutcomeKind.DUPLICATE, first_source="raw-events-0-0")),
        _said(one.routing(), one.outcome(OutcomeKind.SKIPPED, ("", ""), **bot)),
        _said(again.routing(META), again.outcome()),
    ]


histories = st.lists(st.integers(0, 5), min_size=1, max_size=6).map(
    lambda ways: [_histories(number)[way] for number, way in enumerate(ways)]
)


@given(histories, st.data())
def test_batches_order_and_repeats_change_nothing(
    told: list[list[Said]], data: st.DataObject
) -> None:
    log = [one for history in told for one in history]
    whole = Tables()
    whole.take(log)
    whole.assert_it_adds_up()

    repeated = log + data.draw(st.lists(st.sampled_from(log), max_size=10))
    mixed = data.draw(st.permutations(repeated))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(mixed)), max_size=5)))
    parts = Tables()
    for begin, end in zip([0, *cuts], [*cuts, len(mixed)], strict=True):
        parts.take(mixed[begin:end])
        parts.assert_it_adds_up()

    for name in ("events", "counters", "usage", "attempts", "texts"):
        assert dict.fromkeys(getattr(parts, name)) == dict.fromkeys(getattr(whole, name)), name
    assert parts.counters == whole.counters
    assert parts.usage == whole.usage
    assert _ends(parts) == _ends(whole)


def _ends(tables: Tables) -> dict[Key, tuple[str, int, int | None]]:
    return {
        key: (known.standing.state, known.standing.attempt, known.routed_at)
        for key, known in tables.deliveries.items()
    }


def test_the_first_final_outcome_stays() -> None:
    one = Told()
    for log in (
        _said(one.outcome(), one.refused()),
        _said(one.outcome(), one.outcome(OutcomeKind.PARKED, at=900)),
    ):
        together, apart = Tables(), Tables()
        together.take(log)
        for said in log:
            apart.take([said])
        for tables in (together, apart):
            (known,) = tables.deliveries.values()
            assert known.standing.state == "delivered"
            tables.assert_it_adds_up()


def test_of_passing_outcomes_the_last_one_stands() -> None:
    one = Told()
    log = _said(
        one.routing(META, at=900),
        one.outcome(OutcomeKind.RETRYING, at=100, attempt=1),
        one.outcome(OutcomeKind.PARKED, at=200, attempt=1),
        one.outcome(OutcomeKind.RETRYING, at=300, attempt=1),
    )
    for said in itertools.permutations(log):
        tables = Tables()
        tables.take(said[:2])
        tables.take(said[2:])
        (known,) = tables.deliveries.values()
        assert (known.standing.state, known.standing.at) == ("retrying", NOON + 300)
        assert known.routed_at == NOON + 900


def test_usage_counts_what_went_somewhere_for_the_first_time() -> None:
    tables = Tables()
    tables.take(
        _said(
            Told(1).routing(META, TIKTOK),
            Told(2).routing(META),
            Told(3).routing(),
            Told(4).routing(META, first="raw-events-0-1"),
            Told(1, replay_id="rpl_1").routing(META),
        )
    )
    hour = NOON // 3_600_000
    assert tables.usage == {("dom_1", hour, "accepted"): 4, ("dom_1", hour, "billable"): 2}


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"[]",
        b'{"kind":"outcome"}',
        b'{"kind":"weather"}',
        (Told().outcome() or b"").replace(b'"schemaVersion":1', b'"schemaVersion":2'),
        (Told().outcome() or b"").replace(str(NOON).encode() + b",", b"-1,"),
        (Told().outcome() or b"").replace(str(NOON).encode() + b",", b"9" * 20 + b","),
        (Told().outcome() or b"").replace(b'"attempt":0', b'"attempt":3000000000'),
        (Told().outcome() or b"").replace(b'"at":', b'"at":99'),
    ],
)
def test_what_no_database_takes_is_passed_over(value: bytes | None) -> None:
    assert readable(value) is None


def test_texts_are_cut_to_what_an_index_takes() -> None:
    value = (Told().outcome() or b"").replace(b'"e-1"', b'"' + "é".encode() * 3000 + b'"')
    value = value.replace(b'"Purchase"', b'"' + b"x" * 3000 + b'"')
    told = readable(value)
    assert isinstance(told, Outcome)
    assert (len(told.event_id), len(told.event_name)) == (300, 100)
    nul = readable((Told().outcome() or b"").replace(b'"e-1"', b'"e\\u0000"'))
    assert isinstance(nul, Outcome)
    assert nul.event_id == "e\ufffd"
