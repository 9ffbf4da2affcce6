"""What a touch holds, whom it names (nobody), and which one counts for an event."""

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.remember import contacts_of
from streams.touches import REMEMBERED_MS, Touch, latest_clicks, read_touch, touch_of
from tests.strategies import SHA256
from tests.unit.streams.road import event

PERSON = {
    "email": "Canary.Ada@Example.com",
    "phone": "+49 171 55501234",
    "externalId": "canary_cust_42",
    "firstName": "Canaryada",
    "postalCode": "87654",
}


def left(**changes: Any) -> dict[str, Any] | None:
    """The touch that the purchase leaves, with changes."""
    done = event(**changes)
    touch = touch_of(done, contacts_of(done.user_data))
    return None if touch is None else orjson.loads(touch[1])


def digest(**changes: Any) -> str:
    done = event(**changes)
    touch = touch_of(done, contacts_of(done.user_data))
    assert touch is not None
    return touch[0]


def test_a_touch_is_a_click_or_a_campaign() -> None:
    page = "https://shop.example/mug?utm_source=mail&size=L&utm_term=tea&fbclid=X"
    found = left(
        eventSourceUrl=page,
        referrerUrl="https://blog.example/post?reader=7#part",
        userData=PERSON | {"ttclid": "T1", "fbp": "fb.1.1.2"},
    )
    assert found is not None
    assert found["clicks"] == {"ttclid": "T1"}
    assert found["utm"] == {"utm_source": "mail", "utm_term": "tea"}
    assert found["page"] == "https://shop.example/mug?utm_source=mail&utm_term=tea&fbclid=X"
    assert found["referrer"] == "https://blog.example/post"
    assert left(eventSourceUrl="https://shop.example/?q=tea", userData=PERSON) is None


TOLD = [
    "https://shop.example/u/canary.ada%40example.com?utm_source=m",
    "https://canary.ada@shop.example/?utm_source=m",
    "https://shop.example/hi?utm_source=m&utm_term=Canary.Ada@example.com",
    "https://shop.example/hi?utm_source=m&utm_id=someone%2540else.example",
    "https://shop.example/hi?utm_source=m&fbclid=canary_CUST_42",
    "https://shop.example/a/CANARY_cust_42/b?utm_source=m",
    "https://shop.example/t/017155501234?utm_source=m",
    "https://shop.example/t?utm_source=m&email=canary.ada@example.com#Canaryada",
    "https://shop.example/t?utm_source=m&utm_canaryada=1",
    "https://canaryada.example/t?utm_source=m",
]


@pytest.mark.parametrize("url", TOLD)
def test_no_address_tells_who_it_was(url: str) -> None:
    found = left(eventSourceUrl=url, referrerUrl=url, userData=PERSON | {"ttclid": "T1"})
    assert found is not None
    assert found["utm"]["utm_source"] == "m"
    told = orjson.dumps(found).decode().lower()
    for secret in ("canary", "@", "%40", "%2540", "55501234", "else"):
        assert secret not in told, secret


def test_a_click_id_that_is_a_hash_or_a_person_is_none() -> None:
    assert left(userData=PERSON | {"ttclid": SHA256, "epik": "canary_cust_42"}) is None


def test_the_same_click_seen_again_is_no_other_touch() -> None:
    first = digest(userData=PERSON | {"ttclid": "T1"})
    assert digest(eventSourceUrl="https://shop.example/b", userData=PERSON | {"ttclid": "T1"}) == (
        first
    )
    assert digest(userData=PERSON | {"ttclid": "T2"}) != first
    assert digest(userData={"email": "b@example.com", "ttclid": "T1"}) != first


@pytest.mark.parametrize("url", ["https://[shop/?utm_source=m", "?utm_source=m", "//?utm_source=m"])
def test_an_address_that_is_none_is_left_out(url: str) -> None:
    found = left(eventSourceUrl=url, userData=PERSON)
    assert found is not None
    assert (found["page"], found["utm"]) == (None, {"utm_source": "m"})


def test_a_touch_is_read_as_it_was_left() -> None:
    done = event(userData=PERSON | {"ttclid": "T 1"}, referrerUrl="https://a.example/")
    contacts = contacts_of(done.user_data)
    _, document = touch_of(done, contacts) or ("", "")
    assert read_touch(f"1700 1600 raw-events-3-7 {document}") == Touch(
        at=1700,
        click_seen_at=1600,
        source="raw-events-3-7",
        clicks={"ttclid": "T 1"},
        utm={},
        page="https://shop.example/thanks",
        referrer="https://a.example/",
        contacts=contacts,
    )


def touch(at: int, source: str = "raw-events-0-1", **clicks: str) -> Touch:
    return Touch(at, at - 5, source, clicks, {}, None, None, ())


def test_each_click_id_is_that_of_its_latest_touch() -> None:
    touches = [touch(30, ttclid="T3"), touch(10, ttclid="T1", epik="E1"), touch(20, ttclid="T2")]
    for order in itertools.permutations(touches):
        assert latest_clicks(order, 25, "raw-events-1-0") == {"ttclid": "T2", "epik": "E1"}
        assert latest_clicks(order, 30, "raw-events-1-0") == {"ttclid": "T3", "epik": "E1"}


def test_a_click_counts_for_ninety_days() -> None:
    assert latest_clicks([touch(10, epik="E")], 10 + REMEMBERED_MS, "raw-events-1-0")
    assert not latest_clicks([touch(10, epik="E")], 11 + REMEMBERED_MS, "raw-events-1-0")


def test_what_lies_behind_in_its_own_partition_does_not_count() -> None:
    later = [touch(10, "raw-events-3-100", epik="E")]
    assert latest_clicks(later, 10, "raw-events-3-99") == {}
    assert latest_clicks(later, 10, "raw-events-3-101") == {"epik": "E"}
    assert latest_clicks(later, 10, "raw-events-30-99") == {"epik": "E"}


def test_of_two_in_the_same_millisecond_the_later_record_counts() -> None:
    both = [touch(10, "raw-events-3-9", epik="old"), touch(10, "raw-events-3-10", epik="new")]
    for order in (both, both[::-1]):
        assert latest_clicks(order, 10, "raw-events-3-11") == {"epik": "new"}


def test_cookie_and_click_id_of_meta_are_of_one_click() -> None:
    built = latest_clicks([touch(10, fbclid="A"), touch(20, fbclid="B")], 30, "raw-events-1-0")
    assert built == {"fbclid": "B", "fbc": "fb.1.15.B"}
    kept = [touch(10, fbclid="A"), touch(20, fbc="fb.1.7.B")]
    assert latest_clicks(kept, 30, "raw-events-1-0") == {"fbc": "fb.1.7.B"}
    unusable = [touch(10, fbc="fb.1.7.A"), touch(20, fbclid="a.b")]
    assert latest_clicks(unusable, 30, "raw-events-1-0") == {"fbclid": "a.b"}


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["ttclid", "epik"])), max_size=8),
    st.integers(0, 9),
    st.integers(0, 8),
)
def test_later_touches_change_nothing(
    told: list[tuple[int, str]], received_at: int, offset: int
) -> None:
    touches = [
        touch(at, f"raw-events-0-{n}", **{name: f"c{n}"}) for n, (at, name) in enumerate(told)
    ]
    then = latest_clicks(touches[:offset], received_at, f"raw-events-0-{offset}")
    now = latest_clicks(
        [t for t in touches if t.source != f"raw-events-0-{offset}"],
        received_at,
        f"raw-events-0-{offset}",
    )
    assert now == then
