"""The call that tries credentials, judged by each platform's stand-in."""

from typing import Final

import pytest

from platforms.base import Fate, Probe, Response, Verdict
from platforms.registry import PLATFORMS
from tests.contract.stand_ins import STAND_INS, ask, call, credentials

NOW: Final = 1_795_176_000
TOKEN: Final = "EAAcanaryToken123"
every_platform = pytest.mark.parametrize("slug", sorted(PLATFORMS))
with_and_without_code = pytest.mark.parametrize("code", ["", "TEST42"])


def _probe(slug: str, code: str, token: str = TOKEN) -> Probe:
    known = credentials(slug, access_token=token, test_event_code=code)
    return PLATFORMS[slug].probe(known, NOW)


def _verdict(slug: str, probe: Probe) -> Verdict:
    answer = ask(slug, probe.request, NOW)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    (verdict,) = PLATFORMS[slug].read(Response(answer.status, answer.body, headers), 1)
    return verdict


@every_platform
@with_and_without_code
def test_good_credentials_are_accepted_and_nothing_counts(slug: str, code: str) -> None:
    probe = _probe(slug, code)
    assert probe.accepts(_verdict(slug, probe))
    batch = STAND_INS[slug].read(call(slug, probe.request, NOW))
    is_refused = ask(slug, probe.request, NOW).code is not None
    assert len(batch.events) == 1
    assert is_refused or batch.test_event_code


@every_platform
@with_and_without_code
@pytest.mark.parametrize("token", ["expired-token", "forbidden-token"])
def test_bad_credentials_are_told(slug: str, code: str, token: str) -> None:
    probe = _probe(slug, code, token)
    verdict = _verdict(slug, probe)
    assert not probe.accepts(verdict)
    assert verdict.fate is Fate.MISCONFIGURED


@every_platform
@with_and_without_code
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{}"),
        (200, b"<html>Welcome</html>"),
        (400, b"{}"),
        (404, b"{}"),
        (429, b"{}"),
        (500, b"{}"),
    ],
)
def test_only_the_platforms_own_word_counts(slug: str, code: str, status: int, body: bytes) -> None:
    probe = _probe(slug, code)
    (verdict,) = PLATFORMS[slug].read(Response(status, body), 1)
    assert not probe.accepts(verdict)


@every_platform
@with_and_without_code
def test_the_same_credentials_are_tried_in_the_same_way(slug: str, code: str) -> None:
    assert _probe(slug, code) == _probe(slug, code)


@every_platform
@with_and_without_code
def test_the_token_travels_as_with_deliveries(slug: str, code: str) -> None:
    probe = _probe(slug, code)
    tried = probe.request
    sent = PLATFORMS[slug].request([b"{}"], credentials(slug, access_token=TOKEN))
    assert (tried.method, tried.headers) == (sent.method, sent.headers)
    places = (*tried.headers.values(), *tried.query.values(), tried.body.decode())
    assert sum(TOKEN in place for place in places) == 1
    assert TOKEN not in tried.path + repr(probe)


@every_platform
def test_an_event_that_is_refused_for_itself_says_that_the_credentials_work(slug: str) -> None:
    probe = _probe(slug, "")
    for code in probe.refused_with:
        assert probe.accepts(Verdict(Fate.REJECTED, code))
        assert not probe.accepts(Verdict(Fate.MISCONFIGURED, code))
    assert not probe.accepts(Verdict(Fate.REJECTED, "another"))
