"""One-line breakages of the platform files, each with the test that must notice it.

A merchant pays for a wrong hash or type in silence: the platform answers 200 and matches nobody.
So the tests are tested too. ``file`` is relative to ``platforms/``; ``text`` stands in it exactly
once; ``test`` is a node id relative to ``tests/``.
"""

from typing import Final

from tests.mutants.as_sent import PASSED_THROUGH
from tests.mutants.how import LIMITED, REQUESTS, VERDICTS
from tests.mutants.probes import TRIALS
from tests.mutants.what import FIELDS
from tests.mutants.who import HASHING, PRE_IMAGES

MUTANTS: Final = (
    *(*HASHING, *PRE_IMAGES, *FIELDS, *REQUESTS),
    *(*LIMITED, *VERDICTS, *PASSED_THROUGH, *TRIALS),
)
