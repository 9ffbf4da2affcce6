"""SHA-256 of what is asked for again and again. Pure."""

import hashlib
from functools import lru_cache
from typing import Final

REMEMBERED: Final = 32_768
"""Answers kept for the next event of the same person, about 10 MB. A person's events lie in several
partitions, and a log that has piled up is read one partition after the other."""


@lru_cache(maxsize=REMEMBERED)
def sha256(text: str) -> str:
    """64 lower-case hex digits; cached, because most platforms want the same one of a person."""
    return hashlib.sha256(text.encode()).hexdigest()
