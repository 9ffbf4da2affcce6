"""Dead letters: what they tell, which are wanted, and as what they are driven again."""

import base64
import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capistream.letter_replay import Picker
from capistream.letters import About, Letter, Wanted, missing, read_id, read_letters
from capistream.output import print_fields
from platforms.registry import PLATFORMS
from runtime.errors import CapistreamError
from runtime.kafka import ConsumedRecord
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.record import Headers, Record
from schemas.replay import Replay

PREFIX: Final = "t1-"
RAW: Final = json.dumps(
    {
        "domainId": "dom_1",
        "door": "events",
        "requestId": "r",
        "receivedAt": 1000,
        "event": {"eventId": "e-1", "eventName": "Purchase", "eventTime": 1767225600},
    }
).encode()
DELIVERY: Final = Delivery("dom_1", "dst_1", "meta", "e-1", "Purchase", 5, 6, "t1-raw-events-0-1")
ASKED: Final = Replay("rpl_0", "t1-raw-events-3-9", ("dst_1", "dst_2"), include_withheld=True)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
moments = st.integers(1, 10**14)
deliveries = st.builds(
    Delivery,
    domain_id=texts,
    destination_id=texts,
    platform=st.sampled_from(list(PLATFORMS)),
    event_id=texts,
    event_name=texts,
    event_time=moments,
    received_at=moments,
    source=texts,
    attempt=st.integers(0, 100),
    dispatch_key=st.none() | texts,
    replay=st.none() | texts,
    not_before=st.just(0),
    origins=st.just(()),
    test_event_code=st.none() | texts.filter(bool),
)


def dead(origin: str = "t1-deliveries.meta", **changes: Any) -> DeadLetter:
    """A refused delivery, with changes."""
    letter = DeadLetter(
        value=b'{"event_id":"e-1"}',
        key=b"dst_1:e-1",
        topic=origin,
        partition=4,
        offset=77,
        reason=DeadLetterReason.REJECTED,
        detail="Not wanted.",
        origin_headers=sent(DELIVERY.to_headers()) if "deliveries" in origin else (),
    )
    return dataclasses.replace(letter, **changes)


def sent(headers: Headers) -> tuple[tuple[str, bytes | None], ...]:
    """Headers as they come out of Kafka."""
    return tuple((name, v.encode() if isinstance(v, str) else v) for name, v in headers)


def lying(one: DeadLetter, *place: int, at: int = 1000) -> ConsumedRecord:
    """The record of a letter."""
    partition, offset = place or (0, 5)
    topic = "t1-dead-letters"
    headers = sent(one.to_headers())
    return ConsumedRecord(topic, partition, offset, one.key, one.value, headers, at)


def letter(one: DeadLetter | None = None, *place: int, at: int = 1000) -> Letter:
    """A letter as it is read."""
    return Letter.of(lying(one or dead(), *place, at=at), PREFIX)


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_an_id_is_read_back(partition: int, offset: int) -> None:
    assert read_id(letter(dead(), partition, offset).id) == (partition, offset)


@pytest.mark.parametrize(
    "text",
    ["", "7", "-1-7", "1-", "1-7-2", "1 - 7", "dead-letters-1-7", "\u0661-7", "1-" + "9" * 19],
)
def test_what_is_no_id_is_told(text: str) -> None:
    with pytest.raises(CapistreamError, match="is no id of a dead letter; it is one like 3-120"):
        read_id(text)


def test_letters_that_are_not_there_are_told_by_their_ids() -> None:
    assert str(missing({(10, 2), (9, 3)})) == "there is no dead letter 9-3, 10-2"


UNREADABLE: Final = (("domain", b"dom_1"), ("attempt", b"x"))


@pytest.mark.parametrize(
    ("one", "about"),
    [
        (dead(), About("dom_1", "dst_1", "meta", "Purchase", "e-1")),
        (dead("t1-deliveries.meta.retry.2"), About("dom_1", "dst_1", "meta", "Purchase", "e-1")),
        (dead("t1-deliveries.tiktok", origin_headers=UNREADABLE), About("dom_1", None, "tiktok")),
        (
            dead("t1-raw-events", value=RAW),
            About("dom_1", event_name="Purchase", event_id="e-1"),
        ),
        (
            dead("t1-replay-events", value=RAW),
            About("dom_1", event_name="Purchase", event_id="e-1"),
        ),
        (dead("t1-raw-events", value=b"\x00\xff"), About()),
        (dead("t1-raw-events", value=None), About()),
        (dead("t1-audit", value=RAW), About()),
        (dead("t2-raw-events", value=RAW), About()),
        (dead("raw-events", value=RAW), About()),
    ],
)
def test_what_a_letter_is_about(one: DeadLetter, about: About) -> None:
    assert letter(one).about == about


def test_what_is_no_letter_is_passed_over() -> None:
    foreign = ConsumedRecord("t1-dead-letters", 0, 1, None, b"x", ())
    assert [one.place for one in read_letters([foreign, lying(dead(), 0, 2)], PREFIX)] == [(0, 2)]


