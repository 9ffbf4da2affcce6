"""Each stand-in takes what its platform takes and refuses what it refuses, in its own words."""

from typing import Any

import pytest

from tests.unit.sandbox.conftest import Probe
from tests.unit.sandbox.samples import NOW, SAMPLES, Sample, digest

DAY = 86_400
SECONDS = int(NOW)
BATCHES = [sample for sample in SAMPLES.values() if sample.most > 1]


def confirms(slug: str, body: Any, count: int) -> bool:
    """Whether an answer's body says that ``count`` events were stored."""
    match slug:
        case "meta":
            return bool(body["events_received"] == count and body["fbtrace_id"])
        case "tiktok":
            return bool(body["code"] == 0 and body["message"] == "OK")
        case "pinterest":
            done = {"status": "processed", "error_message": "", "warning_message": ""}
            return bool(body["num_events_processed"] == count and body["events"] == [done] * count)
        case "snapchat":
            return bool(body["status"] == "VALID")
        case "snackvideo":
            return bool(body == {"result": 1})
        case _:
            text = f"Successfully processed {count} conversion events."
            return bool(body == {"data": {"message": text}})


async def test_good_events_are_confirmed(probe: Probe, sample: Sample) -> None:
    events = [sample.event(), sample.named("second")][: sample.most]
    status, body, _ = await probe.post(sample, *events)
    assert status == 200
    assert confirms(sample.slug, body, len(events))
    assert [e["accepted"] for e in (await probe.received())["events"]] == [True] * len(events)


@pytest.mark.parametrize("sample", BATCHES, ids=lambda sample: sample.slug)
async def test_a_full_batch_is_taken_and_one_more_is_not(probe: Probe, sample: Sample) -> None:
    most = sample.most
    _, body, _ = await probe.post(sample, *[sample.event()] * most)
    assert confirms(sample.slug, body, most)
    for count in (0, most + 1):
        await probe.post(sample, *[sample.event()] * count)
    counts = (await probe.stats())["platforms"][sample.slug]
    assert (counts["accepted"], counts["refused"]) == (most, most + 1)


@pytest.mark.parametrize("body", ["[]", "null", "{", '"data"', '{"data": 1}', '{"data": [1]}', ""])
async def test_what_is_no_batch_is_refused(probe: Probe, sample: Sample, body: str) -> None:
    async with probe.client.post(sample.path, data=body, **sample.auth()) as response:
        answer = await response.json()
        in_body = {"tiktok": ("code", {40002}), "snackvideo": ("result", {10001, 10002})}
        key, codes = in_body.get(sample.slug, ("", set()))
        assert response.status == 400 or answer.get(key) in codes


META = SAMPLES["meta"]


@pytest.mark.parametrize(
    ("changes", "subcode"),
    [
        ({"event_time": SECONDS - 7 * DAY - 1}, 2804003),
        ({"event_time": SECONDS + 301}, None),
        ({"event_time": SECONDS * 1000}, None),
        ({"event_time": "1795176000"}, None),
        ({"event_time": 1795176000.5}, None),
        ({"event_name": ...}, None),
        ({"event_id": 7}, None),
        ({"action_source": "web"}, None),
        ({"user_dta": {}}, None),
        ({"user_data__emial": "x"}, None),
        ({"user_data__em": ["ada@example.com"]}, 2804016),
        ({"user_data__em": digest("a").upper()}, 2804016),
        ({"user_data__ph": ["+442079460018"]}, 2804016),
        ({"user_data__fbc": "fb.1.1554763741205"}, 2804001),
        ({"user_data__fbc": "fb.1.1554763741205.65.IwAR.x"}, 2804001),
        ({"user_data__client_ip_address": digest("203.0.113.7")}, None),
        ({"user_data": {}}, 2804050),
        ({"user_data": {"client_user_agent": "x", "country": [digest("us")]}}, 2804050),
        ({"user_data": {"db": [digest("19900101")], "client_user_agent": "x"}}, 2804050),
        ({"user_data": {"fn": [digest("ada")], "ge": [digest("f")]}}, 2804050),
        ({"user_data": {"em": []}}, 2804050),
        ({"custom_data__value": ...}, 2804009),
        ({"custom_data": ...}, 2804009),
        ({"custom_data__value": "64.98"}, None),
        ({"custom_data__value": True}, None),
        ({"custom_data__currency": ...}, None),
        ({"custom_data__contents": [{"quantity": 1}]}, None),
        ({"data_processing_options_country": 1}, None),
        ({"event_id": "x-refuse-at-meta-1"}, 2804050),
    ],
)
async def test_meta_refuses_the_whole_batch(
    probe: Probe, changes: dict[str, Any], subcode: int | None
) -> None:
    status, body, _ = await probe.post(META, META.event(), META.event(**changes), META.event())
    error = body["error"]
    assert (status, error["code"], error.get("error_subcode")) == (400, 100, subcode)
    assert error["type"] == "OAuthException"
    assert error["fbtrace_id"]
    events = (await probe.received())["events"]
    code = "100" if subcode is None else f"100/{subcode}"
    assert [e["accepted"] for e in events] == [False] * 3
    assert {e["answer"]["code"] for e in events} == {code}


