"""How much a client and an organisation may send, and which events go to nobody."""

import dataclasses
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pytest

from tests.integration.parts import Door, Part, gateway, redis_url, until_known, valkey
from tests.integration.system import Answer, Shop, System, eventually, everywhere, purchase

PER_MINUTE: Final = 120
TOO_MANY: Final = PER_MINUTE + 10
UNCHECKED: Final = "capistream_unchecked_requests_total"
LET_IN: Final = 'capistream_http_requests_total{code="ok",route="/v1/events"}'
PROXIES: Final = {"CAPISTREAM_GATEWAY__TRUSTED_PROXIES": "127.0.0.0/8"}
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64) Chrome/130.0"
BOT: Final = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def at(door: Door, shop: Shop) -> Shop:
    """The shop as a client of another gateway."""
    return dataclasses.replace(shop, system=door.system)


def post(shop: Shop, event_id: str, **headers: str) -> Answer:
    """One event, with headers of its own."""
    body = json.dumps({"events": [purchase(event_id)]}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return shop.system.request("/v1/events", body, shop.headers() | named)


def flood(shops: Sequence[Shop], **headers: str) -> list[Answer]:
    """Send ten requests too many, several at a time, to each of the doors in turn."""
    with ThreadPoolExecutor(8) as pool:
        return list(
            pool.map(
                lambda n: post(shops[n % len(shops)], f"{time.time_ns()}-{n}", **headers),
                range(TOO_MANY),
            )
        )


def assert_limited(answers: Sequence[Answer]) -> None:
    """Exactly as many as may are let in; the others are told when to come back."""
    assert Counter(answer.status for answer in answers) == {200: PER_MINUTE, 429: 10}
    for answer in answers:
        assert answer.headers["X-RateLimit-Limit"] == str(PER_MINUTE)
        assert 0 < int(answer.headers["X-RateLimit-Reset"]) <= 60
        if answer.status == 429:
            assert answer.body["error"]["code"] == "rate_limited"
            assert answer.headers["X-RateLimit-Remaining"] == "0"
            assert 0 < int(answer.headers["Retry-After"]) <= 60
    left = [int(a.headers["X-RateLimit-Remaining"]) for a in answers if a.status == 200]
    assert sorted(left) == list(range(PER_MINUTE))


def metrics(door: Door) -> Mapping[str, float]:
    """The metrics of whichever process answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{door.port}/metrics", timeout=5) as answer:
        lines = re.findall(r"^([^#\s]+) (\S+)$", answer.read().decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines}


def test_two_processes_on_a_port_count_as_one(system: System) -> None:
    shop = system.make_shop("workers")
    with gateway(system, "--workers", "2") as door:
        assert_limited(flood([at(door, shop)]))
        assert 0 < metrics(door)[LET_IN] < PER_MINUTE, "each took part"


def test_two_gateways_count_as_one_and_a_stranger_names_nobody_else(system: System) -> None:
    shop, neighbour = system.make_shop("gateways"), system.make_shop("neighbour")
    with gateway(system) as plain, gateway(system, **PROXIES) as proxied:
        mine, seen = at(plain, shop), at(proxied, shop)
        assert_limited(flood([mine, seen]))
        # Whom the proxy names is another client; what a stranger says is not heard.
        assert post(seen, "other", X_Forwarded_For="203.0.113.1").status == 200
        assert post(mine, "spoof", X_Forwarded_For="203.0.113.1").status == 429
        # Left of the first stranger, anybody may have written anything.
        assert_limited(flood([seen], X_Forwarded_For="203.0.113.2"))
        assert post(seen, "spoof", X_Forwarded_For="203.0.113.3, 203.0.113.2").status == 429
        assert post(seen, "other", X_Forwarded_For="203.0.113.3").status == 200
        # Neither do two shops that one client buys from count as one.
        assert post(at(plain, neighbour), "mine").status == 200


@pytest.fixture
def away(system: System, tmp_path: Path) -> Iterator[tuple[Part, Door]]:
    """A Redis to take away, and a gateway that counts in it."""
    with (
        valkey(tmp_path / "valkey") as redis,
        gateway(system, CAPISTREAM_REDIS__URL=redis_url(redis)) as door,
    ):
        yield redis, door


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["freeze", "kill"])
def test_without_redis_everything_is_let_in_at_once(
    system: System, away: tuple[Part, Door], fault: str
) -> None:
    redis, door = away
    shop = at(door, system.make_shop(f"redis-{fault}"))
    until_known(shop)
    before = metrics(door)[UNCHECKED]

    getattr(redis, fault)()
    took = []
    for number in range(TOO_MANY):
        began_at = time.monotonic()
        assert post(shop, f"away-{number}").status == 200
        took.append(time.monotonic() - began_at)
    assert max(took) < 1.5
    assert sum(seconds > 0.5 for seconds in took) < 10, "each one waits for it"
    assert metrics(door)[UNCHECKED] >= before + TOO_MANY

    redis.thaw() if fault == "freeze" else redis.start()
    back = eventually(
        lambda: post(shop, "back"), within=10, until=lambda a: "X-RateLimit-Limit" in a.headers
    )
    statuses = [post(shop, f"back-{number}").status for number in range(TOO_MANY)]
    admitted = statuses.count(200)
    assert statuses == [200] * admitted + [429] * (TOO_MANY - admitted)
    # What a frozen Redis had in its ears is counted when it wakes.
    assert admitted <= int(back.headers["X-RateLimit-Remaining"])
    assert admitted >= PER_MINUTE - 15


def visit(event_id: str, agent: str | None = None, address: str | None = None) -> dict[str, Any]:
    """A purchase by someone with a user agent or an address of their own."""
    said = {"userAgent": agent, "ipAddress": address}
    person = {name: value for name, value in said.items() if value is not None}
    return purchase(event_id, userData=purchase(event_id)["userData"] | person)


def send(shop: Shop, event: Mapping[str, Any], agent: str = BROWSER) -> Answer:
    """One event from a browser, or from what says that it is one."""
    body = json.dumps({"events": [event]}).encode()
    return shop.system.request("/v1/events", body, shop.headers() | {"User-Agent": agent})


def test_what_goes_to_nobody_does_not_use_up_the_quota(system: System) -> None:
    shop = system.make_shop("quota", monthlyEvents=5)
    until_known(shop)
    assert [send(shop, visit(f"bot-{n}", agent=BOT)).status for n in range(6)] == [200] * 6
    assert [shop.post(visit("bad") | {"eventTime": "soon"}).status for _ in range(6)] == [400] * 6

    assert [shop.post(visit(event_id)).status for event_id in ("q-1", "q-2", "q-3")] == [200] * 3
    eventually(shop.fates, within=20, until=lambda f: everywhere(["q-1", "q-2", "q-3"]) <= f.keys())
    # Two repeats take the last two places, until the streams find out what they are.
    assert [shop.post(visit("q-1")).status for _ in range(2)] == [200] * 2
    shop.let_in(visit("q-4"))
    shop.let_in(visit("q-5"))

    last = shop.post(visit("q-6"))
    assert (last.status, last.body["error"]["code"]) == (429, "request_limit_exceeded")
    assert 0 < int(last.headers["Retry-After"]) <= 31 * 86_400
    assert shop.post(visit("q-7"), visit("q-8")).status == 429
    told = eventually(shop.fates, within=20, until=lambda f: everywhere(["q-4", "q-5"]) <= f.keys())
    assert {event_id for event_id, _ in told} == {f"q-{n}" for n in range(1, 6)}


def test_events_of_one_request_are_taken_together_or_not_at_all(system: System) -> None:
    shop = system.make_shop("quota-whole", monthlyEvents=3)
    until_known(shop)
    assert shop.post(*(visit(f"four-{n}") for n in range(4))).status == 429
    assert shop.post(*(visit(f"three-{n}") for n in range(3))).status == 200
    assert shop.post(visit("one-more")).status == 429


def test_bots_and_the_excluded_are_taken_and_go_to_nobody(system: System) -> None:
    shop = system.make_shop(
        "withheld", excludedAddresses=["198.51.100.0/24"], excludedAgents=["OurMonitor"]
    )
    until_known(shop)
    bare = visit("bot-by-header")
    del bare["userData"]["userAgent"]
    assert send(shop, bare, BOT).status == 200
    assert send(shop, visit("bot-by-event", agent=BOT)).status == 200
    assert send(shop, visit("by-address", address="198.51.100.7")).status == 200
    assert send(shop, visit("by-agent", agent="Mozilla/5.0 ourmonitor/3")).status == 200
    # A crawler's proxy that passes on a person's own agent sends for that person.
    assert send(shop, visit("person"), BOT).status == 200

    eventually(shop.fates, within=20, until=lambda found: everywhere(["person"]) <= found.keys())
    withheld = eventually(
        lambda: [o for o in shop.outcomes() if o["eventId"] != "person"],
        within=20,
        until=lambda found: len(found) >= 4,
    )
    assert {o["eventId"]: (o["outcome"], o["reason"]) for o in withheld} == {
        "bot-by-header": ("skipped", "bot"),
        "bot-by-event": ("skipped", "bot"),
        "by-address": ("skipped", "excluded"),
        "by-agent": ("skipped", "excluded"),
    }
    assert len(withheld) == 4
    assert not any({"destinationId", "platform"} & outcome.keys() for outcome in withheld)
    assert {event_id for _, event_id in shop.received()} == {"person"}
