import hashlib
import re
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from platforms import identity, meta, pinterest, reddit, snapchat, tiktok
from schemas.event import UserData
from tests.strategies import MD5, SHA256, emails, names, phones, texts, user_data

TABLES: Final = {
    module.SLUG: module.IDENTIFIERS for module in (meta, tiktok, pinterest, snapchat, reddit)
}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("rule", "raw", "published"),
    [
        (identity.email, "  John_Smith@gmail.com ", "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f"),
        (identity.email, "person@example.com", "542d240129883c019e106e3b1b2d3f3cb3537c43c425364de8e951d5a3083345"),
        (identity.email_canonical, "Al.ice$+Apple@Example.Com", "ff8d9819fc0e12bf0d24892e45987e249a28dce836a85cad60e28eaaa8c6d976"),
        (identity.phone, "(+1)2133734253", "9f7ec22d72092cd3c0b58726ed9c2d91b92e51a3f29837508fb2948bb22dd2fd"),
        (identity.phone_digits, "+44 844 412 4653", "dc008fda46e2e64002cf2f82a4906236282d431c4f75e5b60bfe79fc48546383"),
        (identity.phone_lenient, "1(650)555-1212", "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176"),
        (identity.letters_digits, "John", "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a"),
        (identity.letters_digits, "Mary", "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec"),
        (identity.letters_digits, "Valéry", "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c"),
        (identity.verbatim, " customer12345 ", "a4cc2fc5adf58a029291c1514d273989113a1d05e1d753c1d0c3a848af7109cc"),
    ],
)  # fmt: skip
def test_the_vendors_published_hashes(rule: identity.Rule, raw: str, published: str) -> None:
    assert _sha256(rule(raw, None) or "") == published


@pytest.mark.parametrize(
    ("raw", "country", "expected"),
    [
        ("+44 (0)20 7946 0018", None, "+442079460018"),
        ("020 7946 0018", "gb", "+442079460018"),
        ("0044 844 412 4653", None, "+448444124653"),
        ("+1 555 444 1234 ext. 5", None, "+15554441234"),
        ("16505551212", "us", "+16505551212"),
        ("5511912345678", None, "+5511912345678"),
        ("442079460018", "us", "+442079460018"),
        ("(11) 91234-5678", None, None),
        ("2133734253", None, None),
        ("123", "us", None),
        ("555-1212", "us", None),
        ("12", "de", None),
        ("call me", "us", None),
        ("", None, None),
    ],
)
def test_phones(raw: str, country: str | None, expected: str | None) -> None:
    assert identity.phone(raw, country) == expected


@pytest.mark.parametrize(
    ("rule", "raw", "country", "expected"),
    [
        (identity.phone_lenient, "(11) 91234-5678", None, "11912345678"),
        (identity.phone_lenient, "(11) 91234-5678", "br", "5511912345678"),
        (identity.phone_lenient, "12", None, None),
        (identity.letters_digits, " O'Neil-King ", None, "oneilking"),
        (identity.letters_digits, "अनीता", None, "अनीता"),
        (identity.letters_digits, "Zoe\u0308", None, "zoë"),
        (identity.letters_digits, "-", None, None),
        (identity.letters, "123", None, None),
        (identity.letters, "São Paulo 1", None, "sãopaulo"),
        (identity.lower, " O'Neil-King ", None, "o'neil-king"),
        (identity.lower, "-", None, None),
        (identity.gender, "Non-binary", None, "n"),
        (identity.gender_binary, "Non-binary", None, None),
        (identity.gender_binary, "Female", None, "f"),
        (identity.date_of_birth, "1990-12-31", None, "19901231"),
        (identity.date_of_birth, "19901231", None, "19901231"),
        (identity.date_of_birth, "1990-12-31T00:00:00Z", None, "19901231"),
        (identity.date_of_birth, "1990-02-31", None, None),
        (identity.date_of_birth, "31.12.1990", None, None),
        (identity.country, "USA", None, "us"),
        (identity.country, "uk", None, "gb"),
        (identity.country, "Germany", None, "de"),
        (identity.country, "zz", None, None),
        (identity.state, "California", "us", "ca"),
        (identity.state, "CA", None, "ca"),
        (identity.state, "Québec", "ca", "qc"),
        (identity.state, "New South Wales", "au", "newsouthwales"),
        (identity.postal_cut, "37221-3051", None, "37221"),
        (identity.postal_cut, "372213051", "us", "37221"),
        (identity.postal_joined, "01310-100", "br", "01310100"),
        (identity.postal_joined, "10001-1234", "us", "10001"),
        (identity.postal_sector, "SW1A 1AA", "gb", "sw1a1"),
        (identity.postal_sector, "SW1A", "gb", "sw1a"),
        (identity.postal_digits, "10001-1234", "us", "100011234"),
        (identity.postal_digits, "SW1A 1AA", "gb", None),
        (identity.email, "nobody", None, None),
        (identity.email_canonical, "+tag@example.com", None, None),
    ],
)
def test_pre_images(
    rule: identity.Rule, raw: str, country: str | None, expected: str | None
) -> None:
    assert rule(raw, country) == expected


@given(st.one_of(texts, names, emails))
@example("e-\u0301")
@example("İ'")
def test_a_pre_image_is_already_normal(raw: str) -> None:
    rules = [identity.lower, identity.verbatim, identity.letters_digits, identity.letters]
    rules += [identity.email, identity.email_canonical, identity.postal_digits]
    for rule in rules:
        once = rule(raw, None)
        assert once is None or rule(once, None) == once


@given(phones, st.sampled_from([None, "us", "gb", "br", "it"]))
def test_a_phone_in_e164_is_already_normal(raw: str, country: str | None) -> None:
    number = identity.phone(raw, country)
    if number is not None:
        assert re.fullmatch(r"\+[1-9]\d{4,14}", number)
        assert identity.phone(number, country) == number


@pytest.mark.parametrize("slug", TABLES)
@given(fields=user_data)
def test_a_hashed_field_holds_a_hash_and_never_that_of_nothing(
    slug: str, fields: dict[str, Any]
) -> None:
    hashes = identity.hashes(UserData.model_validate(fields), TABLES[slug])
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in hashes.values())
    assert _sha256("") not in hashes.values()
    assert _sha256(SHA256) not in hashes.values()


@pytest.mark.parametrize("slug", TABLES)
def test_what_is_hashed_already_goes_through_once_and_md5_never(slug: str) -> None:
    for key, attribute, _ in TABLES[slug]:
        for digest, expected in (
            (SHA256.upper(), {key: SHA256}),
            (MD5, {key: _sha256(MD5)} if attribute == "external_id" else {}),
        ):
            user = UserData().model_copy(update={attribute: digest})
            own = [row for row in TABLES[slug] if row[0] == key]
            assert identity.hashes(user, own) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1111:a:b0::200", "2001:db8:1111:a:b0::200"),
        ("10.0.0.1, 8.8.8.8", "8.8.8.8"),
        ("10.0.0.1, 192.168.0.1", "10.0.0.1"),
        ("unknown", None),
        (SHA256, None),
        (None, None),
    ],
)
def test_addresses(raw: str | None, expected: str | None) -> None:
    assert identity.ip(raw) == expected
