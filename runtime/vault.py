"""Credentials at rest: AES-256-GCM, a keyring, and the owner bound into each seal.

A sealed text reads ``v1.<key id>.<base64 of nonce and ciphertext>``. Domain and destination are
associated data, so a seal copied to another destination does not open.
"""

import base64
import hmac
import os
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.errors import CapistreamError, ConfigError
from runtime.settings import TokenSettings, VaultSettings

_NONCE_BYTES: Final = 12
_VERSION: Final = "v1"


class SealError(CapistreamError):
    """A sealed text that does not open: wrong key, wrong owner, or tampered with."""


class Vault:
    """Seals with the active key, opens with any key of the ring."""

    def __init__(self, settings: VaultSettings) -> None:
        if settings.active_key_id is None:
            raise ConfigError(
                "CAPISTREAM_VAULT__KEYS is not set: credentials cannot be sealed or opened. "
                'Set it to {"k1": "<base64 of 32 bytes>"}.'
            )
        self._active = settings.active_key_id
        self._ring = {
            key_id: AESGCM(base64.b64decode(key.get_secret_value()))
            for key_id, key in settings.keys.items()
        }

    def seal(self, plain: bytes, *, domain_id: str, destination_id: str) -> str:
        """Encrypt for one destination of one domain."""
        nonce = os.urandom(_NONCE_BYTES)
        box = self._ring[self._active].encrypt(nonce, plain, _owner(domain_id, destination_id))
        return f"{_VERSION}.{self._active}.{base64.b64encode(nonce + box).decode()}"

    def open(self, sealed: str, *, domain_id: str, destination_id: str) -> bytes:
        """Decrypt; raises ``SealError`` when the text is not for this owner or not ours."""
        version, _, rest = sealed.partition(".")
        key_id, _, text = rest.rpartition(".")
        if version != _VERSION or key_id not in self._ring:
            raise SealError(f"no key {key_id!r} in CAPISTREAM_VAULT__KEYS opens this credential")
        try:
            blob = base64.b64decode(text, validate=True)
            nonce, box = blob[:_NONCE_BYTES], blob[_NONCE_BYTES:]
            return self._ring[key_id].decrypt(nonce, box, _owner(domain_id, destination_id))
        except (ValueError, InvalidTag):
            raise SealError("the sealed credential does not open for this destination") from None


def _owner(domain_id: str, destination_id: str) -> bytes:
    return f"{domain_id}\x1f{destination_id}".encode()


class DomainTokens:
    """The ``X-SSP-Token`` of a domain: an HMAC over the domain and a generation.

    Nothing is stored: a new generation makes the old token worthless.
    """

    def __init__(self, settings: TokenSettings) -> None:
        if settings.secret is None:
            raise ConfigError(
                "CAPISTREAM_TOKENS__SECRET is not set: domain tokens cannot be made or checked. "
                "Set it to the base64 of 32 bytes."
            )
        self._secret = base64.b64decode(settings.secret.get_secret_value())
        self._known: dict[tuple[str, int], bytes] = {}
        """Tokens that were asked for: one a domain, and as few generations."""

    def issue(self, domain_id: str, generation: int) -> str:
        """The token, 64 hex characters."""
        message = f"{domain_id}\x1f{generation}".encode()
        return hmac.new(self._secret, message, sha256).hexdigest()

    def matches(self, token: str, domain_id: str, generation: int) -> bool:
        """Compare in constant time."""
        known = self._known.get((domain_id, generation))
        if known is None:
            known = self._known[domain_id, generation] = self.issue(domain_id, generation).encode()
        given = token.encode(errors="replace")  # a header may hold bytes that are no text
        return hmac.compare_digest(given, known)


def hash_sync_token(token: str) -> str:
    """The form in which a sync token is kept."""
    # Who asks may send bytes that are no text; no token has the mark that replaces them.
    return sha256(token.encode(errors="replace")).hexdigest()