@pytest.mark.parametrize(
    "changes",
    [
        {"user_data": {"fbp": "fb.1.1554763741205.1"}},
        {"user_data": {"client_ip_address": "203.0.113.7", "client_user_agent": "x"}},
        {"user_data": {"fn": [digest("ada")], "ln": [digest("lovelace")]}},
        {"user_data__fbc": "fb.1.1554763741205.IwAR2.AQ"},
        {"action_source": "physical_store", "event_time": SECONDS - 60 * DAY},
        {"event_name": "Wishlisted", "custom_data": ...},
        {"data_processing_options": ["LDU"], "data_processing_options_country": 0},
        {"data_processing_options": []},
    ],
)
async def test_meta_takes(probe: Probe, changes: dict[str, Any]) -> None:
    status, body, _ = await probe.post(META, META.event(**changes))
    assert (status, body.get("events_received")) == (200, 1), body


async def test_meta_finds_its_token_in_query_and_body_too(probe: Probe) -> None:
    body = META.body(META.event())
    for path, sent in (("?access_token=t", body), ("", {**body, "access_token": "t"})):
        async with probe.client.post(META.path + path, json=sent) as response:
            assert response.status == 200


async def test_meta_refuses_an_unknown_key_beside_data(probe: Probe) -> None:
    status, body, _ = await probe.post_body(META, {**META.body(META.event()), "test_code": "T"})
    assert (status, body["error"]["code"]) == (400, 100)


TIKTOK = SAMPLES["tiktok"]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"event_id": 12}, 40002, "Batch.1.event_id: Not a valid string"),
        ({"event_time": "x"}, 40002, "Batch.1.event_time: Not a valid integer"),
        ({"event": ...}, 40002, "Batch.1.event: Missing data for required field"),
        ({"event": "2nd view"}, 40002, "Batch.1.event: Not a valid value"),
        ({"event_time": SECONDS + 301}, 40002, "Batch.1.event_time: Must not be in the future"),
        ({"page": ...}, 40002, "Batch.1.page.url: Missing data for required field"),
        (
            {"properties__contents": [{"content_id": 1}]},
            40002,
            "Batch.1.properties.contents.0.content_id: Not a valid string",
        ),
        ({"properties__value": "64.98"}, 40002, "Batch.1.properties.value: Not a valid number"),
        ({"user__ip": "203.0.113.7, 10.0.0.1"}, 40002, "Batch.1.user.ip: Not a valid IP address"),
        ({"user__email": "ada@example.com"}, 40062, None),
        ({"user__phone": ["+442079460018"]}, 40062, None),
        ({"user__zip_code": "94035"}, 40062, None),
        ({"event_id": "refuse-at-tiktok"}, 40002, "Batch.1.event_id: Not a valid string"),
    ],
)
async def test_tiktok_refuses_the_whole_batch_under_http_200(
    probe: Probe, changes: dict[str, Any], code: int, message: str | None
) -> None:
    status, body, _ = await probe.post(TIKTOK, TIKTOK.event(), TIKTOK.event(**changes))
    assert (status, body["code"]) == (200, code)
    assert message in (None, body["message"])
    assert [e["accepted"] for e in (await probe.received())["events"]] == [False, False]


async def test_tiktok_is_blind_to_unknown_fields_but_the_record_names_them(probe: Probe) -> None:
    event = TIKTOK.event(user__emial="x", properties__contents=[{"content_id": "1", "sku": "1"}])
    _, body, _ = await probe.post(TIKTOK, event)
    assert body["code"] == 0
    [entry] = (await probe.received())["events"]
    assert entry["ignored"] == ["user.emial", "properties.contents.sku"]


@pytest.mark.parametrize("missing", ["event_source", "event_source_id"])
async def test_tiktok_needs_a_source(probe: Probe, missing: str) -> None:
    body = TIKTOK.body(TIKTOK.event())
    del body[missing]
    _, answer, _ = await probe.post_body(TIKTOK, body)
    assert answer["code"] == 40002


