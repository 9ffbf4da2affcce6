"""Hypothesis profiles: short while developing, repeatable in CI, long at night."""

import os
from typing import Final

from hypothesis import settings

pytest_plugins: Final = ["tests.databases"]

collect_ignore: Final = ["chaos"]
"""It takes minutes: run when it is named, as `make chaos` does."""

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile("nightly", max_examples=20_000, deadline=None)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)
