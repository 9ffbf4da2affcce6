"""What every platform must do, asked of each one in the registry.

A new platform is tested by all of this from the moment it is registered.
"""

import importlib
from pathlib import Path
from typing import Any, Final, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

import platforms
from platforms.base import AccountCredentials, Fate, Limits, Platform, Response
from platforms.registry import PLATFORMS
from schemas.config import Destination
from schemas.event import Event, EventName
from schemas.outcome import Reason, Skip
from tests.strategies import destinations, events

ROOT: Final = Path(platforms.__file__).parent
GOLDEN: Final = Path(__file__).parents[1] / "golden"
TOKEN: Final = "EAAcanaryToken123"
SLUGS: Final = sorted(PLATFORMS)
KEYS: Final = st.sampled_from(
    [
        *("data", "error", "code", "error_subcode", "message", "status", "reason", "event"),
        *("events", "errors", "codes", "error_msgs", "fields", "field", "details"),
        *("events_received", "is_transient", "result", "error_msg"),
    ]
)
JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
PAYLOADS: Final = st.dictionaries(st.text(max_size=3), st.booleans(), min_size=1)
NAMELESS: Final = {("snackvideo", EventName.START_TRIAL), ("snackvideo", EventName.CUSTOM)}
every_platform = pytest.mark.parametrize("slug", SLUGS)


def _credentials(slug: str, **more: str) -> AccountCredentials:
    fields = {"pixel_id": "123", "ad_account_id": "549755885175", "access_token": TOKEN} | more
    model = PLATFORMS[slug].Credentials
    return model.model_validate({k: v for k, v in fields.items() if k in model.model_fields})


def _destination(slug: str) -> Destination:
    fields = {"id": "d1", "platform": slug, "account": "123", "sealed": ""}
    return Destination.model_validate(fields)


def _event(name: EventName, **custom: Any) -> Event:
    return Event.model_validate(
        {
            "eventId": f"e-{name}",
            "eventName": name,
            "eventTime": 1_795_176_000,
            "eventSourceUrl": "https://shop.example/thanks",
            "userData": {
                "email": "ada@example.com",
                "ipAddress": "203.0.113.7",
                "userAgent": "Mozilla/5.0",
                "kwaiClickId": "click",
            },
            "customData": custom,
        }
    )


def test_files_registry_and_golden_folders_are_the_same_platforms() -> None:
    modules = [
        importlib.import_module(f"platforms.{file.stem}")
        for file in ROOT.glob("[!_]*.py")
        if file.stem != "registry"
    ]
    slugs = {module.SLUG for module in modules if hasattr(module, "SLUG")}
    golden = {path.parent.name for path in GOLDEN.glob("*/*.event.json")}
    assert slugs == PLATFORMS.keys() == golden


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("*.py")), ids=lambda file: cast("Path", file).stem
)
def test_a_file_can_be_read_in_one_sitting(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 300


@every_platform
def test_the_protocol_is_complete(slug: str) -> None:
    platform = PLATFORMS[slug]
    members = set(Platform.__annotations__) | {"payload", "request", "read", "probe"}
    assert all(hasattr(platform, member) for member in members)
    assert slug == platform.SLUG
    assert platform.BASE_URL.startswith("https://")
    assert not platform.BASE_URL.endswith("/")
    assert isinstance(platform.LIMITS, Limits)
    assert platform.__doc__
    assert "https://" in platform.__doc__


@every_platform
@pytest.mark.parametrize("name", EventName)
def test_every_event_has_a_name_on_every_platform_or_is_said_to_have_none(
    slug: str, name: EventName
) -> None:
    event = _event(name, value="49.99", currency="EUR", searchString="mug")
    answer = PLATFORMS[slug].payload(event, _destination(slug))
    if isinstance(answer, Skip):
        assert answer.reason is Reason.UNSUPPORTED_EVENT
        assert (slug, name) in NAMELESS


@every_platform
@pytest.mark.parametrize(
    ("custom", "reason"),
    [
        ({"currency": "EUR"}, Reason.MISSING_VALUE),
        ({"value": 1}, Reason.MISSING_CURRENCY),
        ({"value": 0, "currency": "EUR"}, None),
    ],
)
def test_a_purchase_names_what_it_was_worth(
    slug: str, custom: dict[str, Any], reason: Reason | None
) -> None:
    answer = PLATFORMS[slug].payload(_event(EventName.PURCHASE, **custom), _destination(slug))
    assert (answer.reason if isinstance(answer, Skip) else None) is reason


@every_platform
def test_nobody_is_not_sent(slug: str) -> None:
    url = "https://shop.example/"
    event = Event.model_validate(
        {"eventId": "e", "eventName": "PageVisit", "eventTime": 1.8e9, "eventSourceUrl": url}
    )
    skip = PLATFORMS[slug].payload(event, _destination(slug))
    assert isinstance(skip, Skip)
    assert skip.reason in {Reason.TOO_FEW_MATCH_KEYS, Reason.MISSING_CLICK_ID}


@every_platform
@given(data=st.data())
def test_any_event_becomes_json_or_is_skipped_and_always_the_same(
    slug: str, data: st.DataObject
) -> None:
    platform = PLATFORMS[slug]
    event, destination = data.draw(events()), data.draw(destinations(slug))
    answer = platform.payload(event, destination)
    assert answer == platform.payload(event.model_copy(deep=True), destination)
    if isinstance(answer, Skip):
        assert answer.detail
    else:
        assert orjson.loads(orjson.dumps(answer)) == answer
        assert not list(_empty(answer))


def _empty(value: Any) -> Any:
    """Empty values, which a platform reads as wrong ones."""
    if value is None or value in ("", [], {}):
        yield value
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list):
        for child in children:
            yield from _empty(child)