PINTEREST = SAMPLES["pinterest"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"category_name": "x"}, "Additional properties are not allowed ('category_name' was"),
        ({"custom_data__opt_out": True}, "Additional properties are not allowed ('opt_out' was"),
        ({"custom_data__value": 64.98}, "64.98 is not of type 'string'"),
        ({"custom_data__num_items": "3"}, "'3' is not of type 'integer'"),
        ({"event_id": ...}, "'event_id' is a required property"),
        ({"user_data": {"click_id": "x"}}, "is not valid under any of the given schemas"),
        ({"user_data": {"client_ip_address": "203.0.113.7"}}, "is not valid under any of"),
        ({"user_data__em": digest("x")}, "is not valid under any of the given schemas"),
    ],
)
async def test_pinterest_refuses_a_request_that_breaks_the_schema(
    probe: Probe, changes: dict[str, Any], words: str
) -> None:
    status, body, _ = await probe.post(PINTEREST, PINTEREST.event(), PINTEREST.event(**changes))
    assert (status, body["code"]) == (400, 4196)
    assert body["message"].startswith("Invalid request: ")
    assert words in body["message"]
    assert [e["accepted"] for e in (await probe.received())["events"]] == [False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"event_name": "purchase"},
        {"action_source": "website"},
        {"event_time": SECONDS - 7 * DAY - 1},
        {"event_time": SECONDS + 301},
        {"user_data__em": ["ada@example.com"]},
        {"user_data__client_ip_address": digest("203.0.113.7")},
        {"custom_data__currency": "eur"},
        {"custom_data__value": "64,98"},
        {"event_id": "refuse-at-pinterest"},
    ],
)
async def test_pinterest_fails_one_event_and_keeps_the_others(
    probe: Probe, changes: dict[str, Any]
) -> None:
    good = PINTEREST.event()
    status, body, _ = await probe.post(PINTEREST, good, PINTEREST.event(**changes), good)
    assert status == 200
    assert (body["num_events_received"], body["num_events_processed"]) == (3, 2)
    assert [e["status"] for e in body["events"]] == ["processed", "failed", "processed"]
    assert body["events"][1]["error_message"]
    entries = (await probe.received())["events"]
    assert [e["accepted"] for e in entries] == [True, False, True]
    assert [e["answer"]["code"] for e in entries] == [None, "failed", None]


async def test_pinterest_warns_of_a_non_standard_identifier(probe: Probe) -> None:
    _, body, _ = await probe.post(PINTEREST, PINTEREST.event(user_data__emial=["x"]))
    assert body["events"][0]["status"] == "processed"
    assert "emial" in body["events"][0]["warning_message"]


SNAPCHAT = SAMPLES["snapchat"]


@pytest.mark.parametrize(
    "changes",
    [
        {"event_name": "Purchase"},
        {"event_name": ...},
        {"action_source": "webb"},
        {"event_time": SECONDS - 37 * DAY - 1},
        {"event_time": (SECONDS - 37 * DAY - 1) * 1000},
        {"event_time": SECONDS + 301},
        {"event_source_url": ...},
        {"user_data__em": ["ada@example.com"]},
        {"user_data__client_ip_address": digest("203.0.113.7")},
        {"user_data": {"sc_click_id": "x"}},
        {"user_data": {"client_ip_address": "203.0.113.7"}},
        {"custom_data__value": ...},
        {"custom_data__currency": ...},
        {"custom_data": ...},
        {"custom_data__value": "64,98"},
        {"event_id": "refuse-at-snapchat"},
    ],
)
async def test_snapchat_says_invalid_and_which(probe: Probe, changes: dict[str, Any]) -> None:
    status, body, _ = await probe.post(SNAPCHAT, SNAPCHAT.event(), SNAPCHAT.event(**changes))
    assert (status, body["status"], body["event"]) == (400, "INVALID", 1)
    assert body["errors"]["error_msgs"] == [body["reason"]]
    assert [e["accepted"] for e in (await probe.received())["events"]] == [False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"event_time": 1795176000000},
        {"action_source": "OFFLINE", "event_source_url": ...},
        {"event_name": "PAGE_VIEW", "custom_data": ...},
        {"user_data": {"ph": [digest("448444124653")]}},
        {"data_processing_options": ["LDU"]},
    ],
)
async def test_snapchat_takes(probe: Probe, changes: dict[str, Any]) -> None:
    status, body, _ = await probe.post(SNAPCHAT, SNAPCHAT.event(**changes))
    assert (status, body["status"]) == (200, "VALID"), body


