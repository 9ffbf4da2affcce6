from collections.abc import Callable
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from platforms import answers, meta, pinterest, reddit, snackvideo, snapchat, tiktok
from platforms.base import Fate, Response

DATE = "Sat, 21 Nov 2026 00:01:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30"}, 30),
        ({"retry-after": "999999"}, 86_400),
        ({"retry-after": "Sat, 21 Nov 2026 00:01:30 GMT", "date": DATE}, 30),
        ({"retry-after": "Sat, 21 Nov 2026 00:00:00 GMT", "date": DATE}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 00:01:30 GMT"}, None),
        ({"retry-after": "soon", "date": DATE}, None),
        ({"retry-after": "-1", "date": DATE}, None),
        ({}, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], seconds: float | None) -> None:
    assert answers.retry_after_seconds(Response(429, b"", headers)) == seconds


@pytest.mark.parametrize(
    "secret",
    [
        "ada.lovelace+shop@example.com",
        "ada%40example.com",
        "+44 20 7946 0018",
        "(213) 373-4253",
        "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
        "EAAGm0PX4ZCpsBAKZCexampletokenexampletoken",
        "203.0.113.7",
        "2001:db8:1111:a:b0::200",
        "https://shop.example/thanks?name=ada",
    ],
)
def test_personal_data_is_cut_out_of_a_vendors_text(secret: str) -> None:
    text = answers.safe_text(f"Value '{secret}' of user.email\nis not valid")
    assert text is not None
    assert secret not in text
    assert text.endswith("is not valid")


@pytest.mark.parametrize(
    "quote",
    [
        "Authorization: Bearer EAAB.short.1",
        "authorization: basic EAAB.short.1",
        "Access-Token: EAAB.short.1",
        "POST /v3/1/events?access_token=EAAB.short.1&test=1 HTTP/1.1",
        '{"access_token":"EAAB.short.1","pixelId":"1"}',
        r"{\"access_token\":\"EAAB.short.1\",\"pixelId\":\"1\"}",
        '"client_user_agent":"EAAB.short.1 \\"x\\" EAAB.short.1","fbp":"EAAB.short.1"',
        '"fn":["ada","EAAB.short.1"]},"custom_data":{}',
        "{'city': 'EAAB.short.1 and more'",
        '"city":"EAAB.short.1 of a text that ends here',
    ],
)
def test_of_a_request_that_is_quoted_no_value_is_kept(quote: str) -> None:
    text = answers.safe_text(f"Bad request: {quote}")
    assert text is not None
    assert text.startswith("Bad request: ")
    assert "EAAB" not in text


@pytest.mark.parametrize(
    "sentence",
    [
        "Error validating access token: Session has expired.",
        "[data][0][user_data]: 'em' must be hashed",
        "Invalid value for 'city': must be a text",
        "The header Authorization is missing, the bearer token too",
        'Unknown key "event_nam" at $.data[0]',
    ],
)
def test_a_sentence_of_the_vendors_own_is_kept(sentence: str) -> None:
    assert answers.safe_text(sentence) == sentence


def test_a_text_that_is_cut_does_not_end_in_a_part_of_something() -> None:
    told = " ".join(["no"] * 332)
    assert answers.safe_text(f"{told} EAAB.short.1", 2000) == told


@given(st.text(), st.emails())
def test_no_address_survives_anywhere_in_a_text(before: str, address: str) -> None:
    text = answers.safe_text(f"{before} {address} {before}") or ""
    assert len(text) <= 200
    assert address not in text


@given(st.integers() | st.text() | st.booleans() | st.none() | st.lists(st.integers()))
def test_a_code_is_short_and_no_phone_number(code: object) -> None:
    text = answers.safe_code(code)
    assert text is None or len(text) <= 40
    assert answers.number([code]) is None


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (302, Fate.RETRYABLE),
        (400, Fate.REFUSED_BATCH),
        (401, Fate.MISCONFIGURED),
        (403, Fate.MISCONFIGURED),
        (404, Fate.MISCONFIGURED),
        (408, Fate.RETRYABLE),
        (422, Fate.REFUSED_BATCH),
        (429, Fate.THROTTLED),
        (500, Fate.RETRYABLE),
    ],
)
def test_a_status_alone(status: int, fate: Fate) -> None:
    assert [v.fate for v in answers.by_status(Response(status, b"{}"), 2)] == [fate] * 2


