"""The canary: marked people and marked secrets go through everything that a system does, and then
all that it leaves behind is searched for them."""

import base64
import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import pytest
from confluent_kafka import Producer
from redis import Redis

from tests.integration.canary import (
    Allowed,
    Mark,
    Search,
    bare,
    in_command_lines,
    in_files,
    in_redis,
    in_topics,
    keys_of,
    personal,
    redis_url,
    secret,
)
from tests.integration.gate import Gate, gate
from tests.integration.manager import Manager
from tests.integration.parts import beside, until_known
from tests.integration.system import (
    FINAL,
    PLATFORMS,
    Shop,
    System,
    eventually,
    everywhere,
    purchase,
)

EMAIL: Final = "Kanari.Vogelmail@Zwitscherpost.example"
PHONE: Final = "+49 (1523) 555-01 47"
PERSON: Final = {
    "email": personal("e-mail", f"  {EMAIL} ", "vogelmail", "zwitscherpost"),
    "phone": personal("phone", f" {PHONE}", "15235550147"),
    "firstName": personal("first name", " Kanarienfried ", "kanarienfried"),
    "lastName": personal("last name", "O'Zwitschermüller-Qux ", "zwitschermüller"),
    "dateOfBirth": personal(
        "date of birth", " 1987-03-14 Schlüpftag", "schlüpftag", r"(?<!\d)19870314(?!\d)"
    ),
    "city": personal("city", " Bad Zwitscherhausen", "zwitscherhausen"),
    "state": personal("state", "Kanarienland", "kanarienland"),
    "postalCode": personal("postal code", "ZW-17 PLZQXV", "zw17plzqxv"),
    "externalId": personal("external id", "Kunde_Zwxq-4711-Vgl", "zwxq4711vgl"),
    "ipAddress": personal("ip address", "2001:db8:ca4a:71e5::c0de", "2001db8ca4a71e5"),
    "userAgent": personal(
        "user agent", "Mozilla/5.0 (X11) Chrome/130.0 Kanarienbrowser/7", "kanarienbrowser"
    ),
}
CLICK: Final = personal("click id", "Kanariklick", "kanariklick")
BLOCK: Final = personal("e-mail in a block", "block@wellensittich.example", "wellensittich")


def _secret(name: str, *, begins: str = "") -> Mark:
    """Made so that its characters do not tell that it is one: with dots, and in short pieces."""
    public = f"{begins}canary-token-{name}."
    random = sha256(name.encode()).hexdigest()
    return secret(f"token {name}", f"{public}{random[:12]}.{random[12:24]}", public)


TOKENS: Final = {slug: _secret(slug) for slug in PLATFORMS}
EXPIRED: Final = _secret("of-yesterday", begins="expired-")
MISTAKEN: Final = _secret("mistaken")
PASSWORD: Final = _secret("password")
CALLBACK: Final = _secret("of-a-callback")
MARKS: Final = (
    *(*PERSON.values(), CLICK, BLOCK),
    *(*TOKENS.values(), EXPIRED, MISTAKEN, PASSWORD, CALLBACK),
)