REDDIT = SAMPLES["reddit"]
UUID_TEXT = "user.UUID: invalid UUID: UUID must be RFC-4122 compliant"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"user__uuid": "not-a-uuid"}, "user.UUID", UUID_TEXT),
        ({"action_source": "website"}, "action_source", "invalid action_source: website"),
        ({"event_at": SECONDS * 1000 - 168 * 3_600_000 - 1}, "event_at", None),
        ({"event_at": (SECONDS + 301) * 1000}, "event_at", None),
        ({"event_at": SECONDS}, "event_at", None),
        ({"partner": "x"}, "partner", None),
        ({"user__em": "x"}, "user.em", None),
        ({"user__email": [digest("x")]}, "user.email", None),
        ({"user__email": digest("x").upper()}, "user.email", None),
        ({"user__phone_number": "020 7946 0018"}, "user.phone_number", None),
        ({"user__ip_address": "203.0.113.7, 10.0.0.1"}, "user.ip_address", None),
        ({"metadata__value": "64.98"}, "metadata.value", None),
        ({"metadata__products": [{"name": "x"}]}, "metadata.products[0].id", None),
        ({"type": {"tracking_type": "Purchase"}}, "type.tracking_type", None),
        ({"type": {"tracking_type": "CUSTOM"}}, "type.custom_event_name", None),
        ({"action_source": "APP"}, "event_source_url", None),
        ({"user": {"user_agent": "x"}, "click_id": ""}, "user", None),
        ({"metadata__conversion_id": "refuse-at-reddit"}, "metadata.conversion_id", None),
    ],
)
async def test_reddit_names_the_bad_events_and_processes_none(
    probe: Probe, changes: dict[str, Any], field: str, message: str | None
) -> None:
    bad = REDDIT.event(**changes)
    status, body, _ = await probe.post(REDDIT, REDDIT.event(), bad, REDDIT.event(), bad)
    error = body["error"]
    assert (status, error["code"]) == (400, 400)
    assert error["message"] == "There were 2 invalid conversion events. None were processed."
    paths = [f"$.data.events[{index}].{field}" for index in (1, 3)]
    assert [f["field"] for f in error["fields"]] == paths
    assert message in (None, error["fields"][0]["message"])
    assert [e["accepted"] for e in (await probe.received())["events"]] == [False] * 4


@pytest.mark.parametrize(
    "changes",
    [
        {"user": ...},
        {"user": {"email": "Ada@Example.com"}, "click_id": ...},
        {"user__uuid": "7c73f2ae-a433-4d7b-9838-f467da98f48e"},
        {"user__ip_address": digest("203.0.113.7")},
        {"type": {"tracking_type": "CUSTOM", "custom_event_name": "Subscribe"}},
    ],
)
async def test_reddit_takes(probe: Probe, changes: dict[str, Any]) -> None:
    status, body, _ = await probe.post(REDDIT, REDDIT.event(**changes))
    assert status == 200, body


@pytest.mark.parametrize("where", ["", "data"])
async def test_reddit_is_closed_around_the_events_too(probe: Probe, where: str) -> None:
    body = REDDIT.body(REDDIT.event())
    (body[where] if where else body)["partner"] = "x"
    status, answer, _ = await probe.post_body(REDDIT, body)
    assert status == 400
    assert answer["error"]["fields"][0]["field"] == f"$.{where}.partner".replace("..", ".")


