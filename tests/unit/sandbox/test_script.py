"""The sandbox misbehaves as it is told, once for each request, and says no to a bad script."""

from typing import Any

import aiohttp
import pytest

from tests.unit.sandbox.conftest import Probe
from tests.unit.sandbox.samples import SAMPLES, Sample

META = SAMPLES["meta"]


async def raw(probe: Probe, sample: Sample) -> tuple[int, str, bytes]:
    """Status, content type and bytes of one good event's answer."""
    body = sample.body(sample.event())
    async with probe.client.post(sample.path, json=body, **sample.auth()) as response:
        return response.status, response.content_type, await response.read()


async def accepted(probe: Probe) -> list[bool]:
    """Of every event that was recorded, whether it was stored."""
    return [entry["accepted"] for entry in (await probe.received())["events"]]


async def test_a_status_lasts_as_many_requests_as_it_says(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "status", "status": 503, "times": 2})
    statuses = [(await raw(probe, sample))[0] for _ in range(3)]
    assert statuses == [503, 503, 200]
    assert await accepted(probe) == [False, False, True]


async def test_a_step_without_end_lasts_until_it_is_cleared(probe: Probe) -> None:
    await probe.script("meta", {"kind": "status", "status": 500, "times": None})
    assert [(await raw(probe, META))[0] for _ in range(3)] == [500, 500, 500]
    async with probe.client.delete("/_sandbox/script") as response:
        assert response.status == 204
    assert (await raw(probe, META))[0] == 200


async def test_steps_are_played_in_order(probe: Probe) -> None:
    await probe.script("meta", {"kind": "status", "status": 500})
    await probe.script("meta", {"kind": "html"}, {"kind": "status", "status": 504})
    assert [(await raw(probe, META))[0] for _ in range(4)] == [500, 502, 504, 200]


async def test_a_script_is_for_one_platform_and_maybe_one_account(probe: Probe) -> None:
    await probe.script("meta", {"kind": "status", "status": 500}, account="another")
    await probe.script("tiktok", {"kind": "status", "status": 500}, account="C4PIXEL")
    assert (await raw(probe, META))[0] == 200
    assert (await raw(probe, SAMPLES["tiktok"]))[0] == 500


async def test_slow_takes_its_time_and_then_answers(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "slow", "seconds": 2})
    assert (await raw(probe, sample))[0] == 200
    assert probe.slept == [2.0]


async def test_a_poisoned_event_is_refused_as_a_bad_one(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "poison", "event": 0}, {"kind": "poison", "event": 7})
    await raw(probe, sample)
    await raw(probe, sample)
    await raw(probe, sample)
    assert await accepted(probe) == [False, True, True]


async def test_the_poisoned_event_is_the_one_that_is_named(probe: Probe) -> None:
    reddit = SAMPLES["reddit"]
    first, second = reddit.event(), reddit.event()
    second["metadata"] = second["metadata"] | {"conversion_id": "another"}
    await probe.script("reddit", {"kind": "poison", "event": 1})
    body = reddit.body(first, second)
    async with probe.client.post(reddit.path, json=body, **reddit.auth()) as response:
        assert response.status == 400
        fields = (await response.json())["error"]["fields"]
    assert ["events[1]" in field["field"] for field in fields] == [True]


THROTTLES: dict[str, tuple[int, Any]] = {
    "meta": (403, lambda body: body["error"]["code"] == 4),
    "tiktok": (401, lambda body: body["code"] == 40100),
    "pinterest": (429, lambda body: body["code"] == 8),
    "snapchat": (429, lambda body: "status" not in body),
    "reddit": (429, lambda body: body["error"]["code"] == 429),
    "snackvideo": (429, lambda body: "result" not in body),
}


