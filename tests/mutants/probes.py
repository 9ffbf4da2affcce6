"""Breakages of the call that tries credentials."""

from typing import Final

from tests.mutants.mutant import PROBES, Mutant

COUNTS: Final = f"{PROBES}::test_good_credentials_are_accepted_and_nothing_counts"

TRIALS: Final = (
    Mutant(
        "Meta counts the event of a probe",
        "meta.py",
        '"event_time": now - nobody.LONG_SECONDS',
        '"event_time": now',
        COUNTS,
    ),
    Mutant(
        "TikTok counts the event of a probe",
        "tiktok.py",
        "nobody.EVENT_ID if is_test else 0",
        "nobody.EVENT_ID",
        COUNTS,
    ),
    Mutant(
        "Pinterest counts the event of a probe",
        "pinterest.py",
        'replace(request([orjson.dumps(event)], credentials), query={"test": "true"})',
        "replace(request([orjson.dumps(event)], credentials))",
        COUNTS,
    ),
    Mutant(
        "Snapchat counts the event of a probe",
        "snapchat.py",
        'replace(call, path=f"{call.path}/validate")',
        "replace(call)",
        COUNTS,
    ),
    Mutant(
        "Reddit counts the event of a probe",
        "reddit.py",
        "(now if is_test else now - nobody.LONG_SECONDS)",
        "now",
        COUNTS,
    ),
    Mutant(
        "SnackVideo counts the event of a probe",
        "snackvideo.py",
        '"EVENT_CONTENT_VIEW" if is_test else "EVENT_CREDENTIALS_CHECK"',
        '"EVENT_CONTENT_VIEW"',
        COUNTS,
    ),
    Mutant(
        "whatever is refused speaks for the credentials",
        "base.py",
        "verdict.fate is Fate.REJECTED and verdict.code in self.refused_with",
        "verdict.fate is Fate.REJECTED",
        f"{PROBES}::test_only_the_platforms_own_word_counts",
    ),
    Mutant(
        "bad credentials are taken for good ones",
        "base.py",
        "verdict.fate is Fate.REJECTED and verdict.code in self.refused_with",
        "verdict.code is not None",
        f"{PROBES}::test_bad_credentials_are_told",
    ),
)