SNACKVIDEO = SAMPLES["snackvideo"]


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"clickid": ...}, 10001),
        ({"clickid": ..., "click_id": "Lw2HvYVkoj1MyzQwwNX4dg"}, 10001),
        ({"clickid": ""}, 10001),
        ({"event_name": ...}, 10001),
        ({"is_attributed": ...}, 10001),
        ({"event_name": "EVENT_SEARCH"}, 10001),
        ({"is_attributed": True}, 10002),
        ({"is_attributed": 0}, 10002),
        ({"is_attributed": "1"}, 10002),
        ({"mmpcode": "AF"}, 10002),
        ({"trackFlag": 1}, 10002),
        ({"clickid": 7}, 10002),
        ({"properties": {"value": 64.98}}, 10002),
        ({"properties": "value=64.98"}, 10002),
        ({"properties": "[]"}, 10002),
        ({"properties": '{"value":"64.98"}'}, 10002),
        ({"properties": '{"currency":"brl"}'}, 10002),
        ({"properties": '{"content_type":"page"}'}, 10002),
        ({"properties": '{"contents":[{"quantity":"2"}]}'}, 10002),
        ({"properties": '{"event_timestamp":1795176000000}'}, 10002),
        ({"properties": '{"content_ids":["SKU-1"]}'}, 10002),
        ({"clickid": " Lw2HvYVkoj1MyzQwwNX4dg"}, 10005),
        ({"clickid": digest("Lw2HvYVkoj1MyzQwwNX4dg")}, 10005),
        ({"clickid": "x-refuse-at-snackvideo-1"}, 10005),
        ({"event_name": "Purchase"}, 10007),
        ({"event_name": "EVENT_QUIZ"}, 10007),
    ],
)
async def test_snackvideo_refuses_under_http_200(
    probe: Probe, changes: dict[str, Any], result: int
) -> None:
    status, body, _ = await probe.post(SNACKVIDEO, SNACKVIDEO.event(**changes))
    assert (status, body["result"]) == (200, result)
    assert body["error_msg"]
    [entry] = (await probe.received())["events"]
    assert entry["accepted"] is False
    assert entry["answer"] == {"status": 200, "code": str(result)}


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({"pixelId": ...}, 10001),
        ({"pixelId": ""}, 10001),
        ({"pixelId": 271828182845904}, 10002),
        ({"access_token": ...}, 10001),
        ({"access_token": None}, 10002),
    ],
)
async def test_snackvideo_needs_an_account_and_a_token_in_the_body(
    probe: Probe, changes: dict[str, Any], result: int
) -> None:
    whole = SNACKVIDEO.body(SNACKVIDEO.event()) | changes
    body = {key: value for key, value in whole.items() if value is not ...}
    async with probe.client.post(SNACKVIDEO.path, json=body) as response:
        assert (await response.json())["result"] == result


@pytest.mark.parametrize(
    "changes",
    [
        {"properties": ...},
        {"testFlag": ..., "trackFlag": ...},
        {"event_name": "EVENT_SEARCH", "properties": '{"query":"tea"}'},
        {"event_name": "EVENT_1ST_PURCHASE"},
        {"third_party": "a label"},
        {"properties": '{"contents":[{"content_id":"1","quantity":2,"price":1.5}]}'},
    ],
)
async def test_snackvideo_takes(probe: Probe, changes: dict[str, Any]) -> None:
    _, body, _ = await probe.post(SNACKVIDEO, SNACKVIDEO.event(**changes))
    assert body == {"result": 1}


async def test_snackvideo_is_blind_to_unknown_fields_but_the_record_names_them(
    probe: Probe,
) -> None:
    _, body, _ = await probe.post(SNACKVIDEO, SNACKVIDEO.event(event_id="e-1"))
    assert body == {"result": 1}
    [entry] = (await probe.received())["events"]
    assert entry["ignored"] == ["event_id"]


def token_error(slug: str, body: Any) -> Any:
    """The part of an answer that tells what is wrong with a token."""
    match slug:
        case "meta" | "reddit":
            return body["error"]["code"]
        case "tiktok" | "pinterest":
            return body["code"]
        case "snackvideo":
            return body["result"]
        case _:
            return body["status"]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (
            "",
            {
                "meta": (401, 190),
                "tiktok": (401, 40104),
                "pinterest": (401, 2),
                "snapchat": (400, "INVALID"),
                "reddit": (401, 401),
                "snackvideo": (200, 10006),
            },
        ),
        (
            "expired-yesterday",
            {
                "meta": (401, 190),
                "tiktok": (401, 40102),
                "pinterest": (401, 2),
                "snapchat": (401, "INVALID"),
                "reddit": (401, 401),
                "snackvideo": (200, 10006),
            },
        ),
        (
            "forbidden-here",
            {
                "meta": (403, 200),
                "tiktok": (200, 40001),
                "pinterest": (403, 29),
                "snapchat": (403, "INVALID"),
                "reddit": (403, 403),
                "snackvideo": (200, 10006),
            },
        ),
    ],
)
async def test_tokens(
    probe: Probe, sample: Sample, token: str, expected: dict[str, tuple[int, Any]]
) -> None:
    status, body, _ = await probe.post(sample, sample.event(), token=token)
    assert (status, token_error(sample.slug, body)) == expected[sample.slug]
    [entry] = (await probe.received())["events"]
    assert entry["accepted"] is False
    assert entry["answer"]["status"] == status


async def test_tiktok_takes_no_bearer(probe: Probe) -> None:
    status, body, _ = await probe.post(TIKTOK, TIKTOK.event(), token="Bearer good")
    assert (status, body["code"]) == (401, 40105)
