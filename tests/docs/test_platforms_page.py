"""``docs/platforms.md`` is what the code says, and all of it."""

import re

import pytest

from platforms.registry import PLATFORMS
from schemas.event import EventName
from schemas.outcome import Reason
from tests.docs.markdown import ROOT, section, table
from tests.docs.platforms_page import PAGE, codes, page


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.docs.platforms_page"


@pytest.mark.parametrize("slug", PLATFORMS)
def test_every_platform_has_every_table(slug: str) -> None:
    platform = PLATFORMS[slug]
    text = section(page(), platform.NAME)
    assert len(table(text, "Event")) == len(EventName)
    assert table(text, "Field")
    assert {row[0] for row in table(text, "Reason")} >= {"`too_old`", "`missing_value`"}
    assert f"POST {platform.BASE_URL}" in text
    assert f"{platform.LIMITS.max_events}" in text


@pytest.mark.parametrize("slug", PLATFORMS)
def test_every_reason_that_a_platform_file_gives_is_told(slug: str) -> None:
    source = (ROOT / "platforms" / f"{slug}.py").read_text()
    given = {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", source)}
    told = table(section(page(), PLATFORMS[slug].NAME), "Reason")
    assert {f"`{reason}`" for reason in given} <= {row[0] for row in told}


def test_the_codes_are_found_where_the_vendor_has_some() -> None:
    found = {slug: codes(platform) for slug, platform in PLATFORMS.items()}
    assert {100, 190, 613, 80004} <= set(found["meta"])
    assert {0, 40002, 40105} <= set(found["tiktok"])
    assert {2, 8, 29, 4196, 4197} <= set(found["pinterest"])
