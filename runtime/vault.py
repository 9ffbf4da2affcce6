"""Credentials at rest: AES-256-GCM, a keyring, and the owner bound into each seal.

A sealed text reads ``v1.<key id>.<base64 of nonce and ciphertext>``. Domain and destination are
associated data, so a seal copied to another destination does not open.
"""

import base64
import hmac
import os
from collections import defaultdict
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from runtime.errors import CapistreamError, ConfigError
from runtime.settings import TokenSettings, VaultSettings

_NONCE_BYTES: Final = 12
_VERSION: Final = "v1"
_TRIALS: Final = 3
"""Seals of one key that are tried: one that was tampered with does not condemn the key."""


class SealError(CapistreamError):
    """A sealed text that does not open: wrong key, wrong owner, or tampered with."""


class Seal(NamedTuple):
    """A sealed text and whose it is."""

    domain_id: str
    destination_id: str
    text: str

    @property
    def key_id(self) -> str:
        """The id of the key that it was sealed with; empty when it is no seal."""
        return _parts(self.text)[0]


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
        key_id, text = _parts(sealed)
        if key_id not in self._ring:
            raise SealError(f"no key {key_id!r} in CAPISTREAM_VAULT__KEYS opens this credential")
        try:
            blob = base64.b64decode(text, validate=True)
            nonce, box = blob[:_NONCE_BYTES], blob[_NONCE_BYTES:]
            return self._ring[key_id].decrypt(nonce, box, _owner(domain_id, destination_id))
        except (ValueError, InvalidTag):
            raise SealError("the sealed credential does not open for this destination") from None

    @property
    def active_key_id(self) -> str:
        """The id of the key that seals."""
        return self._active

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys of the ring."""
        return frozenset(self._ring)

    def seal_again(self, seal: Seal) -> str | None:
        """The same under the active key; None when it is under it already.

        Raises ``SealError``.
        """
        if seal.key_id == self._active:
            return None
        owner = {"domain_id": seal.domain_id, "destination_id": seal.destination_id}
        return self.seal(self.open(seal.text, **owner), **owner)

    def check(self, seals: Iterable[Seal]) -> None:
        """See that this is the ring that ``seals`` were made with: to be called at a start, before
        anything is refused to anybody.

        Raises ``ConfigError`` that names the keys that are missing, or are others under their names.
        """
        trials: dict[str, list[Seal]] = defaultdict(list)
        for seal in seals:
            if (key_id := seal.key_id) and len(trials[key_id]) < _TRIALS:
                trials[key_id].append(seal)
        missing = sorted(trials.keys() - self._ring.keys())
        if missing:
            raise ConfigError(
                f"CAPISTREAM_VAULT__KEYS lacks {', '.join(map(repr, missing))}: credentials are sealed "
                "with it. Give it back, or set these credentials anew; `capistream keys status` counts them."
            )
        wrong = sorted(key for key, known in trials.items() if not any(map(self._opens, known)))
        if wrong:
            raise ConfigError(
                f"CAPISTREAM_VAULT__KEYS has another key under the name {', '.join(map(repr, wrong))} "
                "than the one that credentials are sealed with. Put the right one back."
            )

    def _opens(self, seal: Seal) -> bool:
        try:
            self.open(seal.text, domain_id=seal.domain_id, destination_id=seal.destination_id)
        except SealError:
            return False
        return True


def _parts(sealed: str) -> tuple[str, str]:
    """The key's id and the box; both empty when it is no seal."""
    version, _, rest = sealed.partition(".")
    key_id, _, text = rest.rpartition(".")
    return (key_id, text) if version == _VERSION else ("", "")


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