@every_platform
@given(
    body=JSON.map(orjson.dumps) | st.binary(max_size=60),
    status=st.sampled_from([200, 204, 302, 400, 401, 403, 404, 408, 413, 422, 429, 500, 503]),
    size=st.integers(1, 5),
)
def test_any_answer_gives_one_verdict_per_delivery(
    slug: str, body: bytes, status: int, size: int
) -> None:
    verdicts = PLATFORMS[slug].read(Response(status, body), size)
    assert len(verdicts) == size
    if size == 1:
        assert verdicts[0].fate is not Fate.REFUSED_BATCH
    for verdict in verdicts:
        assert len(verdict.detail or "") <= 200
        assert len(verdict.code or "") <= 40
        if not 200 <= status < 300 and status != 422:
            assert verdict.fate is not Fate.DELIVERED


@every_platform
@pytest.mark.parametrize(
    ("status", "body", "fate"),
    [
        (200, b"{}", Fate.RETRYABLE),
        (200, b"<html>Welcome</html>", Fate.RETRYABLE),
        (200, b'{"data": {"mess', Fate.RETRYABLE),
        (403, b"<html>Blocked</html>", Fate.RETRYABLE),
        (401, b"Authorization Required", Fate.MISCONFIGURED),
        (413, b"<html>Too large</html>", Fate.REFUSED_BATCH),
        (429, b"", Fate.THROTTLED),
        (500, b"{}", Fate.RETRYABLE),
        (502, b"<html>Bad gateway</html>", Fate.RETRYABLE),
        (503, b"", Fate.RETRYABLE),
    ],
)
def test_what_is_not_the_platforms_own_word(
    slug: str, status: int, body: bytes, fate: Fate
) -> None:
    verdicts = PLATFORMS[slug].read(Response(status, body, {"retry-after": "7"}), 3)
    assert [verdict.fate for verdict in verdicts] == [fate] * 3
    if fate is Fate.THROTTLED:
        assert verdicts[0].retry_after_seconds == 7


@every_platform
@given(batch=st.lists(PAYLOADS, min_size=1, max_size=5), code=st.sampled_from(["", "TEST42"]))
def test_the_body_holds_the_batch_in_order(
    slug: str, batch: list[dict[str, bool]], code: str
) -> None:
    platform = PLATFORMS[slug]
    batch = batch[: platform.LIMITS.max_events]
    credentials = _credentials(slug, test_event_code=code)
    request = platform.request([orjson.dumps(item) for item in batch], credentials)
    body = orjson.loads(request.body)
    if platform.LIMITS.max_events == 1:
        assert body.items() >= batch[0].items()
    else:
        data = body["data"]
        assert (data["events"] if isinstance(data, dict) else data) == batch
    assert request.path.startswith("/")


@every_platform
def test_a_token_travels_but_is_never_shown(slug: str) -> None:
    credentials = _credentials(slug)
    assert isinstance(getattr(credentials, "access_token", None), SecretStr)
    request = PLATFORMS[slug].request([b"{}"], credentials)
    places = (*request.headers.values(), *request.query.values(), request.body.decode())
    assert sum(TOKEN in place for place in places) == 1
    assert TOKEN not in repr(request) + str(request) + repr(credentials) + str(credentials)
    assert TOKEN not in request.path


@every_platform
@pytest.mark.parametrize("account", ["../admin", "1/2", "", "1 2", "1?x=y", "1" * 65, "1\n2"])
def test_an_account_fits_into_a_path(slug: str, account: str) -> None:
    field = PLATFORMS[slug].Credentials.account_field
    with pytest.raises(ValidationError, match=field):
        _credentials(slug, **{field: account})


@every_platform
@pytest.mark.parametrize("token", ["", "  ", "a b", "a\r\nX-Other: 1", "ä"])
def test_a_token_fits_into_a_header_and_a_bad_one_is_not_repeated(slug: str, token: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _credentials(slug, access_token=token)
    assert "input_value" not in str(refused.value)


@every_platform
def test_a_pasted_token_loses_its_newline_and_a_blank_test_code_is_none(slug: str) -> None:
    given_fields = _credentials(slug, access_token=f" {TOKEN}\n", test_event_code="")
    assert given_fields == _credentials(slug)


@every_platform
@pytest.mark.parametrize("code", [None, "TEST42", "TEST43"])
@pytest.mark.parametrize("sealed", ["", "TEST42"])
def test_a_delivery_is_posted_in_its_own_mode_whatever_is_sealed(
    slug: str, sealed: str, code: str | None
) -> None:
    under = _credentials(slug, test_event_code=sealed).under(code)
    own = _credentials(slug, test_event_code=code or "")
    assert PLATFORMS[slug].request([b"{}"], under) == PLATFORMS[slug].request([b"{}"], own)
    assert under == own


@every_platform
def test_what_the_vault_seals_can_be_opened_again(slug: str) -> None:
    credentials = _credentials(slug, test_event_code="TEST42")
    assert type(credentials).model_validate(credentials.reveal()) == credentials
