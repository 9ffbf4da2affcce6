"""Which events a replay picks."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capistream.again import Pace
from capistream.output import print_fields
from capistream.replay import FirstCopies, Picker, Wanted, pick_destinations, read_moment
from runtime.errors import CapistreamError
from runtime.kafka import ConsumedRecord
from schemas.config import DomainConfig
from schemas.raw_event import RawEvent
from schemas.replay import Replay
from tests.unit.runtime.clocks import JumpingClock

NOW = 1_800_000_000_000
RAW: dict[str, Any] = {
    "domainId": "dom_1",
    "door": "events",
    "requestId": "r",
    "receivedAt": 1000,
    "event": {"eventId": "e-1", "eventName": "Purchase", "eventTime": 1767225600},
}
SHOP = DomainConfig.model_validate(
    {
        "domainId": "dom_1", "orgId": "org", "host": "shop.example", "revision": 1,
        "syncTokenSha256": "",
        "destinations": [
            {"id": "dst_1", "platform": "meta", "account": "1", "sealed": ""},
            {"id": "dst_2", "platform": "tiktok", "account": "2", "sealed": ""},
            {"id": "dst_3", "platform": "meta", "account": "3", "sealed": ""},
        ],
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOW - 7_200_000),
        ("3d", NOW - 3 * 86_400_000),
        ("45s", NOW - 45_000),
        ("30m", NOW - 1_800_000),
        ("1767225600", 1_767_225_600_000),
        ("2026-01-01T00:00:00Z", 1_767_225_600_000),
        ("2026-01-01", 1_767_225_600_000),
        ("2026-01-01T01:00:00.250+01:00", 1_767_225_600_250),
    ],
)
def test_a_moment_is_read(text: str, moment: int) -> None:
    assert read_moment(text, NOW) == moment


def test_a_moment_without_an_offset_is_utc_wherever_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert read_moment("2026-01-01T00:00", NOW) == 1_767_225_600_000
    time.tzset()


@pytest.mark.parametrize("text", ["", "yesterday", "2w", "-2h", "1e9", "2026-13-01", "9" * 20])
def test_what_is_no_moment_is_told(text: str) -> None:
    with pytest.raises(CapistreamError, match="is no time; write"):
        read_moment(text, NOW)


def raw(received_at: int = 1000, **changes: Any) -> RawEvent:
    """A purchase as the gateway keeps it."""
    return RawEvent.model_validate(
        RAW | {"receivedAt": received_at, "event": RAW["event"] | changes}
    )


def lying(offset: int, one: RawEvent) -> ConsumedRecord:
    """The record of it."""
    value = one.model_dump_json().encode()
    key = RawEvent.key(one.domain_id, one.said.event_id)
    return ConsumedRecord("raw-events", 2, offset, key, value, ())


@pytest.mark.parametrize(
    ("limits", "one", "fits"),
    [
        ({}, raw(), True),
        ({"domain_id": "dom_2"}, raw(), False),
        ({"from_ms": 1000}, raw(), True),
        ({"from_ms": 1001}, raw(), False),
        ({"to_ms": 1000}, raw(), False),
        ({"to_ms": 1001}, raw(), True),
        ({"names": ("Lead", "Purchase")}, raw(), True),
        ({"names": ("Lead",)}, raw(), False),
        ({"names": ("Custom",)}, raw(eventName="Custom", customEventName="Club"), True),
        ({"names": ("Club",)}, raw(eventName="Custom", customEventName="Club"), True),
        ({"names": ("Other",)}, raw(eventName="Custom", customEventName="Club"), False),
        ({"event_ids": ("e-0", "e-1")}, raw(), True),
        ({"event_ids": ("e-0",)}, raw(), False),
    ],
)
def test_what_is_wanted(limits: dict[str, Any], one: RawEvent, fits: bool) -> None:
    wanted: dict[str, Any] = {"domain_id": "dom_1", "from_ms": 0, "to_ms": 2000} | limits
    assert Wanted(**wanted).fits(one) is fits


@given(st.lists(st.sampled_from("abc")), st.integers(3, 5))
def test_of_each_event_the_first_copy_is_picked(ids: list[str], size: int) -> None:
    copies = FirstCopies(size)
    first = [n for n, event_id in enumerate(ids) if copies.is_first(raw(eventId=event_id))]
    assert first == sorted({ids.index(event_id) for event_id in ids})


def test_what_is_remembered_is_bounded() -> None:
    copies = FirstCopies(2)
    assert all(copies.is_first(raw(eventId=name)) for name in "abc")
    assert not copies.is_first(raw(eventId="c"))
    assert copies.is_first(raw(eventId="a"))
    assert len(copies._known) == len(copies._order) == 2


def picker(**options: Any) -> Picker:
    """Of everything of the shop."""
    return Picker(Wanted("dom_1", 0, 2000), "rpl_1", **options)


def test_a_picked_event_goes_again_as_it_lies() -> None:
    record = lying(7, raw())
    (made,) = picker(destination_ids=("dst_1", "dst_3")).pick([record])
    assert (made.topic, made.key, made.value) == ("replay-events", record.key, record.value)
    asked = Replay.from_headers(made.headers)
    assert asked == Replay("rpl_1", "raw-events-2-7", ("dst_1", "dst_3"))


def test_everything_that_is_passed_over_is_counted() -> None:
    of_another = raw().model_copy(update={"domain_id": "dom_12"})
    bot = RawEvent.model_validate(
        RAW | {"withheld": "bot", "event": RAW["event"] | {"eventId": "b"}}
    )
    broken = ConsumedRecord("raw-events", 2, 5, b"dom_1:x", b"{", ())
    records = [lying(n, one) for n, one in enumerate([raw(), raw(), of_another, bot])]
    one = picker()
    assert len(list(one.pick([*records, broken]))) == 1
    found = one.progress
    assert (found.scanned, found.found, found.repeats, found.withheld) == (5, 1, 1, 1)
    assert len(list(picker(include_withheld=True).pick(records))) == 2


def test_a_withheld_copy_does_not_stand_in_the_way_of_one_that_is_not() -> None:
    bot = RawEvent.model_validate(RAW | {"withheld": "bot"})
    assert len(list(picker().pick([lying(0, bot), lying(1, raw())]))) == 1


async def test_no_more_go_in_a_second_than_were_asked_for() -> None:
    clock = JumpingClock()
    pace = Pace(clock, 50)
    assert pace.lot == 5
    for _ in range(21):
        await pace.wait(pace.lot)
    assert sum(clock.slept) == pytest.approx(2, abs=0.01)
    await clock.sleep(60)
    await pace.wait(5)
    await pace.wait(5)
    assert sum(clock.slept) == pytest.approx(62.1, abs=0.01)


def test_destinations_are_named_by_id_or_platform() -> None:
    assert pick_destinations(SHOP, []) == ()
    assert pick_destinations(SHOP, ["meta", "dst_2", "dst_1"]) == ("dst_1", "dst_3", "dst_2")
    with pytest.raises(CapistreamError, match=r"no destination reddit; it has dst_1 \(meta\)"):
        pick_destinations(SHOP, ["reddit"])


def test_the_summary_for_people_and_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    one = picker()
    list(one.pick([lying(0, raw())]))
    summary = one.summary(SHOP, stopped=False)
    print_fields(summary, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "replayId": "rpl_1", "found": 1, "replayed": 0, "repeats": 0, "withheld": 0,
        "destinations": ["dst_1", "dst_2", "dst_3"], "stopped": False,
    }  # fmt: skip
    print_fields(summary, as_json=False)
    assert "dst_1, dst_2, dst_3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--rate", "0"], 2, "--rate"),
        (["--from", "yesterday"], 1, "'yesterday' is no time"),
        ([], 78, "CAPISTREAM_VAULT__KEYS is not set"),
    ],
)
def test_a_wrong_command_line_is_told(
    options: list[str], code: int, told: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "capistream", "replay", "shop.example", "--data"]
    ran = subprocess.run(
        [*command, str(tmp_path), *options],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200"},
    )
    assert ran.returncode == code
    assert told in ran.stderr


asks = st.builds(
    Replay,
    id=st.text(st.characters(codec="ascii"), max_size=9),
    source=st.text(st.characters(codec="utf-8"), max_size=9),
    destination_ids=st.lists(st.text("dst_0f", min_size=1), max_size=3).map(tuple),
    include_withheld=st.booleans(),
)


@given(asks, st.binary(max_size=9))
def test_a_replay_is_read_back_from_its_headers(asked: Replay, value: bytes) -> None:
    record = asked.to_record(b"key", value)
    assert (record.topic, record.key, record.value) == ("replay-events", b"key", value)
    assert Replay.from_headers(record.headers) == asked


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([("schema-version", b"99")], "newer than ours"),
        ([("schema-version", b"1"), ("replay", b"r")], "'source' is missing"),
        ([("schema-version", b"x")], "is not a number"),
    ],
)
def test_headers_that_are_no_replay_are_told(headers: list[tuple[str, bytes]], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Replay.from_headers(headers)
