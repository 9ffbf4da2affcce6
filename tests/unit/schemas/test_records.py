"""Records: each is read back as it was written, and a newer one is refused."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.alert import Alert, AlertKind, alert_id
from schemas.config import DomainConfig
from schemas.dead_letter import DeadLetter, DeadLetterReason
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind, Reason, outcome_id
from schemas.raw_event import RawEvent
from schemas.wire import SCHEMA_VERSION
from tests.outcomes import outcome_of

texts = st.text(st.characters(codec="utf-8"), max_size=20)
moments = st.integers(0, 10**14)
deliveries = st.builds(
    Delivery,
    domain_id=texts,
    destination_id=texts,
    platform=texts,
    event_id=texts,
    event_name=texts,
    event_time=moments,
    received_at=moments,
    source=texts,
    attempt=st.integers(0, 100),
    dispatch_key=st.none() | texts,
    replay=st.none() | texts,
    not_before=moments,
    origins=st.lists(st.sampled_from(["raw-events-0-7", "t1-a.b-1-0"]), max_size=2).map(tuple),
    test_event_code=st.none() | texts.filter(bool),
)
DELIVERY = Delivery("dom", "dst", "meta", "e-1", "Purchase", 1, 2, "raw-events-0-7")


@given(deliveries, st.binary(max_size=10))
def test_a_delivery_is_read_back_from_its_headers(delivery: Delivery, payload: bytes) -> None:
    record = delivery.to_record(payload)
    assert (record.topic, record.value) == (f"deliveries.{delivery.platform}", payload)
    assert Delivery.from_headers(record.headers) == delivery


@given(deliveries)
def test_a_delivery_that_waits_is_the_same_elsewhere(delivery: Delivery) -> None:
    record = delivery.to_record(b"{}", "deliveries.meta.parked")
    assert record.topic == "deliveries.meta.parked"
    assert (record.key, record.value) == (delivery.key(), b"{}")
    assert Delivery.from_headers(record.headers) == delivery


def test_a_delivery_that_waits_for_nothing_does_not_say_so() -> None:
    assert "not-before" not in dict(DELIVERY.to_headers())
    waiting = DELIVERY._replace(not_before=1_767_225_600_000)
    assert dict(waiting.to_headers())["not-before"] == b"1767225600000"


def test_a_foreign_header_does_no_harm() -> None:
    headers = [*DELIVERY.to_headers(), ("trace", b"\xff\x00"), ("none", None)]
    assert Delivery.from_headers(headers) == DELIVERY


def test_text_that_is_none_is_shown_as_such() -> None:
    strange = {"event-name": b"Kauf\xff", "source": None}
    headers = [(key, strange.get(key, value)) for key, value in DELIVERY.to_headers()]
    delivery = Delivery.from_headers(headers)
    assert (delivery.event_name, delivery.source) == ("Kauf\ufffd", "")


def test_a_delivery_of_before_there_were_test_codes_is_live() -> None:
    live = ("test-event-code", b"")
    assert live in DELIVERY.to_headers()
    older = [pair for pair in DELIVERY.to_headers() if pair != live]
    assert Delivery.from_headers(older) == DELIVERY


@pytest.mark.parametrize(
    "name", [name for name, _ in DELIVERY.to_headers() if name != "test-event-code"]
)
def test_a_missing_header_is_named(name: str) -> None:
    left = [pair for pair in DELIVERY.to_headers() if pair[0] != name]
    with pytest.raises(ValueError, match=f"'{name}' is missing"):
        Delivery.from_headers(left)


@pytest.mark.parametrize("malformed", [b"x", b"\xff", b"", None])
@pytest.mark.parametrize(
    "name", ["schema-version", "event-time", "received-at", "attempt", "not-before"]
)
def test_a_malformed_header_is_named(name: str, malformed: bytes | None) -> None:
    waiting = DELIVERY._replace(not_before=1)
    headers = [(key, malformed if key == name else value) for key, value in waiting.to_headers()]
    with pytest.raises(ValueError, match=f"'{name}' is not a number"):
        Delivery.from_headers(headers)


@pytest.mark.parametrize("value", [b"1" + 18 * b"0", b"-1" + 18 * b"0", 400 * b"9"])
def test_a_number_that_is_too_large_for_json_is_refused(value: bytes) -> None:
    headers = [(key, value if key == "attempt" else one) for key, one in DELIVERY.to_headers()]
    with pytest.raises(ValueError, match="'attempt' is not a number of ours"):
        Delivery.from_headers(headers)


def test_a_newer_delivery_is_refused() -> None:
    newer = b"%d" % (SCHEMA_VERSION + 1)
    headers = [("schema-version", newer), *DELIVERY.to_headers()[1:]]
    with pytest.raises(ValueError, match="newer than ours"):
        Delivery.from_headers(headers)


dead_letters = st.builds(
    DeadLetter,
    value=st.none() | st.binary(max_size=20),
    key=st.none() | st.binary(max_size=20),
    topic=texts,
    partition=st.integers(0, 100),
    offset=moments,
    reason=st.sampled_from(DeadLetterReason),
    detail=texts,
    origin_headers=st.lists(
        st.tuples(texts, st.none() | st.binary(max_size=20)), max_size=3
    ).map(tuple),
)  # fmt: skip


@given(dead_letters)
def test_a_dead_letter_keeps_every_byte_of_its_origin(dead: DeadLetter) -> None:
    record = dead.to_record()
    assert (record.topic, record.key, record.value) == ("dead-letters", dead.key, dead.value)
    assert DeadLetter.from_record(record.key, record.value, record.headers) == dead


def test_the_detail_of_a_dead_letter_is_cut() -> None:
    dead = DeadLetter(None, None, "t", 0, 0, DeadLetterReason.REJECTED, "x" * 9999)
    record = dead.to_record()
    assert len(DeadLetter.from_record(None, None, record.headers).detail) == 500


def test_what_is_no_dead_letter_is_told() -> None:
    with pytest.raises(ValueError, match="'origin-topic' is missing"):
        DeadLetter.from_record(None, b"", None)


@given(
    deliveries,
    st.sampled_from(OutcomeKind),
    st.none() | st.sampled_from(Reason),
    st.none() | texts,
    st.none() | texts,
    st.none() | texts,
)
def test_an_outcome_is_read_back(
    delivery: Delivery,
    kind: OutcomeKind,
    reason: Reason | None,
    code: str | None,
    detail: str | None,
    first_source: str | None,
) -> None:
    said: dict[str, Any] = {"reason": reason, "code": code, "detail": detail}
    record = delivery.outcome_record(kind, at=3, first_source=first_source, **said)
    assert (record.topic, record.key) == ("audit", delivery.domain_id.encode())
    outcome = outcome_of(record)
    assert (outcome.outcome, outcome.at, outcome.first_source) == (kind, 3, first_source)
    assert {name: getattr(outcome, name) for name in said} == said
    assert outcome.replay_id == delivery.replay
    for name in (
        "domain_id", "destination_id", "platform", "event_id", "event_name", "event_time",
        "received_at", "source", "attempt", "dispatch_key",
    ):  # fmt: skip
        assert getattr(outcome, name) == getattr(delivery, name)
    # Printed with its model or without it: what is not known is left out.
    assert orjson.loads(record.value or b"") == orjson.loads(outcome.to_record().value or b"")


def test_an_outcome_of_a_whole_event_is_read_back() -> None:
    told = outcome_of(DELIVERY.outcome_record(OutcomeKind.SKIPPED, at=3, reason=Reason.BOT))
    whole = told.model_copy(update={"destination_id": None, "platform": None})
    record = whole.to_record()
    assert (record.topic, record.key) == ("audit", b"dom")
    assert not {"destinationId", "platform"} & orjson.loads(record.value or b"").keys()
    assert outcome_of(record) == whole


def name_of(delivery: Delivery, kind: OutcomeKind, at: int = 1) -> str:
    return outcome_of(delivery.outcome_record(kind, at=at)).outcome_id


def test_an_outcome_has_the_same_name_when_it_is_told_again() -> None:
    names = {name_of(DELIVERY, OutcomeKind.DELIVERED, at) for at in (1, 2)}
    assert len(names) == 1


def test_there_is_one_final_outcome_whatever_it_is() -> None:
    finals = [kind for kind in OutcomeKind if kind.is_final]
    assert {*OutcomeKind} - {*finals} == {OutcomeKind.RETRYING, OutcomeKind.PARKED}
    assert len({name_of(DELIVERY, kind) for kind in finals}) == 1


@given(deliveries, st.integers(0, 100), moments)
def test_a_delivery_is_called_what_its_final_outcome_is(
    delivery: Delivery, attempt: int, not_before: int
) -> None:
    later = delivery._replace(attempt=attempt, not_before=not_before)
    assert later.name == delivery.name
    assert name_of(delivery, OutcomeKind.EXPIRED) == delivery.name
    assert name_of(delivery, OutcomeKind.PARKED) != delivery.name


@given(deliveries, st.sampled_from(OutcomeKind))
def test_a_name_that_is_at_hand_changes_nothing(delivery: Delivery, kind: OutcomeKind) -> None:
    at_hand = delivery.outcome_record(kind, at=3, name=delivery.name)
    assert at_hand == delivery.outcome_record(kind, at=3)


def test_passing_outcomes_have_names_of_their_own() -> None:
    again = DELIVERY._replace(attempt=1)
    names = {
        name_of(DELIVERY, OutcomeKind.DELIVERED),
        name_of(DELIVERY, OutcomeKind.RETRYING),
        name_of(DELIVERY, OutcomeKind.PARKED),
        name_of(again, OutcomeKind.RETRYING),
    }
    assert len(names) == 4


names = st.tuples(
    st.builds("{}-{}-{}".format, st.sampled_from(["raw-events", "replay-events"]),
              st.integers(0, 11), st.integers(0, 99)),
    st.integers(0, 99),
    st.sampled_from([None, "dst_1", "dst_2", "dst_12"]),
    st.sampled_from(["", "retrying|0", "retrying|1", "parked|0"]),
)  # fmt: skip


@given(names, names)
def test_outcomes_share_a_name_only_if_they_are_the_same(
    one: tuple[str, int, str | None, str], other: tuple[str, int, str | None, str]
) -> None:
    assert (outcome_id(*one) == outcome_id(*other)) == (one == other)


RAW: dict[str, Any] = {
    "domainId": "dom",
    "door": "events",
    "requestId": "r",
    "receivedAt": 1,
    "event": {"eventId": "e", "eventName": "Lead", "eventTime": 1767225600},
}
OUTCOME: dict[str, Any] = orjson.loads(
    DELIVERY.outcome_record(OutcomeKind.DELIVERED, at=1).value or b""
)
ALERT: dict[str, Any] = {
    "alertId": "a", "alert": "misconfigured", "domainId": "dom", "destinationId": "dst",
    "platform": "meta", "at": 1,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "domainId": "dom", "orgId": "org", "host": "shop.example", "revision": 1,
    "syncTokenSha256": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "record"),
    [(RawEvent, RAW), (Outcome, OUTCOME), (Alert, ALERT), (DomainConfig, CONFIG)],
)
def test_of_our_own_records_the_unknown_is_ignored_and_the_newer_refused(
    model: type[RawEvent | Outcome | Alert | DomainConfig], record: dict[str, Any]
) -> None:
    known = model.model_validate_json(orjson.dumps(record))
    assert model.model_validate_json(orjson.dumps(record | {"added": {"later": 1}})) == known
    with pytest.raises(ValidationError, match="schemaVersion"):
        model.model_validate_json(orjson.dumps(record | {"schemaVersion": SCHEMA_VERSION + 1}))


@given(st.none() | texts, st.none() | texts)
def test_an_alert_is_read_back_and_is_no_outcome(code: str | None, detail: str | None) -> None:
    alert = Alert.model_validate(ALERT | {"code": code, "detail": detail})
    record = alert.to_record()
    assert (record.topic, record.key) == ("audit", b"dom")
    assert Alert.model_validate_json(record.value or b"") == alert
    assert orjson.loads(record.value or b"")["kind"] == "alert"
    assert orjson.loads(orjson.dumps(OUTCOME))["kind"] == "outcome"
    with pytest.raises(ValidationError, match="kind"):
        Outcome.model_validate_json(record.value or b"")


DAY_MS = 86_400_000
alerts = st.tuples(
    st.sampled_from(["dst_1", "dst_12"]),
    st.sampled_from(["", "2", "rev"]),
    st.integers(0, 2 * DAY_MS),
)


@given(alerts, alerts)
def test_an_alert_has_one_name_a_day(
    one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    names = {alert_id(AlertKind.MISCONFIGURED, *alert) for alert in (one, other)}
    days = {(destination, revision, at // DAY_MS) for destination, revision, at in (one, other)}
    assert len(names) == len(days)


def test_copies_of_an_event_share_a_key() -> None:
    assert RawEvent.key("dom_1", "o-1") == b"dom_1:o-1"


BLOCKS: dict[str, Any] = {
    "eventId": "e", "eventName": "Lead", "eventTime": 5, "byPlatform": {"meta": {"a_b": {"cD": 1}}},
}  # fmt: skip


def test_blocks_are_read_back_as_they_were_written() -> None:
    raw = RawEvent.model_validate(RAW | {"event": None, "blocks": BLOCKS})
    assert raw.blocks is raw.said
    assert raw.blocks is not None
    assert raw.blocks.by_platform == BLOCKS["byPlatform"]
    assert RawEvent.model_validate_json(raw.model_dump_json()) == raw


@pytest.mark.parametrize("changes", [{"event": None}, {"blocks": BLOCKS}])
def test_a_raw_event_holds_either_an_event_or_blocks(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either event or blocks"):
        RawEvent.model_validate(RAW | changes)


@pytest.mark.parametrize("moment", [-1, 10**14 + 1])
def test_a_moment_that_no_calendar_has_is_refused(moment: int) -> None:
    with pytest.raises(ValidationError, match="receivedAt"):
        RawEvent.model_validate(RAW | {"receivedAt": moment})


@pytest.mark.parametrize(
    ("changes", "names", "told"),
    [
        ({"eventName": "Lead"}, ("Lead", None), "Lead"),
        ({"eventName": "Lead", "customEventName": "Club"}, ("Lead", None), "Lead"),
        ({"eventName": "Custom", "customEventName": "Club"}, ("Custom", "Club"), "Club"),
        ({"eventName": "Custom"}, ("Custom", None), "Custom"),
    ],
)
def test_an_event_is_named_the_same_in_whose_words_it_came(
    changes: dict[str, Any], names: tuple[str, str | None], told: str
) -> None:
    canonical = RawEvent.model_validate(RAW | {"event": RAW["event"] | changes})
    block = RawEvent.model_validate(
        RAW | {"event": None, "blocks": BLOCKS | {"eventName": canonical.event_name}}
    )
    assert canonical.names == block.names == names
    assert canonical.event_name == block.event_name == told


@pytest.mark.parametrize(
    "wrong",
    [
        {"defaultCurrency": "Euro"},
        {"defaultCountry": "DEU"},
        {"dedupeWindowSeconds": 0},
        {"excludedAddresses": ["203.0.113.7/24"]},
        {"excludedAgents": ["ab"]},
        {"monthlyEvents": -1},
    ],
)
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        DomainConfig.model_validate(CONFIG | wrong)


def test_exclusions_are_read_back() -> None:
    config = DomainConfig.model_validate(
        CONFIG
        | {"excludedAddresses": ["203.0.113.7", "2001:db8::/32"], "excludedAgents": ["Probe"]}
    )
    assert [str(network) for network in config.excluded_addresses] == [
        "203.0.113.7/32",
        "2001:db8::/32",
    ]
    assert DomainConfig.model_validate_json(config.model_dump_json()) == config


def test_a_destination_is_found_by_its_id() -> None:
    row = {"id": "dst_1", "platform": "meta", "account": "1", "sealed": ""}
    config = DomainConfig.model_validate(CONFIG | {"destinations": [row]})
    assert config.destination("dst_1") == config.destinations[0]
    assert config.destination("dst_2") is None