def test_the_culprits_of_a_refused_batch_are_rejected_and_a_lone_event_is_one() -> None:
    verdicts = answers.refused(3, "40002", "bad", {1: "no id", 9: "beyond the batch"})
    fates = [verdict.fate for verdict in verdicts]
    assert fates == [Fate.REFUSED_BATCH, Fate.REJECTED, Fate.REFUSED_BATCH]
    assert verdicts[1].detail == "no id"
    assert [v.fate for v in answers.refused(1, None, None)] == [Fate.REJECTED]


@pytest.mark.parametrize(
    ("code", "subcode", "fate"),
    [
        (1, 99, Fate.RETRYABLE),
        (2, None, Fate.RETRYABLE),
        (4, 1504022, Fate.THROTTLED),
        (17, 2446079, Fate.THROTTLED),
        (613, 1487742, Fate.THROTTLED),
        (80014, None, Fate.THROTTLED),
        (10, None, Fate.MISCONFIGURED),
        (190, 460, Fate.MISCONFIGURED),
        (200, None, Fate.MISCONFIGURED),
        (299, None, Fate.MISCONFIGURED),
        (100, 33, Fate.MISCONFIGURED),
        (100, 34, Fate.REFUSED_BATCH),
        (100, 2804050, Fate.REFUSED_BATCH),
        ("100", 2804016, Fate.REFUSED_BATCH),
        (21009, None, Fate.RETRYABLE),
        (99999, None, Fate.REFUSED_BATCH),
        ([], {}, Fate.REFUSED_BATCH),
    ],
)
def test_metas_codes(code: object, subcode: object, fate: Fate) -> None:
    error = {"error": {"message": "x", "code": code, "error_subcode": subcode}}
    response = Response(400, orjson.dumps(error))
    assert {verdict.fate for verdict in meta.read(response, 2)} == {fate}


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ('{"1":[{"estimated_time_to_regain_access":3}],"2":[{"estimated_time_to_regain_access":9}]}', 540),
        ('{"1":[{"estimated_time_to_regain_access":0}]}', None),
        ('{"1":{}}', None),
        ("[]", None),
        ("not json", None),
    ],
)  # fmt: skip
def test_metas_minutes_become_seconds(usage: str, seconds: float | None) -> None:
    headers = {"x-business-use-case-usage": usage}
    verdict = meta.read(Response(400, b'{"error":{"code":17}}', headers), 1)[0]
    assert verdict.retry_after_seconds == seconds
    taken = meta.read(Response(200, b'{"events_received":1}', headers), 1)[0]
    assert (taken.fate, taken.retry_after_seconds) == (Fate.DELIVERED, seconds)


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (0, Fate.DELIVERED),
        (20001, Fate.DELIVERED),
        (40050, Fate.DELIVERED),
        (40001, Fate.MISCONFIGURED),
        (40002, Fate.REFUSED_BATCH),
        (40061, Fate.REFUSED_BATCH),
        (40099, Fate.REFUSED_BATCH),
        (40100, Fate.THROTTLED),
        (40105, Fate.MISCONFIGURED),
        (40132, Fate.THROTTLED),
        (40202, Fate.RETRYABLE),
        (51012, Fate.RETRYABLE),
        (60001, Fate.RETRYABLE),
        (61000, Fate.THROTTLED),
        (77777, Fate.RETRYABLE),
    ],
)
def test_tiktoks_codes_count_and_not_its_200(code: int, fate: Fate) -> None:
    response = Response(200, b'{"code":%d,"message":"OK"}' % code)
    assert {verdict.fate for verdict in tiktok.read(response, 2)} == {fate}


