"""The sinks' measurement gives everybody the same work, and compares what belongs together."""

import random
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from benchmarks.sinks import (
    FULL_SIZE,
    QUICK_SIZE,
    Posted,
    Round,
    figures_of,
    isolation_figures_of,
    new_ids,
    ratios_of,
    refusals_of,
    strewn,
)
from benchmarks.sinks_isolation import Isolation, percentile
from benchmarks.sinks_posts import Client, UnexpectedAnswerError, batches
from benchmarks.sinks_work import BAD, FED, FULL, POSTED, delivery_record, payload, shop
from platforms.registry import PLATFORMS
from runtime.settings import VaultSettings
from runtime.vault import Vault
from sandbox.app import PLATFORMS as STAND_INS
from sandbox.app import create_app
from sandbox.exchange import Call
from schemas.delivery import Delivery

NOW_MS = 1_767_225_600_000
KEYS = VaultSettings.model_validate({"keys": {"k": "a" * 43 + "="}})


def _round(*, ours: float, limit: float = 20_000.0, cpu: float = 50.0) -> Round:
    def posted(per_second: float, cpu_us: float, requests: int) -> Posted:
        return Posted(10_000, 10_000 / per_second, requests, cpu_us / 100, 0.3)

    return {
        "limit": posted(limit, 1.0, 10),
        "ours": posted(ours, cpu, 10),
        "single": posted(2_000.0, 120.0, 10_000),
        "single, 64 at once": posted(4_000.0, 120.0, 10_000),
    }


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that is half as fast for one round changes no ratio of ours to the limit."""
    rounds = [_round(ours=8000), _round(ours=4000, limit=10_000), _round(ours=4500, limit=10_000)]
    ratios = ratios_of(rounds)
    assert ratios["ours_vs_limit"] == 0.4
    assert ratios["ours_vs_single"] == 2.25
    assert ratios["ours_vs_single_64"] == 1.12
    assert ratios["ours_cpu_vs_limit"] == 50.0
    assert ratios["single_cpu_vs_ours"] == 2.4


def test_figures_are_the_medians_of_the_rounds() -> None:
    figures = figures_of([_round(ours=8000, cpu=40), _round(ours=1000), _round(ours=9000, cpu=70)])
    assert figures["ours"] == {
        "deliveries_per_second": 8000,
        "requests_per_1000": 1.0,
        "cpu_us_per_delivery": 50.0,
        "sandbox_cpu_us_per_delivery": 30.0,
    }
    assert figures["single"]["requests_per_1000"] == 1000.0


def test_refusals_are_medians_beside_what_splitting_takes() -> None:
    assert refusals_of({1: [10, 19, 14], 3: [40]}, {1: 1000}) == {
        "extra_requests_1_in_1000": 14,
        "extra_requests_3_in_1000": 40,
        "split_to_singles_1_in_1000": 1000,
    }


def test_the_slowest_in_a_hundred_count() -> None:
    """What is slow once in fifty times changes the p99, and not the p50."""
    calm = [1.0] * 1000
    isolation = Isolation(calm, [1.0] * 980 + [3.0] * 20)
    assert isolation.ratio == 3.0
    assert percentile(isolation.disturbed, 50) == 1.0
    assert isolation_figures_of(isolation) == {
        "undisturbed_p50": 1.0,
        "undisturbed_p99": 1.0,
        "disturbed_p50": 1.0,
        "disturbed_p99": 3.0,
    }


@pytest.mark.parametrize("bad", [1, 3, 10])
def test_bad_events_are_strewn_anywhere(bad: int) -> None:
    ids, dice = new_ids(FULL), random.Random(1)
    draws = [strewn(ids, bad, dice) for _ in range(20)]
    places = [[n for n, one in enumerate(draw) if one.endswith(BAD)] for draw in draws]
    assert all(len(draw) == bad for draw in places)
    assert len({tuple(draw) for draw in places}) == 20
    assert [one.removesuffix(BAD) for one in draws[0]] == ids


def test_no_event_is_posted_twice() -> None:
    assert not set(new_ids(100)) & set(new_ids(100))


@pytest.mark.parametrize("size", [QUICK_SIZE, FULL_SIZE])
def test_all_batches_of_a_measurement_are_full(size: Any) -> None:
    """One that is not would linger, and the linger be measured."""
    assert size.deliveries % FULL == 0


@pytest.mark.parametrize("platform", FED)
def test_the_platforms_take_the_events(platform: str) -> None:
    """But for those that are to be refused."""
    stand_in = {one.SLUG: one for one in STAND_INS}[platform]
    plain = Vault(KEYS).open(
        shop(Vault(KEYS)).destinations[FED.index(platform)].sealed,
        domain_id="d-bench",
        destination_id=f"dest-{platform}",
    )
    module = PLATFORMS[platform]
    credentials = module.Credentials.model_validate_json(plain)
    request = module.request([payload(platform, "e-1")], credentials)
    call = Call(credentials.account, request.headers, request.query, request.body, time.time())
    assert stand_in.answer(call, stand_in.read(call)).code is None


@pytest.mark.parametrize("platform", FED)
def test_a_delivery_is_for_the_shop(platform: str) -> None:
    record = delivery_record(platform, "e-1", 7, NOW_MS)
    delivery = Delivery.from_headers(record.headers)
    assert shop(Vault(KEYS)).destination(delivery.destination_id)
    assert (delivery.platform, delivery.event_id) == (platform, "e-1")
    assert record.topic == f"deliveries.{platform}"
    assert b'"e-1"' in (record.value or b"")
    other = Delivery.from_headers(delivery_record(platform, "e-1", 8, NOW_MS).headers)
    assert other.name != delivery.name


def test_prebuilt_batches_hold_all_events_once() -> None:
    made = batches(25, 10, bad=2)
    bodies = [orjson.loads(one.request.body)["data"] for one in made]
    ids = [event["event_id"] for body in bodies for event in body]
    assert [len(body) for body in bodies] == [10, 10, 5]
    assert len(set(ids)) == 25
    assert [one.endswith(BAD) for one in ids] == [False] * 23 + [True] * 2


@pytest.fixture
async def sandbox() -> AsyncIterator[TestClient[Any, Any]]:
    async def at_once(_: float) -> None:
        return

    async with TestClient(TestServer(create_app(time.time, at_once))) as client:
        yield client


async def _post(sandbox: TestClient[Any, Any], *, events: int, in_request: int, bad: int) -> Client:
    async with aiohttp.ClientSession() as session:
        client = Client(session, str(sandbox.make_url("")).rstrip("/"), at_once=4)
        await client.post(batches(events, in_request, bad))
    return client


async def test_a_refused_batch_is_split_into_singles(sandbox: TestClient[Any, Any]) -> None:
    """The other one is not."""
    client = await _post(sandbox, events=20, in_request=10, bad=2)
    assert (client.requests, client.refused) == (2 + 10, 2)
    async with sandbox.get("/_sandbox/stats") as answer:
        told = (await answer.json())["platforms"][POSTED]
    # The batch as a whole was refused first, all of its ten.
    assert told == {"requests": 12, "accepted": 18, "refused": 10 + 2, "duplicates": 0}


async def test_an_answer_that_is_neither_yes_nor_no_ends_the_run(
    sandbox: TestClient[Any, Any],
) -> None:
    order = {"platform": POSTED, "steps": [{"kind": "status", "status": 503}]}
    async with sandbox.post("/_sandbox/script", json=order) as answer:
        assert answer.status == 200
    with pytest.raises(UnexpectedAnswerError, match="503"):
        await _post(sandbox, events=2, in_request=2, bad=0)