@given(
    deliveries,
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=20),
    st.sampled_from(["", ".retry.1", ".parked"]),
)
def test_a_delivery_goes_again_as_it_was_but_under_a_name_of_its_own(
    delivery: Delivery, key: bytes | None, value: bytes | None, where: str
) -> None:
    foreign = (("trace", b"\xff"), ("none", None))
    headers = (*sent(delivery.to_headers()), ("not-before", b"9"), *foreign)
    origin = f"t1-deliveries.{delivery.platform}{where}"
    again = letter(dead(origin, key=key, value=value, origin_headers=headers), 3, 12).again("rpl_1")
    assert again is not None
    assert (again.topic, again.key, again.value) == (f"deliveries.{delivery.platform}", key, value)

    source = "t1-dead-letters-3-12"
    renewed = Delivery.from_headers(again.headers)
    assert renewed == delivery._replace(replay="rpl_1", source=source, attempt=0)
    names = Counter(name for name, _ in again.headers)
    assert set(names) == {name for name, _ in headers} - {"not-before"} | {"replay"}
    assert set(names.values()) == {1}
    assert {*foreign} <= {*again.headers}
    if delivery.source != source:
        assert renewed.name != delivery.name


@pytest.mark.parametrize("value", [RAW, b"\x00\xff", None])
def test_an_event_goes_to_be_driven_again(value: bytes | None) -> None:
    again = letter(dead("t1-raw-events", value=value)).again("rpl_1")
    assert again is not None
    assert (again.topic, again.key, again.value) == ("replay-events", b"dst_1:e-1", value)
    assert Replay.from_headers(again.headers) == Replay("rpl_1", "t1-raw-events-4-77")


def test_an_event_that_was_driven_again_goes_where_it_was_to_go() -> None:
    again = letter(dead("t1-replay-events", origin_headers=sent(ASKED.to_headers()))).again("rpl_1")
    assert again is not None
    assert again.topic == "replay-events"
    assert Replay.from_headers(again.headers) == dataclasses.replace(ASKED, id="rpl_1")


STAYING: Final = (
    dead("t1-audit"),
    dead("t2-raw-events", value=RAW),
    dead("t1-deliveries.myspace"),
    # To whom it was to go cannot be told.
    dead("t1-replay-events", origin_headers=(("replay", b"r"),)),
)


@pytest.mark.parametrize("one", STAYING, ids=lambda one: one.topic)
def test_what_comes_from_elsewhere_stays(one: DeadLetter) -> None:
    assert letter(one).again("rpl_1") is None


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"domain_id": "dom_1"}, True),
        ({"domain_id": "dom_2"}, False),
        ({"destination_id": "dst_1"}, True),
        ({"destination_id": "dst_2"}, False),
        ({"platform": "meta"}, True),
        ({"platform": "tiktok"}, False),
        ({"reasons": frozenset({DeadLetterReason.EXPIRED, DeadLetterReason.REJECTED})}, True),
        ({"reasons": frozenset({DeadLetterReason.EXPIRED})}, False),
        ({"from_ms": 1000}, True),
        ({"from_ms": 1001}, False),
        ({"to_ms": 1001}, True),
        ({"to_ms": 1000}, False),
        ({"places": frozenset({(0, 5), (1, 6)})}, True),
        ({"places": frozenset({(0, 6), (5, 0)})}, False),
        ({"places": frozenset({(0, 5)}), "platform": "tiktok"}, False),
    ],
)
def test_what_is_wanted(asked: dict[str, Any], fits: bool) -> None:
    assert Wanted(**asked).fits(letter()) is fits


@pytest.mark.parametrize(
    "asked", [Wanted("dom_1"), Wanted(destination_id="dst_1"), Wanted(platform="meta")]
)
def test_what_tells_nothing_is_nobodys(asked: Wanted) -> None:
    assert not asked.fits(letter(dead("t1-raw-events", value=b"{")))


def picker(letters: Sequence[Letter], wanted: Wanted | None = None) -> Picker:
    """One that has looked around."""
    made = Picker(wanted or Wanted(), "rpl_1")
    made.survey.add(letters, made.wanted)
    return made


def test_everything_is_counted() -> None:
    letters = [
        letter(dead(), 0, 1),
        letter(dead("t1-deliveries.tiktok", reason=DeadLetterReason.EXPIRED), 0, 2),
        letter(dead("t1-raw-events", value=RAW, reason=DeadLetterReason.UNKNOWN_DOMAIN), 1, 0),
        *(letter(one, 2, n) for n, one in enumerate(STAYING)),
    ]
    one = picker(letters)
    topics = ["deliveries.meta", "deliveries.tiktok", "replay-events"]
    assert [record.topic for record in one.pick(letters)] == topics
    assert one.summary(stopped=False) == {
        "replayId": "rpl_1", "found": 3, "replayed": 0, "repeats": 0, "skipped": 4,
        "reasons": {"rejected": 1, "expired": 1, "unknown_domain": 1},
        "topics": dict.fromkeys(topics, 1), "stopped": False,
    }  # fmt: skip
    only = picker(letters, Wanted(platform="tiktok"))
    assert [record.topic for record in only.pick(letters)] == ["deliveries.tiktok"]
    assert (only.found, only.skipped, only.scanned) == (1, 0, 7)