def test_pinterests_statuses_are_believed_only_if_there_is_one_for_each_event() -> None:
    one = b'{"events":[{"status":"processed"}]}'
    assert [v.fate for v in pinterest.read(Response(200, one), 2)] == [Fate.RETRYABLE] * 2
    odd = b'{"events":[{"status":"queued"},null]}'
    assert [v.fate for v in pinterest.read(Response(200, odd), 2)] == [Fate.RETRYABLE] * 2


def test_snapchats_invalid_counts_under_any_status_but_those_about_the_caller() -> None:
    body = b'{"status":"INVALID","reason":"bad"}'
    fates = {status: snapchat.read(Response(status, body), 2)[0].fate for status in (200, 400, 500)}
    assert set(fates.values()) == {Fate.REFUSED_BATCH}
    assert snapchat.read(Response(403, body), 2)[0].fate is Fate.MISCONFIGURED


@pytest.mark.parametrize(
    ("status", "body", "fate"),
    [
        (200, b'{"result":1}', Fate.DELIVERED),
        (200, b'{"result":"1"}', Fate.DELIVERED),
        (200, b'{"result":true}', Fate.RETRYABLE),
        (200, b'{"result":0}', Fate.RETRYABLE),
        (202, b'{"result":1}', Fate.RETRYABLE),
        (500, b'{"result":1}', Fate.RETRYABLE),
        (200, b'{"result":10001}', Fate.REJECTED),
        (200, b'{"result":10002}', Fate.REJECTED),
        (200, b'{"result":10004}', Fate.RETRYABLE),
        (200, b'{"result":10005}', Fate.REJECTED),
        (200, b'{"result":10006}', Fate.MISCONFIGURED),
        (200, b'{"result":10007}', Fate.REJECTED),
        (400, b'{"error":"bad request"}', Fate.RETRYABLE),
        (403, b'{"error":"forbidden"}', Fate.MISCONFIGURED),
        (429, b'{"error":"too many"}', Fate.THROTTLED),
    ],
)
def test_snackvideos_result_counts_and_not_its_200(status: int, body: bytes, fate: Fate) -> None:
    assert [verdict.fate for verdict in snackvideo.read(Response(status, body), 1)] == [fate]


def test_a_wrong_token_may_come_as_a_400_without_a_word_of_invalid() -> None:
    body = b'{"reason":"The access token is malformed"}'
    assert snapchat.read(Response(400, body), 2)[0].fate is Fate.MISCONFIGURED
    assert snapchat.read(Response(500, body), 2)[0].fate is Fate.RETRYABLE


def test_a_block_for_policy_lasts_an_hour_unless_meta_says_how_long() -> None:
    body = b'{"error":{"code":368}}'
    assert meta.read(Response(400, body), 1)[0].retry_after_seconds == 3600
    told = Response(400, body, {"retry-after": "30"})
    assert meta.read(told, 1)[0].retry_after_seconds == 30


def test_a_finding_of_reddits_that_names_no_event_blames_none() -> None:
    fields = [{"field": "$.data.test_id", "message": "bad"}, {"field": 7}, None]
    body = orjson.dumps({"error": {"code": 400, "message": "x", "fields": fields}})
    fates = {verdict.fate for verdict in reddit.read(Response(400, body), 2)}
    assert fates == {Fate.REFUSED_BATCH}


def test_metas_error_counts_under_200_too() -> None:
    response = Response(200, b'{"error":{"code":190},"events_received":2}')
    assert meta.read(response, 2)[0].fate is Fate.MISCONFIGURED


@pytest.mark.parametrize("written", ["{}", "access_token={}", "Invalid token {}."])
@pytest.mark.parametrize(
    "spell", [str, lambda t: quote(t, safe=""), lambda t: t.replace("/", "\\/")]
)
def test_a_secret_that_the_answer_quotes_is_blanked(
    written: str, spell: Callable[[str], str]
) -> None:
    token = "ab.c/d+e=f"
    credentials = meta.Credentials(pixel_id="1", access_token=SecretStr(token))
    body = b"before " + written.format(spell(token)).encode() + b" after"
    answer = answers.without_secrets(Response(400, body), credentials)
    assert spell(token).encode() not in answer.body
    assert b"[token]" in answer.body
    assert answer.body.startswith(b"before ")
    assert answer.body.endswith(b" after")
