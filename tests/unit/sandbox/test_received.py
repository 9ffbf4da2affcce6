"""The sandbox shows what it got: all of it counted, the newest of it kept, no credential in it."""

import pytest

from tests.unit.sandbox.conftest import Probe
from tests.unit.sandbox.samples import NOW, SAMPLES, Sample

SECRET = "canary-token-7f3a"


async def test_an_entry_tells_the_whole_story(probe: Probe, sample: Sample) -> None:
    await probe.post(sample, sample.event())
    got = await probe.received()
    assert got["requests"] == 1
    [entry] = got["events"]
    assert entry == {
        "platform": sample.slug,
        "account": sample.account,
        "eventId": sample.event_id,
        "eventName": entry["eventName"],
        "receivedAt": NOW,
        "accepted": True,
        "answer": {"status": 200, "code": None},
        "testEventCode": None,
        "ignored": [],
        "payload": sample.event(),
    }
    assert entry["eventName"].lower() in {"purchase", "checkout", "event_purchase"}


async def test_test_events_are_told_apart(probe: Probe) -> None:
    for slug in ("meta", "tiktok", "snapchat"):
        sample = SAMPLES[slug]
        body = {**sample.body(sample.event()), "test_event_code": "TEST1"}
        await probe.post_body(sample, body)
    reddit, pinterest = SAMPLES["reddit"], SAMPLES["pinterest"]
    await probe.post_body(reddit, {"data": {"events": [reddit.event()], "test_id": "t2"}})
    async with probe.client.post(
        pinterest.path + "?test=true",
        json=pinterest.body(pinterest.event()),
        **pinterest.auth(),
    ) as response:
        assert response.status == 200
    snackvideo = SAMPLES["snackvideo"]
    await probe.post(snackvideo, snackvideo.event(clickid="a-test-click", trackFlag=True))
    codes = [entry["testEventCode"] for entry in (await probe.received())["events"]]
    assert codes == ["TEST1", "TEST1", "TEST1", "t2", "test", "a-test-click"]
    assert all(entry["accepted"] for entry in (await probe.received())["events"])


async def test_filters(probe: Probe) -> None:
    meta, reddit = SAMPLES["meta"], SAMPLES["reddit"]
    await probe.post(meta, meta.named("a"), meta.named("b"), meta.named("c"))
    await probe.post(reddit, reddit.named("a"))

    async def found(**query: str) -> list[tuple[str, str]]:
        events = (await probe.received(**query))["events"]
        return [(event["platform"], event["eventId"]) for event in events]

    assert await found(platform="meta", limit="2") == [("meta", "b"), ("meta", "c")]
    assert await found(event_id="a") == [("meta", "a"), ("reddit", "a")]
    assert await found(event_id="a", platform="reddit") == [("reddit", "a")]
    assert await found(event_id="z") == []
    assert await found(limit="0") == []


@pytest.mark.parametrize(("name", "value"), [("limit", "-1"), ("limit", "x"), ("platform", "x")])
async def test_a_bad_filter_is_named(probe: Probe, name: str, value: str) -> None:
    async with probe.client.get("/_sandbox/received", params={name: value}) as response:
        assert response.status == 400
        assert (await response.json())["errors"][0]["field"] == name


async def test_the_newest_are_kept_and_all_are_counted(probe: Probe) -> None:
    meta = SAMPLES["meta"]
    await probe.post(meta, *[meta.named(str(number)) for number in range(150)])
    got = await probe.received()
    assert [event["eventId"] for event in got["events"]] == [str(n) for n in range(50, 150)]
    assert (await probe.stats())["platforms"]["meta"]["accepted"] == 150


async def test_a_repetition_is_the_same_name_and_id_at_one_account(probe: Probe) -> None:
    meta = SAMPLES["meta"]
    event = meta.event()
    refused = meta.event(event_time=0)
    await probe.post(meta, refused)
    await probe.post(meta, event, event)
    await probe.post(meta, event, meta.event(event_name="Lead"), meta.named("other"))
    elsewhere = meta.path.replace(meta.account, "42")
    async with probe.client.post(elsewhere, json=meta.body(event), **meta.auth()) as response:
        assert response.status == 200
    assert await probe.stats() == {
        "requests": 4,
        "platforms": {"meta": {"requests": 4, "accepted": 6, "refused": 1, "duplicates": 2}},
    }


async def test_clearing_forgets_events_counts_and_repetitions(probe: Probe) -> None:
    meta = SAMPLES["meta"]
    await probe.post(meta, meta.event())
    async with probe.client.delete("/_sandbox/received") as response:
        assert response.status == 204
    assert await probe.received() == {"requests": 0, "events": []}
    await probe.post(meta, meta.event())
    assert (await probe.stats())["platforms"]["meta"]["duplicates"] == 0


async def test_no_token_is_shown_anywhere(probe: Probe, sample: Sample) -> None:
    await probe.post(sample, sample.event(), token=SECRET)
    await probe.post(sample, sample.event(), token=f"expired-{SECRET}")
    await probe.post(sample, sample.event(), token=f"forbidden-{SECRET}")
    body = {**SAMPLES["meta"].body(SAMPLES["meta"].event()), "access_token": SECRET}
    async with probe.client.post(SAMPLES["meta"].path, json=body) as response:
        assert response.status == 200
    for path in ("/_sandbox/received", "/_sandbox/stats", "/"):
        async with probe.client.get(path) as response:
            assert SECRET not in await response.text()


async def test_health_and_the_page_for_people(probe: Probe) -> None:
    async with probe.client.get("/_sandbox/health") as response:
        assert await response.json() == {"status": "ok"}
    async with probe.client.get("/") as response:
        assert response.content_type == "text/html"
        text = await response.text()
    for path in ("/v5/ad_accounts/{account}/events", "/_sandbox/received", "/_sandbox/script"):
        assert path in text
    assert "Queue steps of misbehaviour" in text
