"""The month's count ends at what was forwarded, whatever the gateway counted."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as NoRedisError

from runtime.clock import SystemClock
from runtime.quota import QUOTA_KEPT_SECONDS
from streams import quota as module
from streams.claims import Claims
from streams.quota import Quota, correction
from tests.unit.streams.road import (
    ClaimsInMemory,
    Consumed,
    QuotaInMemory,
    consumed,
    raw,
    sent,
    stage,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

MONTH = "quota:org:2026-01"
NEXT_MONTH_MS = 1_769_904_000_000
COUNTED, WITHHELD = {"counted": True}, {"counted": True, "withheld": "bot"}
NO_CONSENT = {"consent": {"marketing": False}}


@pytest.mark.parametrize(
    ("counted", "forwarded", "holder", "change"),
    [
        (True, True, None, 0),
        (False, True, None, 1),
        (True, False, None, -1),
        (False, False, None, 0),
        (True, False, "raw-events-3-2", -1),
        (False, False, "raw-events-3-2", 0),
        (True, False, "raw-events-3-7", 0),
        (False, True, "raw-events-3-7", 0),
    ],
)
def test_what_a_record_changes(
    counted: bool, forwarded: bool, holder: str | None, change: int
) -> None:
    received = raw().model_copy(update={"counted": counted})
    assert correction(received, "raw-events-3-7", holder, forwarded=forwarded) == change


@pytest.mark.parametrize(
    ("batch", "counts"),
    [
        ([consumed(0, COUNTED)], {}),
        ([consumed(0)], {MONTH: 1}),
        ([consumed(0, COUNTED), consumed(1, COUNTED)], {MONTH: -1}),
        ([consumed(0, COUNTED), consumed(1)], {}),
        ([consumed(0, COUNTED, **NO_CONSENT)], {MONTH: -1}),
        ([consumed(0, WITHHELD), consumed(1, COUNTED)], {MONTH: -1}),
        ([consumed(0), consumed(1, COUNTED, eventId="b", **NO_CONSENT)], {MONTH: 0}),
        ([consumed(0, {"receivedAt": NEXT_MONTH_MS - 1, "counted": True}, **NO_CONSENT),
          consumed(1, {"receivedAt": NEXT_MONTH_MS, "counted": True}, eventId="b", **NO_CONSENT)],
         {MONTH: -1, "quota:org:2026-02": -1}),
        ([Consumed(0, b"{")], {}),
    ],
)  # fmt: skip
async def test_what_a_batch_changes(batch: list[Consumed], counts: dict[str, int]) -> None:
    quota = QuotaInMemory()
    await stage(quota=quota).work(batch)
    assert dict(quota.counts) == counts


copies = st.tuples(
    st.sampled_from(["a", "b", "c"]),
    st.booleans(),  # whether the gateway counted it
    st.sampled_from([None, None, "bot"]),
    st.booleans(),  # whether the person consented
)


@given(st.lists(copies, min_size=1, max_size=12), st.lists(st.integers(1, 5), max_size=6))
def test_the_count_ends_at_what_was_forwarded(
    log: list[tuple[str, bool, str | None, bool]], sizes: list[int]
) -> None:
    batch = [
        consumed(n, {"counted": counted, "withheld": withheld},
                 eventId=event_id, consent={"marketing": consent})
        for n, (event_id, counted, withheld, consent) in enumerate(log)
    ]  # fmt: skip

    async def work() -> None:
        quota = QuotaInMemory(**{MONTH: sum(counted for _, counted, _, _ in log)})
        worker = stage(quota=quota, claims=ClaimsInMemory())
        forwarded = start = 0
        for size in [*sizes, len(batch)]:
            forwarded += len(sent(await worker.work(batch[start : start + size])))
            start += size
        assert quota.counts[MONTH] == forwarded

    asyncio.run(work())


async def test_a_batch_worked_again_after_a_crash_is_not_corrected_again() -> None:
    batch = [
        consumed(0),
        consumed(1, COUNTED, eventId="b"),
        consumed(2, COUNTED, eventId="c", **NO_CONSENT),
    ]
    claims, quota = ClaimsInMemory(), QuotaInMemory(**{MONTH: 2})
    for _ in range(3):
        assert len(sent(await stage(claims=claims, quota=quota).work(batch))) == 2
        assert quota.counts[MONTH] == 2


async def test_in_valkey_a_count_follows_and_never_falls_below_zero(redis_client: "Redis") -> None:
    quota = Quota(redis_client, "test.")
    await redis_client.set("test.one", 5)
    await quota.correct({"one": -2, "two": 3, "three": -1, "four": 0})
    assert await redis_client.mget("test.one", "test.two", "test.three", "test.four") == [
        "3", "3", "0", None,
    ]  # fmt: skip
    assert QUOTA_KEPT_SECONDS - 5 <= await redis_client.ttl("test.three") <= QUOTA_KEPT_SECONDS
    await quota.correct({"one": -9})
    assert await redis_client.get("test.one") == "0"
    assert QUOTA_KEPT_SECONDS - 5 <= await redis_client.ttl("test.one") <= QUOTA_KEPT_SECONDS


async def test_claims_and_counts_in_valkey_make_one_whole(redis_client: "Redis") -> None:
    await redis_client.set("test." + MONTH, 3)
    batch = [
        consumed(0, WITHHELD),
        consumed(1, COUNTED),
        consumed(2, COUNTED),
        consumed(3, eventId="b"),
    ]
    claims, quota = Claims(redis_client, SystemClock(), "test."), Quota(redis_client, "test.")
    records = await stage(claims=claims, quota=quota).work(batch)
    assert len(sent(records)) == 2
    assert await redis_client.get("test." + MONTH) == "2"


class Flaky:
    """A script that fails as often as it is told to."""

    def __init__(self, *failures: bool) -> None:
        self.failures = list(failures)
        self.calls: list[tuple[Sequence[str], Sequence[Any]]] = []

    def client(self) -> "Redis":
        return cast("Redis", SimpleNamespace(register_script=lambda _: self))

    async def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> None:
        self.calls.append((keys, args))
        if self.failures and self.failures.pop(0):
            raise NoRedisError("refused")


async def test_nothing_to_correct_asks_nothing_of_redis() -> None:
    script = Flaky()
    known = stage(quota=Quota(script.client()))
    await known.work([consumed(0, COUNTED)])
    await known.work([])
    await known.work([consumed(1, eventId="b"), consumed(2, COUNTED, eventId="b")])
    assert script.calls == []


async def test_a_batch_is_corrected_in_one_call() -> None:
    script = Flaky()
    batch = [consumed(n, eventId=str(n)) for n in range(20)]
    await stage(quota=Quota(script.client(), "test.")).work(batch)
    assert script.calls == [(["test." + MONTH], [20, QUOTA_KEPT_SECONDS])]


async def test_without_redis_events_go_on_and_it_is_told_once_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(
        module, "log", SimpleNamespace(warning=lambda text, **_: warnings.append(text))
    )
    script = Flaky(True, True, False, True)
    known = stage(quota=Quota(script.client()))
    told = []
    for n in range(4):
        assert len(sent(await known.work([consumed(n, eventId=str(n))]))) == 1
        told.append(len(warnings))
    assert told == [1, 1, 1, 2]
    assert len(script.calls) == 4