def test_what_came_after_the_first_look_is_left_alone() -> None:
    there = [letter(dead(), 0, 1), letter(dead(), 2, 0)]
    one = picker(there)
    came = [letter(dead(), 0, 2), letter(dead(), 1, 0), letter(dead(), 2, 1)]
    assert len(list(one.pick([*there, *came]))) == one.found == 2


def test_a_look_around_finds_the_places_that_are_asked_for() -> None:
    wanted = Wanted(places=frozenset({(0, 1), (0, 9)}))
    assert picker([letter(dead(), 0, 1), letter(dead(), 0, 2)], wanted).survey.found == {(0, 1)}


origins = st.one_of(
    deliveries.map(
        lambda one: dead(
            f"t1-deliveries.{one.platform}",
            origin_headers=sent(one._replace(replay=None).to_headers()),
        )
    ),
    st.just(dead("t1-raw-events", value=RAW)),
    st.just(dead("t1-replay-events", origin_headers=sent(ASKED.to_headers()))),
)


def failing_again(records: Sequence[Record], first: int) -> Iterator[DeadLetter]:
    """What becomes of records that fail once more where they were put."""
    for offset, record in enumerate(records, first):
        lay = ConsumedRecord(
            PREFIX + record.topic, 0, offset, record.key, record.value, sent(record.headers)
        )
        yield DeadLetter.of(lay, DeadLetterReason.REJECTED, "")


@given(st.lists(origins, min_size=1, max_size=6), st.integers(1, 4))
def test_what_keeps_failing_does_not_become_more(first: list[DeadLetter], rounds: int) -> None:
    """Each of them goes once a round, as its newest letter."""
    first = [dataclasses.replace(one, offset=place) for place, one in enumerate(first)]
    asked = [one for one in first if one.topic == "t1-replay-events"]
    # The same event for the same destinations: one letter, of which the others are older copies.
    different = len(first) - max(0, len(asked) - 1)
    letters = [letter(one, 0, place) for place, one in enumerate(first)]
    for number in range(rounds):
        one = picker(letters)
        made = list(one.pick(letters))
        assert len(made) == one.found == different
        assert one.repeats == len(letters) - different
        dead_again = failing_again(made, 1000 * (number + 1))
        letters += [letter(again, 0, len(letters) + n) for n, again in enumerate(dead_again)]


def test_a_letter_is_told_whole() -> None:
    told = letter(dead(), 3, 12).told_whole()
    assert told["value"] == {"event_id": "e-1"}
    assert base64.b64decode(told["valueBase64"]) == b'{"event_id":"e-1"}'
    assert (told["id"], told["at"], told["origin"]) == ("3-12", 1000, "t1-deliveries.meta-4-77")
    assert (told["reason"], told["detail"]) == ("rejected", "Not wanted.")
    assert told["headers"]["destination"] == "dst_1"
    assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize("value", [b"\x00\xff", b"{", b"", None])
def test_a_value_that_is_no_json_is_told_in_its_bytes(value: bytes | None) -> None:
    told = letter(dead("t1-raw-events", value=value, key=b"\xff")).told_whole()
    assert told["value"] is None
    encoded = told["valueBase64"]
    assert (encoded if encoded is None else base64.b64decode(encoded)) == value
    assert told["key"] == "\ufffd"


def test_counts_are_read_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"reasons": {"rejected": 3, "expired": 1}, "topics": {}}, as_json=False)
    assert "rejected 3, expired 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["replay"], 1, "error: say which: ids, --domain, "),
        (["replay", "--dry-run", "--rate", "5"], 1, "error: say which: ids, --domain, "),
        (["replay", "0-1", "x"], 1, "error: 'x' is no id of a dead letter"),
        (["show", "meta"], 1, "error: 'meta' is no id of a dead letter"),
        (["list", "--platform", "myspace"], 1, "error: 'myspace' is not a platform; there are "),
        (["list", "--from", "yesterday"], 1, "error: 'yesterday' is no time"),
        (["list", "--reason", "bad"], 2, "'bad' is not one of"),
        (["list", "--limit", "0"], 2, "--limit"),
    ],
)
def test_a_wrong_command_line_is_told(
    arguments: list[str], code: int, told: str, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "capistream", "dead-letters", *arguments, "--data", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "200"},
    )
    assert (ran.returncode, ran.stdout) == (code, "")
    assert told in ran.stderr
    assert code == 2 or len(ran.stderr.splitlines()) == 1