_ANYBODY: Final = tuple(mark.name for mark in (*PERSON.values(), CLICK, BLOCK))
_PAGE: Final = ("e-mail", "phone", "first name")
ALLOWED: Final = (
    Allowed(_ANYBODY, "topic raw-events, value*", "events are kept as they came"),
    Allowed(_ANYBODY, "topic replay-events, value*", "a copy of those"),
    Allowed(_ANYBODY, "topic dead-letters (of raw-events), value*", "its bytes as they came"),
    Allowed(_ANYBODY, "topic dead-letters (of replay-events), value*", "the same"),
    # What the platforms want plain. Dead letters of deliveries hold what was to be posted.
    Allowed(["ip address"], "topic *deliveries.*, value at user*.*ip*", "Meta, Pinterest, Snapchat, TikTok, Reddit"),
    Allowed(["user agent"], "topic *deliveries.*, value at user*.*user_agent", "the same"),
    Allowed(["city", "state"], "topic *deliveries.tiktok*, value at user.*", "hashed by others only"),
    Allowed(["click id"], "topic *deliveries.meta*, value at user_data.fb[cp]", "cookies"),
    Allowed(["click id"], "topic *deliveries.tiktok*, value at user.ttclid", "an ad's"),
    Allowed(["click id"], "topic *deliveries.pinterest*, value at user_data.click_id", "an ad's"),
    Allowed(["click id"], "topic *deliveries.snapchat*, value at user_data.sc_click_id", "an ad's"),
    Allowed(["click id"], "topic *deliveries.reddit*, value at click_id", "an ad's"),
    Allowed(["click id"], "topic *deliveries.snackvideo*, value at clickid", "an ad's"),
    Allowed(_PAGE, "topic *deliveries.*, value at event_source_url", "as the shop wrote it"),
    Allowed(_PAGE, "topic *deliveries.tiktok*, value at page.url", "the same"),
    Allowed([BLOCK.name], "topic *deliveries.meta*, value at user_data.em", "hashing a block is its sender's business"),
    Allowed(["click id"], "Redis, contact", "what is remembered of a contact, under a hash"),
    Allowed(["click id"], "output of capistream contacts", "to show that is what it is for"),
    Allowed(["ip address"], "Redis, keys of rate", "a client's requests of the last minute", passes=True),
    Allowed(["login link"], "file mails.txt", "where mails go in development"),
    Allowed(["login link"], "log", "the same"),
    Allowed(["domain token*"], "answer of manage", "a page of the shop's has it"),
    Allowed([MISTAKEN.name, "e-mail"], "answer to what is no HTTP", "aiohttp shows its sender the line"),
)  # fmt: skip
"""Where marks may be read, and why. Each row must be needed: so each shows that the marks came
there, too."""

ECHOES: Final = 40
"""Events that are answered with a quote: more than there are quotes of one request."""

FAULTS: Final[dict[str, list[dict[str, Any]]]] = {
    "meta": [{"kind": "status", "status": 500}],
    "tiktok": [{"kind": "throttle", "retry_after": 1}],
    # The first request is answered truly: its token has run out.
    "pinterest": [{"kind": "slow", "seconds": 0}, {"kind": "reset"}],
    # Its address holds the token.
    "snapchat": [{"kind": "reset"}, {"kind": "html"}],
    "reddit": [{"kind": "truncated"}],
    "snackvideo": [{"kind": "status", "status": 429}],
}


def visit(event_id: str, **changes: Any) -> dict[str, Any]:
    """A purchase by the marked person, whose shop has them in the address of its page too."""
    email, name = quote(EMAIL), PERSON["firstName"].written.strip().lower()
    campaign = f"utm_source=canary&utm_content={email}&utm_term=%2B{re.sub(r'[^0-9]', '', PHONE)}"
    clicks = ("fbclid", "ttclid", "epik", "scClickId", "rdtCid")
    more = {
        "eventSourceUrl": f"https://canary.example/danke/{name}?{campaign}&mail={email}",
        "userData": {name: mark.written for name, mark in PERSON.items()}
        | dict.fromkeys(clicks, CLICK.written)
        | {"country": "DE", "gender": "female", "fbp": f"fb.1.1700000000000.{CLICK.written}"}
        | {"kwaiClickId": f"{event_id}.{CLICK.written}"},
    }
    return purchase(event_id) | more | changes


def wrong(**changes: Any) -> dict[str, Any]:
    """The body of a request with one event, in which something is wrong."""
    return {"events": [visit("wrong", **changes)]}


def wrong_bodies() -> Iterator[tuple[str, Any]]:
    """(path, body) that are answered 400: marked values where none of their sort is taken."""
    yield "/v1/events", b'{"events": [{"userData": {"email": "' + EMAIL.encode()
    for field in ("eventTime", "eventName", "eventId", "actionSource"):
        yield "/v1/events", wrong(**{field: [EMAIL]})
        yield "/v1/events", wrong(**{field: {EMAIL: PHONE}})
    yield "/v1/events", wrong(eventTime=EMAIL)
    yield "/v1/events", wrong(eventName=EMAIL)
    yield "/v1/events", wrong(userData=EMAIL)
    yield "/v1/events", wrong(userData={"email": [EMAIL]})
    yield "/v1/events", wrong(userData={"phone": {"number": PHONE}})
    yield "/v1/events", wrong(userData={"firstName": PERSON["firstName"].written * 9})
    for field in ("value", "currency", "numItems", "contents"):
        yield "/v1/events", wrong(customData={field: EMAIL})
    yield "/v1/events", wrong(customData={"contents": [{"id": "1", "price": PHONE}]})
    yield "/v1/events", wrong(consent={"marketing": EMAIL})
    yield "/v1/pmw-events", {"event": "purchase", "facebook": EMAIL}
    yield "/v1/pmw-events", {"facebook": {"event_name": [EMAIL], "user_data": {"em": EMAIL}}}
    yield "/v1/pmw-events", {"facebook": {"event_name": "Purchase", "event_time": EMAIL}}
    yield "/v1/pmw-events", {"tiktok": {"event": "Purchase", "event_id": {EMAIL: 1}}}
    yield "/v1/sync/purchase-events", {"dispatchKey": [EMAIL], **wrong()}
    yield "/v1/sync/purchase-events", {"dispatchKey": "k", **wrong(eventTime=PHONE)}
    yield "/v1/sync/dispatch-status", {"dispatchKey": {EMAIL: PHONE}}


