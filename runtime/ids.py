"""Identifiers and secrets that must not be guessable."""

import secrets


def request_id() -> str:
    """Names one HTTP request in its answer, its log lines and its records."""
    return secrets.token_hex(16)


def new_id(prefix: str) -> str:
    """A short id that says what it is of: ``dom_3f9c2a…``, ``dst_81b0…``."""
    return f"{prefix}_{secrets.token_hex(8)}"


def new_sync_token() -> str:
    """48 hex characters: what a shop's server proves itself with. Kept as SHA-256 only."""
    return secrets.token_hex(24)