async def test_throttling_is_the_platforms_own(probe: Probe, sample: Sample) -> None:
    steps = ({"kind": "throttle", "retry_after": 1.5}, {"kind": "throttle", "retry_after": None})
    await probe.script(sample.slug, *steps)
    expected, is_throttle = THROTTLES[sample.slug]
    for wait in ("2", None):
        status, body, headers = await probe.post(sample, sample.event())
        assert status == expected
        assert is_throttle(body)
        assert headers.get("Retry-After") == wait
    assert await accepted(probe) == [False, False]


async def test_meta_tells_longer_waits_in_its_usage_header(probe: Probe) -> None:
    await probe.script("meta", {"kind": "throttle", "retry_after": 300})
    _, _, headers = await probe.post(META, META.event())
    assert '"estimated_time_to_regain_access":5' in headers["X-Business-Use-Case-Usage"]
    assert META.account in headers["X-Business-Use-Case-Usage"]


async def test_reset_drops_the_connection_and_the_events(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "reset"})
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await raw(probe, sample)
    assert await accepted(probe) == [False]
    assert (await raw(probe, sample))[0] == 200


async def test_truncated_stores_the_events_and_breaks_off(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "truncated"})
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw(probe, sample)
    assert (await raw(probe, sample))[0] == 200
    assert await accepted(probe) == [True, True]
    assert (await probe.stats())["platforms"][sample.slug]["duplicates"] == 1


async def test_html_may_come_under_any_status(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "html"}, {"kind": "html", "status": 200})
    for status in (502, 200):
        found, content_type, body = await raw(probe, sample)
        assert (found, content_type) == (status, "text/html")
        assert body.startswith(b"<!DOCTYPE html>")
    assert await accepted(probe) == [False, False]


FAILURES: dict[str, Any] = {
    "meta": lambda body: "events_received" not in body and body["error"]["is_transient"],
    "tiktok": lambda body: body["code"] == 50000,
    "pinterest": lambda body: {e["status"] for e in body["events"]} == {"failed"},
    "snapchat": lambda body: body["status"] == "INVALID",
    "reddit": lambda body: body["data"]["message"] == "Successfully processed 0 conversion events.",
    "snackvideo": lambda body: body["result"] == 10003,
}


async def test_a_failure_may_hide_under_200(probe: Probe, sample: Sample) -> None:
    await probe.script(sample.slug, {"kind": "200_but_failed"})
    events = [sample.event()] * min(2, sample.most)
    status, body, _ = await probe.post(sample, *events)
    assert status == 200
    assert FAILURES[sample.slug](body)
    assert await accepted(probe) == [False] * len(events)


async def test_a_good_token_may_run_out(probe: Probe, sample: Sample) -> None:
    by_token = await probe.post(sample, sample.event(), token="expired")
    await probe.script(sample.slug, {"kind": "expired_token"})
    by_script = await probe.post(sample, sample.event())
    assert by_script[:2] == by_token[:2]
    assert await accepted(probe) == [False, False]


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"platform": "myspace", "steps": [{"kind": "html"}]}, "platform"),
        ({"platform": "meta"}, "steps"),
        ({"platform": "meta", "steps": []}, "steps"),
        ({"platform": "meta", "steps": [{"kind": "explode"}]}, "steps[0]"),
        ({"platform": "meta", "steps": [{"kind": "slow"}]}, "steps[0].slow.seconds"),
        (
            {"platform": "meta", "steps": [{"kind": "html"}, {"kind": "slow", "seconds": "2"}]},
            "steps[1].slow.seconds",
        ),
        ({"platform": "meta", "steps": [{"kind": "html", "times": 0}]}, "steps[0].html.times"),
        ({"platform": "meta", "steps": [{"kind": "html", "time": 1}]}, "steps[0].html.time"),
        ([], "body"),
    ],
)
async def test_a_bad_script_is_refused_by_the_name_of_the_field(
    probe: Probe, order: Any, field: str
) -> None:
    async with probe.client.post("/_sandbox/script", json=order) as response:
        assert response.status == 400
        assert field in [error["field"] for error in (await response.json())["errors"]]
    assert (await raw(probe, META))[0] == 200