@dataclass(repr=False)
class Client:
    """Whoever drives the system; what they are told is searched too."""

    system: System
    shop: Shop
    search: Search

    def post(self, path: str, body: Any, **headers: str) -> int:
        """Send to the shop, from the marked person's browser; answers the status."""
        given = self.shop.headers() | {
            "Authorization": f"Bearer {self.shop.sync_token}",
            "User-Agent": PERSON["userAgent"].written,
            "X-Forwarded-For": PERSON["ipAddress"].written,
        }
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.system.request(path, data, given | headers)
        self.search.add(f"answer {answer.status}", f"{json.dumps(answer.body)} {answer.headers}")
        return answer.status

    def send_bytes(self, data: bytes) -> None:
        """Send what is no HTTP."""
        port = int(self.system.description["gateway"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(data)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b" 400 " in answer
        self.search.add("answer to what is no HTTP", answer)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command, which may fail."""
        ran = beside(self.system, **environment).cli(*arguments, check=False)
        self.search.add(f"output of capistream {arguments[0]}", ran.stdout + ran.stderr)
        return ran

    def get(self, path: str) -> None:
        """Look at a page of the gateway's."""
        with urllib.request.urlopen(self.system.description["gateway"] + path) as answer:  # noqa: S310 - our own gateway
            self.search.add(f"answer to {path}", answer.read())


def hatch(start: Callable[..., System], platforms: Gate) -> Client:
    """A system behind a proxy, whose log tells all it can, with a shop with marked secrets."""
    settings = {f"CAPISTREAM_PLATFORMS__{s.upper()}__BASE_URL": platforms.url for s in PLATFORMS}
    settings |= {
        "CAPISTREAM_LOG__LEVEL": "debug",
        "CAPISTREAM_GATEWAY__TRUSTED_PROXIES": "127.0.0.1",
        # What fails is to come again before anybody gets tired of waiting.
        "CAPISTREAM_SINKS__BACKOFF_CAP_SECONDS": "0.5",
        "CAPISTREAM_SINKS__PARKED_SECONDS": "1",
    }
    system = start(**settings)
    platforms.sandbox = str(system.sandbox_url)
    tokens = {slug: mark.written for slug, mark in TOKENS.items()}
    first = tokens | {"pinterest": EXPIRED.written}
    shop = system.make_shop("canary", tokens=first, rememberContacts=True)
    issued = {"domain token": shop.token, "sync token": shop.sync_token}
    issued |= {f"key {number}": key for number, key in enumerate(keys_of(system))}
    marks = (*MARKS, *(secret(name, text) for name, text in issued.items()))
    until_known(shop)
    return Client(system, shop, Search(marks, ALLOWED))


def script_faults(sandbox: str) -> None:
    """Have each platform fail once, each in another way."""
    for slug, steps in FAULTS.items():
        order = json.dumps({"platform": slug, "account": "pixelcanary", "steps": steps}).encode()
        call = urllib.request.Request(f"{sandbox}/_sandbox/script", order)  # noqa: S310 - our own sandbox
        urllib.request.urlopen(call).close()  # noqa: S310 - the same


def shop_here(known: Client) -> list[str]:
    """Send all sorts of events; answers the ids of those that go to each platform."""
    plain = {"eventSourceUrl": "https://canary.example/", "eventName": "Lead"}
    good = [
        visit("whole"),
        visit("filled-in", **plain, userData={"email": EMAIL.upper(), "kwaiClickId": "filled-in"}),
        *(visit(f"refuse-at-{slug}-1") for slug in PLATFORMS),
        # An order of its own: whoever refuses in the name of an order refuses for all of it.
        visit("no-consent", consent={"marketing": False}, customData={"orderId": "T-2"}),
        visit("old", eventTime=int(time.time()) - 40 * 86400),
    ]
    assert known.post("/v1/events", {"events": good}) == 200
    assert known.post("/v1/events", {"events": good[:1]}) == 200
    program = {"userAgent": f"curl/8 {PERSON['userAgent'].written}", "email": EMAIL}
    assert known.post("/v1/events", {"events": [visit("program", userData=program)]}) == 200
    block = {"event_name": "Lead", "event_id": "block", "user_data": {"em": BLOCK.written}}
    assert known.post("/v1/pmw-events", {"facebook": block}) == 200
    dispatch = {"dispatchKey": "order:1", "events": [visit("dispatched")]}
    assert known.post("/v1/sync/purchase-events", dispatch) == 200
    return [*(event["eventId"] for event in good), "dispatched"]


def knock_wrongly(known: Client) -> None:
    """Everything that is refused at the door."""
    for path, body in wrong_bodies():
        assert known.post(path, body) == 400, (path, body)
    good = {"events": [visit("unseen")]}
    said = MISTAKEN.written
    assert known.post("/v1/events", good, **{"X-SSP-Token": said}) == 401
    assert known.post(f"/v1/events?token={said}", good, **{"X-SSP-Token": ""}) == 401
    bearer = {"Authorization": f"Bearer {said}"}
    assert known.post("/v1/sync/purchase-events", {"dispatchKey": "k", **good}, **bearer) == 401
    assert known.post("/v1/events", good, Host="other.example") == 404
    known.send_bytes(f"POST /v1/events?token={said} HTTX/1.1\r\n\r\n".encode())
    known.send_bytes(
        f"POST /v1/events HTTP/1.1\r\nX-SSP-Token: {said}\1\r\nFrom: {EMAIL}\r\n\r\n".encode()
    )
    known.send_bytes(f"{EMAIL} / HTTP/1.1\r\n\r\n".encode())


def spoil_the_log(known: Client) -> None:
    """Put what cannot be read onto the topics that hold events."""
    prefix = known.system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    producer = Producer({"bootstrap.servers": known.system.description["kafka"]})
    event = visit("spoilt", userData={"email": [EMAIL], "phone": {PHONE: 1}})
    readable = {"domainId": known.shop.domain_id, "door": EMAIL, "event": event}
    for topic in ("raw-events", "replay-events"):
        for value in (f"\0{EMAIL} {PHONE}".encode(), json.dumps(readable).encode()):
            producer.produce(prefix + topic, value, headers=[("replay", b"rpl_1")])
    assert producer.flush(10) == 0


def run_commands(known: Client) -> None:
    """Commands that show and change things, after the one that issued the tokens; and some that
    fail over a secret."""
    host, token, said = known.shop.host, TOKENS["pinterest"].written, PASSWORD.written
    account = ("--ad-account-id", "pixelcanary", "--pixel-id", "pixelcanary")
    given = known.run("destination", "set", host, "pinterest", *account, "--access-token", token)
    assert given.returncode == 0, "what is parked is sent now"

    contact = ("contacts", "show", host, "--email", EMAIL)
    redis = {"CAPISTREAM_REDIS__URL": f"redis://:{said}@127.0.0.1:1/0"}
    database = {"CAPISTREAM_DATABASE__URL": f"postgresql+asyncpg://me:{said}@127.0.0.1:1/db"}
    kafka = {"CAPISTREAM_KAFKA__SASL_PASSWORD": said}
    blank = f"{MISTAKEN.written} {MISTAKEN.written}"
    commands: list[tuple[int, tuple[str, ...], dict[str, str]]] = [
        (0, ("replay", host, "--from", "1h", "--event-id", "whole"), {}),
        (0, ("domain", "set", host, "--country", "DE", "--json"), {}),
        (1, ("domain", "add", host, "--org", "Other"), {}),
        (0, (*contact, "--json"), {}),
        (0, ("settings",), {}),
        (0, ("settings", "--json"), redis | database | kafka),
        (1, ("destination", "set", host, "meta", "--pixel-id", "1", "--access-token", blank), {}),
        (1, contact, redis),
        (1, ("domain", "set", host, "--country", "FR"), database),
        (1, ("domain", "set", host, "--country", "FR"), {"CAPISTREAM_DATABASE__URL": said}),
        (78, ("settings",), {"CAPISTREAM_TOKENS__SECRET": said}),
        (78, ("settings",), {"CAPISTREAM_VAULT__KEYS": json.dumps({"k": said})}),
        (78, ("settings",), {"CAPISTREAM_VAULT__KEYS": said}),
    ]
    with ThreadPoolExecutor(4) as pool:
        ran = [pool.submit(known.run, *line, **changes) for _, line, changes in commands]
    codes = [one.result().returncode for one in ran]
    assert codes == [code for code, _, _ in commands]


OWNER: Final = "owner@canary.example"


def log_in(known: Client) -> Manager:
    """Have the shop's organisation owned by somebody who is logged in; their secrets are marked."""
    added = known.run("user", "add", OWNER, "--org", known.shop.host, "--role", "owner")
    assert added.returncode == 0
    manager = Manager(known.system.description["manage"], known.system.directory / "mails.txt")
    link = manager.log_in(OWNER).partition("token=")[2]
    issued = {"login link": link, "session": manager.session or ""}
    known.search.marks = (*known.search.marks, *(secret(*one) for one in issued.items()))
    return manager


def manage_a_shop(known: Client, manager: Manager) -> None:
    """Add a domain and all that belongs to it by the API; what it issues is marked."""
    added = manager.post("/v1/domains", {"host": "managed.example"})
    path = f"/v1/domains/{added['domain']['id']}"
    anew = manager.post(f"{path}/regenerate-token")
    issued = {
        "domain token of the second": added["domain"]["domainToken"],
        "sync token of the second": added["syncToken"],
        "new sync token": anew["syncToken"],
    }
    known.search.marks = (*known.search.marks, *(secret(*one) for one in issued.items()))
    manager.seen.clear()

    sync = anew["syncToken"]
    callback = {"callback_url": "http://127.0.0.1:9/", "callback_token": CALLBACK.written}
    manager.post("/v1/sync/register-callback", callback, bearer=sync)
    types = {"facebook": "meta", "tiktok": "tiktok", "reddit": "reddit", "snapchat": "snapchat"}
    good = [
        {"type": kind, "pixel_id": "managed", "access_token": TOKENS[slug].written}
        for kind, slug in types.items()
    ]
    bad = {"type": "pinterest", "ad_account_id": "1", "access_token": EXPIRED.written}
    pushed = manager.post("/v1/sync/domain-config", {"destinations": [*good, bad]}, bearer=sync)
    assert [one["ok"] for one in pushed["destination_results"]] == [True] * len(good) + [False]
    assert manager.post(f"{path}/resync")["reached"] is False
    for page in (path, "/v1/domains", "/v1/org/members", "/v1/org/actions", "/v1/org/usage"):
        manager.get(page)


def manage_wrongly(known: Client, manager: Manager) -> None:
    """What the API refuses: secrets where none is taken."""
    said = MISTAKEN.written
    pair = f"{said} {said}"
    callback = {"callback_url": f"https://shop.example/{said}", "callback_token": pair}
    wrong: list[tuple[int, str, str, Any, str | None]] = [
        (400, "POST", "/v1/auth/login", {"email": said}, None),
        (401, "GET", f"/v1/auth/callback?token={said}", None, None),
        (401, "POST", "/v1/sync/domain-config", {"destinations": []}, said),
        (400, "POST", "/v1/sync/domain-config", {"destinations": said}, known.shop.sync_token),
        (400, "POST", "/v1/sync/domain-config", {"destinations": [{"type": pair, "access_token": [said]}]}, known.shop.sync_token),
        (400, "POST", "/v1/sync/register-callback", callback, known.shop.sync_token),
        (404, "GET", f"/v1/domains/{said}", None, None),
        (400, "GET", f"/v1/org/events?outcome={said}", None, None),
    ]  # fmt: skip
    for status, method, path, body, bearer in wrong:
        assert manager.call(method, path, body, bearer=bearer).status == status, (method, status)
    stranger = Manager(manager.url, manager.mails, session=said)
    assert stranger.call("GET", "/v1/auth/me").status == 401
    known.search.add_all(("answer of manage", text) for text in (*manager.seen, *stranger.seen))


def look_at_the_system(known: Client) -> None:
    """Search what it shows and holds while it runs."""
    known.get("/metrics")
    known.get("/openapi.json")
    assert known.post("/v1/sync/dispatch-status", {"dispatchKey": "order:1"}) == 200
    for command in (["outcomes"], ["alerts"], ["dead-letters", "list"]):
        assert known.run(*command).returncode == known.run(*command, "--json").returncode == 0
    system, search = known.system, known.search
    assert system.process is not None
    search.add_all(in_command_lines(system.process.pid))
    search.add_all(in_topics(system))
    prefix = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "")
    search.add_all(in_redis(redis_url(system), prefix))


def look_at_the_files(known: Client) -> None:
    """Search what is left when it has stopped."""
    directory = known.system.directory
    known.search.add_all(in_files(directory))
    known.search.add("log", (directory.parent / f"{directory.name}.log").read_bytes())


@pytest.mark.slow
def test_all_that_is_left_behind_holds_no_person_and_no_secret(
    start: Callable[..., System],
) -> None:
    with gate("pixelecho", "echo-", f"{EMAIL} {PHONE}") as platforms:
        known = hatch(start, platforms)
        system, shop = known.system, known.shop
        tokens = {slug: mark.written for slug, mark in TOKENS.items()}
        echo = system.make_shop("echo", tokens=tokens)
        until_known(echo)
        assert echo.post(*(visit(f"echo-{number}") for number in range(ECHOES))).status == 200
        script_faults(platforms.sandbox)
        ids = shop_here(known)
        knock_wrongly(known)
        manager = log_in(known)
        manage_a_shop(known, manager)
        spoil_the_log(known)
        failed = {"retrying", "parked"}
        eventually(lambda: kinds(shop), within=60, until=lambda found: failed <= found)
        run_commands(known)
        wanted = everywhere(ids)
        eventually(shop.fates, within=60, until=lambda found: wanted <= found.keys())
        eventually(lambda: kinds(shop, "replayId"), within=60, until=bool)
        assert kinds(shop) == FINAL - {"expired"} | failed
        wanted = everywhere(f"echo-{number}" for number in range(ECHOES))
        eventually(echo.fates, within=60, until=lambda found: wanted <= found.keys())
        assert_all_was_quoted(platforms, echo)
        for page in ("events", "events/whole", "accuracy", "daily-usage"):
            manager.get(f"/v1/org/{page}")
        manage_wrongly(known, manager)

        planted = plant(known)
        look_at_the_system(known)
        system.stop()
        look_at_the_files(known)

    found = known.search.leaks()
    assert {sentence for sentence in found if "planted" not in sentence} == set()
    assert {sentence for sentence in found if "planted" in sentence} == planted
    assert known.search.unused() == []


def kinds(shop: Shop, having: str = "outcomeId") -> set[str]:
    """Which outcomes there are."""
    return {outcome["outcome"] for outcome in shop.outcomes() if having in outcome}


def assert_all_was_quoted(platforms: Gate, echo: Shop) -> None:
    """Each platform has quoted its token and what it got plain, and its words are on record."""
    for begins, quotes in platforms.quoted.items():
        text = bare(" ".join(quotes))
        assert any(mark.known_by.search(text) for mark in TOKENS.values()), begins
        assert CLICK.known_by.search(text), begins
        assert PERSON["userAgent"].known_by.search(text) or begins == "/log/", begins
    with_words = {o["platform"] for o in echo.outcomes() if "[email]" in o.get("detail", "")}
    assert with_words == set(PLATFORMS)


def plant(known: Client) -> set[str]:
    """Put a mark of its own into each sort of place; answers what the search has to say of them."""
    system = known.system
    planted: set[str] = set()

    def mark(place: str) -> str:
        name = f"planted-{len(planted)}"
        known.search.marks = (*known.search.marks, made := _secret(name))
        planted.add(f"The {made.name} can be read in: {place}.")
        return made.written

    topic = system.environment.get("CAPISTREAM_KAFKA__TOPIC_PREFIX", "") + "dead-letters"
    producer = Producer({"bootstrap.servers": system.description["kafka"]})
    document = {"a": [{"b": mark("topic dead-letters, value at a.b")}]}
    producer.produce(
        topic,
        json.dumps(document),
        mark("topic dead-letters, key"),
        headers={"planted": mark("topic dead-letters, header planted")},
    )
    producer.produce(topic, b"\xff" + mark("topic dead-letters, value").encode())
    assert producer.flush(10) == 0

    with Redis.from_url(redis_url(system)) as redis:
        redis.set(f"planted:{mark('Redis, keys of planted')}", "1")
        redis.set("string:1", mark("Redis, string"))
        redis.hset("hash:1", "field", mark("Redis, hash"))
        redis.hset("fields:1", mark("Redis, fields"), "1")
        redis.rpush("list:1", "1", mark("Redis, list"))
        redis.sadd("set:1", mark("Redis, set"))
        redis.zadd("zset:1", {mark("Redis, zset"): 1})
        redis.xadd("stream:1", {"field": mark("Redis, stream")})

    (system.directory / "planted").write_text(mark("file planted"))
    with sqlite3.connect(system.directory / "capistream.db") as database:
        database.execute("CREATE TABLE planted (thing TEXT)")
        database.execute("INSERT INTO planted VALUES (?)", (mark("file capistream.db"),))
    database.close()
    with (system.directory.parent / f"{system.directory.name}.log").open("ab") as log:
        log.write(b'{"planted": "%b"}\n' % base64.b64encode(mark("log").encode()))
    known.search.add("answer 200", mark("answer 200"))
    program = "import sys; print(flush=True); sys.stdin.read()"
    line = [sys.executable, "-c", program, mark("command lines")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        known.search.add_all(in_command_lines(process.pid))
    return planted


SEEN: Final = personal("last name", " O'Zwitschermüller-Qux ", "zwitschermüllerqux")
TEXT: Final = SEEN.written


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT.upper(),
        TEXT.lower().encode(),
        "ozwitschermüllerqux",
        "O.Zwitscher\nMüller_QUX",
        json.dumps(TEXT),
        json.dumps(json.dumps({"a": TEXT})),
        quote(TEXT),
        quote(quote(TEXT)),
        f"https://shop.example/?q={quote(TEXT)}&x=1",
        json.dumps({"url": f"/?q={quote(TEXT)}"}),
        "O&#39;Zwitscherm&uuml;ller&#x2d;Qux",
        repr(TEXT.encode()),
        TEXT.encode().hex(),
        f"x'0{TEXT.encode().hex()}'",
        *(base64.b64encode(b"a" * n + TEXT.encode() + b"{}").decode() for n in range(3)),
        f"v1.key.{base64.urlsafe_b64encode(TEXT.encode()).decode()}",
        b"\xff\x00" + TEXT.encode() + b"\x00\xfe",
    ],
)
def test_a_mark_is_recognised_however_it_is_written(data: str | bytes) -> None:
    search = Search([SEEN])
    search.add("here", data)
    search.add("there", "Zwitscher Müller")
    assert search.leaks() == ["The last name can be read in: here."]


def test_a_part_of_a_secret_is_recognised_and_never_shown() -> None:
    random = sha256(b"x").hexdigest()
    hidden = secret("key", f"public-words-{random}", "public-words-")
    search = Search([hidden])
    search.add("whole", f"public-words-{random}")
    search.add("its beginning", random[:20])
    search.add("its end", random[-24:])
    search.add("nothing", f"public-words- {random[:9]} {random[11:19]}")
    told = search.leaks()
    assert told == [f"The key can be read in: {place}." for place in ("its beginning", "its end", "whole")]  # fmt: skip
    assert not [shown for shown in (*told, repr(search.marks)) if random[:10] in shown]


def test_what_is_allowed_is_allowed_there_only_and_must_be_needed() -> None:
    known, idle = Allowed(["last *"], "topic a*", "so"), Allowed(["*"], "topic b", "so")
    search = Search([SEEN, BLOCK], [known, idle])
    search.add("topic a, value at x", TEXT)
    search.add("topic a, key", BLOCK.written)
    search.add("Redis", TEXT)
    assert search.leaks() == [
        "The e-mail in a block can be read in: topic a, key.",
        "The last name can be read in: Redis.",
    ]
    assert search.unused() == [idle]
