"""Credentials at rest, and domain tokens."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runtime.errors import ConfigError
from runtime.settings import TokenSettings, VaultSettings
from runtime.vault import DomainTokens, Seal, SealError, Vault, hash_sync_token

OLD, NEW = (SecretStr(base64.b64encode(bytes([n]) * 32).decode()) for n in (1, 2))
VAULT = Vault(VaultSettings(keys={"old": OLD}))
OWNER = {"domain_id": "dom", "destination_id": "dst"}


@given(st.binary(max_size=200), st.text(max_size=10), st.text(max_size=10))
def test_what_is_sealed_opens_for_its_owner(plain: bytes, domain: str, destination: str) -> None:
    owner = {
        "domain_id": domain.encode(errors="replace").decode(),
        "destination_id": destination.encode(errors="replace").decode(),
    }
    assert VAULT.open(VAULT.seal(plain, **owner), **owner) == plain


def test_the_same_text_is_never_sealed_the_same() -> None:
    assert len({VAULT.seal(b"token", **OWNER) for _ in range(50)}) == 50


def test_the_text_is_not_in_the_seal() -> None:
    sealed = VAULT.seal(b"token-token-token", **OWNER)
    blob = base64.b64decode(sealed.rpartition(".")[2])
    assert b"token" not in blob
    assert "token" not in sealed


@pytest.mark.parametrize(
    "owner",
    [
        {"domain_id": "dom", "destination_id": "dst2"},
        {"domain_id": "dom2", "destination_id": "dst"},
        {"domain_id": "dst", "destination_id": "dom"},
        {"domain_id": "domdst", "destination_id": ""},
    ],
)
def test_a_seal_opens_for_nobody_else(owner: dict[str, str]) -> None:
    sealed = VAULT.seal(b"token", **OWNER)
    with pytest.raises(SealError):
        VAULT.open(sealed, **owner)


def test_another_key_of_the_same_name_does_not_open_it() -> None:
    sealed = VAULT.seal(b"token", **OWNER)
    with pytest.raises(SealError):
        Vault(VaultSettings(keys={"old": NEW})).open(sealed, **OWNER)


@given(st.data())
def test_no_changed_byte_goes_unseen(data: st.DataObject) -> None:
    sealed = VAULT.seal(b"token", **OWNER)
    head, _, text = sealed.rpartition(".")
    blob = bytearray(base64.b64decode(text))
    blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        VAULT.open(f"{head}.{base64.b64encode(blob).decode()}", **OWNER)


@pytest.mark.parametrize(
    "sealed", ["", "v1", "v1.old.", "v1.old.%%%", "v1.old.AAAA", "v2.old.AAAA"]
)
def test_what_is_no_seal_is_told(sealed: str) -> None:
    with pytest.raises(SealError):
        VAULT.open(sealed, **OWNER)


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    before = VAULT.seal(b"token", **OWNER)
    rotated = Vault(VaultSettings(keys={"old": OLD, "new": NEW}, active="new"))
    after = rotated.seal(b"token", **OWNER)
    assert after.startswith("v1.new.")
    assert rotated.open(before, **OWNER) == rotated.open(after, **OWNER) == b"token"
    with pytest.raises(SealError, match="'new'"):
        VAULT.open(after, **OWNER)


def test_a_seal_is_made_again_with_the_active_key_only_once() -> None:
    rotated = Vault(VaultSettings(keys={"old": OLD, "new": NEW}, active="new"))
    before = Seal("dom", "dst", VAULT.seal(b"token", **OWNER))
    again = rotated.seal_again(before)
    assert before.key_id == "old"
    assert again is not None
    after = before._replace(text=again)
    assert after.key_id == "new"
    assert Vault(VaultSettings(keys={"new": NEW})).open(again, **OWNER) == b"token"
    assert rotated.seal_again(after) is None
    with pytest.raises(SealError):
        rotated.seal_again(before._replace(destination_id="dst2"))


def seals(*keys: Vault, count: int = 4) -> list[Seal]:
    """``count`` seals with each of these."""
    return [Seal("dom", "dst", key.seal(b"token", **OWNER)) for key in keys for _ in range(count)]


def test_the_ring_that_sealed_passes_its_check() -> None:
    both = Vault(VaultSettings(keys={"old": OLD, "new": NEW}, active="new"))
    both.check([])
    both.check(seals(VAULT, both))


def test_a_key_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="CAPISTREAM_VAULT__KEYS lacks 'old'"):
        Vault(VaultSettings(keys={"new": NEW})).check(seals(VAULT))


def test_a_key_that_is_another_one_is_named() -> None:
    both = Vault(VaultSettings(keys={"old": NEW, "new": NEW}, active="new"))
    with pytest.raises(ConfigError, match="another key under the name 'old'"):
        both.check(seals(VAULT, both))


def test_one_seal_that_was_tampered_with_does_not_condemn_its_key() -> None:
    good = seals(VAULT, count=2)
    VAULT.check([Seal("dom", "dst2", good[0].text), Seal("dom", "dst", "no seal"), *good])


def test_a_key_may_be_named_with_dots() -> None:
    vault = Vault(VaultSettings(keys={"2026.11": OLD}))
    assert vault.open(vault.seal(b"token", **OWNER), **OWNER) == b"token"


def test_without_a_key_there_is_no_vault() -> None:
    with pytest.raises(ConfigError, match="CAPISTREAM_VAULT__KEYS"):
        Vault(VaultSettings())


TOKENS = DomainTokens(TokenSettings(secret=OLD))


def test_a_domain_token_stays_what_it_is() -> None:
    again = DomainTokens(TokenSettings(secret=OLD)).issue("dom", 1)
    assert TOKENS.issue("dom", 1) == again
    assert len(again) == 64
    assert TOKENS.matches(again, "dom", 1)


def test_a_token_is_of_one_domain_generation_and_secret() -> None:
    other = DomainTokens(TokenSettings(secret=NEW))
    found = {
        TOKENS.issue("dom", 1),
        TOKENS.issue("dom", 2),
        TOKENS.issue("dom1", 1),
        TOKENS.issue("dom", 11),
        other.issue("dom", 1),
    }
    assert len(found) == 5
    assert not TOKENS.matches(TOKENS.issue("dom", 1), "dom", 2)


@pytest.mark.parametrize("token", ["", "ü", "\udce9", "\x00", "0" * 64])
def test_any_text_can_be_compared(token: str) -> None:
    assert not TOKENS.matches(token, "dom", 1)
    assert hash_sync_token(token) != hash_sync_token("a-sync-token")


def test_without_a_secret_there_are_no_tokens() -> None:
    with pytest.raises(ConfigError, match="CAPISTREAM_TOKENS__SECRET"):
        DomainTokens(TokenSettings())


def test_a_sync_token_is_kept_as_its_sha256() -> None:
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_sync_token("abc") == expected
