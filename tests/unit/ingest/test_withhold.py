"""Whose events go to nobody."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.withhold import is_program, reason_to_withhold
from schemas.config import DomainConfig
from schemas.outcome import Reason

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
DOMAIN = {"domainId": "d", "orgId": "o", "host": "s.example", "revision": 1, "syncTokenSha256": ""}


def domain(**changes: Any) -> DomainConfig:
    return DomainConfig.model_validate(DOMAIN | changes)


@pytest.mark.parametrize(
    "agent",
    [
        None,
        "",
        "curl/8.5.0",
        "python-requests/2.31",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0)",
        "facebookexternalhit/1.1",
        "Googlebot",
        "some-SPIDER",
        "Acme Web Crawler",
        "price/scraper",
        "bot-of-ours",
        "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120",
    ],
)
def test_programs(agent: str | None) -> None:
    assert is_program(agent)
    assert reason_to_withhold(domain(), None, agent, is_browser=True) is Reason.BOT
    assert reason_to_withhold(domain(), None, agent, is_browser=False) is None


@pytest.mark.parametrize(
    "agent",
    [
        CHROME,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 "
        "(KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/440.0.0.30.108]",
        "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 Chrome/85.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:131.0) Gecko/20100101 Firefox/131.0",
        "Mozilla/5.0...",
    ],
)
def test_people(agent: str) -> None:
    assert not is_program(agent)
    assert reason_to_withhold(domain(), "203.0.113.7", agent, is_browser=True) is None


@given(st.text(max_size=3000))
def test_any_agent_can_be_judged(agent: str) -> None:
    assert is_program(agent) is is_program(agent)


@pytest.mark.parametrize(
    ("address", "excluded"),
    [
        ("203.0.113.7", True),
        ("203.0.113.8", False),
        (" 198.51.100.200 ", True),
        ("::ffff:203.0.113.7", True),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("no address", False),
        ("", False),
        (None, False),
    ],
)
@pytest.mark.parametrize("is_browser", [True, False])
def test_excluded_addresses(address: str | None, excluded: bool, is_browser: bool) -> None:
    shop = domain(excludedAddresses=["203.0.113.7", "198.51.100.0/24", "2001:db8::/32"])
    found = reason_to_withhold(shop, address, CHROME, is_browser=is_browser)
    assert found is (Reason.EXCLUDED if excluded else None)


@pytest.mark.parametrize(
    ("agent", "found"),
    [
        ("Mozilla/5.0 UPTIMEcheck/1", Reason.EXCLUDED),
        (CHROME, None),
        # What the shop says comes first: the merchant looks for a rule of their own.
        ("curl/8 uptimecheck", Reason.EXCLUDED),
    ],
)
def test_excluded_agents(agent: str, found: Reason | None) -> None:
    shop = domain(excludedAgents=["UptimeCheck"])
    assert reason_to_withhold(shop, None, agent, is_browser=True) is found


def test_an_excluded_agent_of_nothing_would_be_everybody() -> None:
    with pytest.raises(ValueError, match="excludedAgents"):
        domain(excludedAgents=[""])
