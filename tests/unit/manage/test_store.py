"""The store on each of the databases: what is refused, what is kept, and how."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from ipaddress import ip_network

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from manage import tables
from manage.actions import COMMAND
from manage.previews import masked
from manage.probe import Check
from manage.store import (
    ById,
    KnownCallback,
    Push,
    Pushed,
    RefusedChangeError,
    Store,
    organisation_configs,
)
from runtime.database import Database
from runtime.settings import TokenSettings, VaultSettings
from runtime.vault import DomainTokens, Vault, hash_sync_token
from schemas.config import DomainConfig, Subscription
from tests.unit.runtime.clocks import JumpingClock

KEY = SecretStr("azEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
CANARY = "EAABcanary0123456789"
META = {"access_token": CANARY, "pixel_id": "1234567890"}
VAULT = Vault(VaultSettings(keys={"k1": KEY}))
TOKENS = DomainTokens(TokenSettings(secret=KEY))


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    opened = Store(database, VAULT, TOKENS, JumpingClock())
    await opened.upgrade()
    yield opened
    await opened.close()


async def test_the_tables_can_be_upgraded_again(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    await store.upgrade()
    assert len(await store.configs()) == 1


async def test_a_new_domain(store: Store) -> None:
    options = {"strict": True, "defaultCountry": "DE", "defaultCurrency": "eur"}
    added = await store.add_domain(" Shop.Example. ", "Org", options)
    (config,) = await store.configs()
    assert config == added.config
    assert (config.host, config.revision, config.destinations) == ("shop.example", 1, ())
    assert config.subscription is Subscription.ACTIVE
    assert (config.strict, config.default_country, config.default_currency) == (True, "DE", "EUR")
    assert TOKENS.matches(added.domain_token, added.domain_id, 1)
    assert config.sync_token_sha256 == hash_sync_token(added.sync_token)


async def test_domains_of_one_organisation_share_it(store: Store) -> None:
    one = await store.add_domain("a.example", "Org", {})
    two = await store.add_domain("b.example", "Org", {})
    other = await store.add_domain("c.example", "Other", {})
    assert one.config.org_id == two.config.org_id != other.config.org_id
    assert one.domain_token != two.domain_token
    assert one.sync_token != two.sync_token


async def test_an_organisation_is_named_by_id_or_name(store: Store, database: Database) -> None:
    one = await store.add_domain("a.example", "Org", {})
    two = await store.add_domain("b.example", one.config.org_id, {})
    assert two.config.org_id == one.config.org_id
    async with database.changing.begin() as session:
        twin = tables.Organisation(
            id="org_twin", name="Org", plan_id="free", subscription="active", created_at=1
        )
        session.add(twin)
    ids = ", ".join(sorted([one.config.org_id, "org_twin"]))
    with pytest.raises(RefusedChangeError, match=rf"org: several are called Org; .*: {ids}"):
        await store.add_domain("c.example", "Org", {})
    named = await store.add_domain("c.example", "org_twin", {})
    assert named.config.org_id == "org_twin"


async def test_an_organisation_that_is_gone_is_not_made_again(store: Store) -> None:
    with pytest.raises(RefusedChangeError, match="no such organisation"):
        await store.add_domain_to("org_gone", "a.example", {}, COMMAND)
    assert await store.configs() == []


async def test_plan_and_subscription_are_published_with_each_domain(
    store: Store, database: Database
) -> None:
    first = await store.add_domain("a.example", "Org", {})
    await store.add_domain("b.example", "Org", {"monthlyEvents": 50_000})
    await store.add_domain("c.example", "Org", {"monthlyEvents": 700_000})
    other = await store.add_domain("d.example", "Other", {})
    assert (first.config.monthly_events, first.config.log_retention_seconds) == (None, None)
    async with database.changing.begin() as session:
        row = await session.get_one(tables.Organisation, first.config.org_id)
        row.plan = await session.get_one(tables.Plan, "pro")
        row.subscription = "inactive"
        configs = await organisation_configs(session, row.id)
    configs.sort(key=lambda config: config.host)
    assert [config.host for config in configs] == ["a.example", "b.example", "c.example"]
    assert [config.monthly_events for config in configs] == [500_000, 50_000, 500_000]
    assert {config.log_retention_seconds for config in configs} == {3 * 86400}
    assert {config.subscription for config in configs} == {Subscription.INACTIVE}
    assert {config.revision for config in configs} == {2}
    assert await store.configs([config.domain_id for config in configs]) == sorted(
        configs, key=lambda config: config.domain_id
    )
    assert await store.configs([other.domain_id]) == [other.config]
    assert await store.configs([]) == []


async def test_a_change_of_the_plan_and_one_of_a_domain_follow_one_another(
    store: Store, database: Database
) -> None:
    added = await store.add_domain("a.example", "Org", {})

    async def set_plan(name: str) -> DomainConfig:
        async with database.changing.begin() as session:
            row = await session.get_one(tables.Organisation, added.config.org_id)
            row.plan = await session.get_one(tables.Plan, name)
            (config,) = await organisation_configs(session, row.id)
            return config

    async def set_domain(number: int) -> DomainConfig:
        return (await store.set_domain("a.example", {"dedupeWindowSeconds": number + 1})).config

    changes = [set_plan("pro" if n % 4 else "free") if n % 2 else set_domain(n) for n in range(12)]
    configs = sorted(await asyncio.gather(*changes), key=lambda config: config.revision)
    assert [config.revision for config in configs] == list(range(2, 14))
    assert await store.configs() == [configs[-1]]


async def test_a_new_domain_token(store: Store) -> None:
    added = await store.add_domain("shop.example", "Org", {})
    made = await store.rotate_domain_token("shop.example")
    assert (made.config.token_generation, made.config.revision) == (2, 2)
    assert TOKENS.matches(made.token, added.domain_id, 2)
    assert made.token != added.domain_token
    assert made.config.sync_token_sha256 == added.config.sync_token_sha256


async def test_pushes_at_the_same_time_follow_one_another(store: Store) -> None:
    added = await store.add_domain("shop.example", "Org", {})
    which = ById(added.config.org_id, added.domain_id)

    def push(number: int) -> Awaitable[Push]:
        fields = META | {"pixel_id": str(number % 3)}
        return store.push(which, [Pushed("meta", fields, advanced_matching=True)], COMMAND)

    pushes = await asyncio.gather(*(push(number) for number in range(9)))
    changed = sorted((p.config for p in pushes if p.changed), key=lambda config: config.revision)
    assert [config.revision for config in changed] == list(range(2, 2 + len(changed)))
    assert all(len(config.destinations) == 1 for config in changed)
    assert await store.configs() == [changed[-1]]


async def test_callbacks_registered_at_the_same_time(store: Store) -> None:
    added = await store.add_domain("shop.example", "Org", {})
    which = ById(added.config.org_id, added.domain_id)
    known = [KnownCallback(f"https://shop.example/{n}", f"token-{n}") for n in range(5)]
    await asyncio.gather(*(store.register_callback(which, one, COMMAND) for one in known))
    assert await store.callback(which) in known
    assert await store.configs() == [added.config]


@pytest.mark.parametrize(
    "host",
    ["", ".", "-a.example", "a..b", "a b", "a/b", "shop.example:80", "x" * 64, "a." * 130 + "b", "ü.de"],
)  # fmt: skip
async def test_what_is_no_host_is_refused(store: Store, host: str) -> None:
    with pytest.raises(RefusedChangeError, match=r"host: .* is not a host name"):
        await store.add_domain(host, "Org", {})
    assert await store.configs() == []


async def test_a_host_that_is_taken_is_refused(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    with pytest.raises(RefusedChangeError, match=r"host: shop\.example is configured already"):
        await store.add_domain("SHOP.example", "Other", {})


@pytest.mark.parametrize(
    "options",
    [
        {"defaultCurrency": "Euro"},
        {"defaultCountry": "Germany"},
        {"strict": "perhaps"},
        {"excludedAddresses": ["203.0.113.7/8"]},
        {"excludedAgents": [""]},
        {"monthlyEvents": -1},
    ],
)
async def test_options_that_cannot_work_are_refused_before_they_are_kept(
    store: Store, options: dict[str, object]
) -> None:
    named = f"{next(iter(options))}[.0-9A-Za-z]*: "
    with pytest.raises(RefusedChangeError, match=named):
        await store.add_domain("shop.example", "Org", options)
    assert await store.configs() == []
    added = await store.add_domain("shop.example", "Org", {})
    with pytest.raises(RefusedChangeError, match=named):
        await store.set_domain("shop.example", options)
    assert await store.configs() == [added.config]


async def test_a_change_of_a_domain_leaves_the_rest_as_it_was(store: Store) -> None:
    first = {"defaultCurrency": "EUR", "monthlyEvents": 5, "excludedAgents": ["check", "probe"]}
    added = await store.add_domain("shop.example", "Org", first)
    changed = await store.set_domain(
        "Shop.Example.", {"monthlyEvents": 9, "excludedAddresses": ["203.0.113.7", "2001:db8::/32"]}
    )
    assert changed.config == added.config.model_copy(
        update={
            "revision": 2,
            "monthly_events": 9,
            "excluded_addresses": (ip_network("203.0.113.7/32"), ip_network("2001:db8::/32")),
        }
    )
    assert await store.configs() == [changed.config]
    with pytest.raises(RefusedChangeError, match=r"other\.example is not configured"):
        await store.set_domain("other.example", {})


async def test_a_destination_holds_the_token_for_the_vault_alone(store: Store) -> None:
    domain = await store.add_domain("shop.example", "Org", {})
    changed = await store.set_destination("Shop.Example.", "meta", META)
    found = changed.destination
    assert (found.platform, found.account, found.enabled) == ("meta", "1234567890", True)
    assert changed.config.revision == 2
    assert changed.config.destinations == (found,)
    assert await store.configs() == [changed.config]
    opened = VAULT.open(found.sealed, domain_id=domain.domain_id, destination_id=found.id)
    assert orjson.loads(opened)["access_token"] == CANARY


async def test_the_same_account_again_keeps_its_id(store: Store) -> None:
    domain = await store.add_domain("shop.example", "Org", {})
    first = await store.set_destination("shop.example", "meta", META)
    again = await store.set_destination("shop.example", "meta", META | {"access_token": "newer"})
    assert again.destination.id == first.destination.id
    assert again.config.revision == first.config.revision + 1
    assert len(again.config.destinations) == 1
    sealed = again.destination.sealed
    opened = VAULT.open(sealed, domain_id=domain.domain_id, destination_id=again.destination.id)
    assert orjson.loads(opened)["access_token"] == "newer"


async def test_a_test_code_is_readable_for_as_long_as_the_credentials_have_it(
    store: Store,
) -> None:
    domain = await store.add_domain("shop.example", "Org", {})
    for told, kept in (("TEST1", "TEST1"), (" TEST2 ", "TEST2"), ("", None), ("TEST3", "TEST3")):
        fields = META | {"test_event_code": told}
        changed = await store.set_destination("shop.example", "meta", fields)
        found = changed.destination
        opened = VAULT.open(found.sealed, domain_id=domain.domain_id, destination_id=found.id)
        assert found.test_event_code == orjson.loads(opened).get("test_event_code") == kept
        assert await store.configs() == [changed.config]
        assert DomainConfig.model_validate_json(changed.config.model_dump_json()) == changed.config
    without = await store.set_destination("shop.example", "meta", META)
    assert without.destination.test_event_code is None
    assert await store.configs() == [without.config]


async def test_no_option_overrules_the_test_code_of_the_credentials(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    changed = await store.set_destination("shop.example", "meta", META, {"testEventCode": "TEST1"})
    assert changed.destination.test_event_code is None


async def test_switches_stay_until_they_are_set_anew(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    first = {"limitedDataUse": True, "enabled": False, "events": {"Search": False}}
    await store.set_destination("shop.example", "meta", META, first)
    second = {"enabled": True, "events": {"Lead": False}, "eventNames": {"Lead": "Contact"}}
    changed = await store.set_destination("shop.example", "meta", META, second)
    found = changed.destination
    assert (found.limited_data_use, found.advanced_matching, found.enabled) == (True, True, True)
    assert found.events == {"Search": False, "Lead": False}
    assert found.event_names == {"Lead": "Contact"}


async def test_rules_are_kept_and_lists_replaced(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    first = {
        "value": "fixed",
        "fixedValue": "5.00",
        "samplePercent": 12.5,
        "excludedCountries": ["de", "UK"],
        "excludedSources": ["email"],
        "consentRequired": True,
    }
    changed = await store.set_destination("shop.example", "meta", META, first)
    found = changed.destination
    assert (found.value, found.fixed_value) == ("fixed", Decimal("5.00"))
    assert (found.sample_percent, found.consent_required) == (12.5, True)
    assert (found.excluded_countries, found.excluded_sources) == (("DE", "GB"), ("email",))
    assert DomainConfig.model_validate_json(changed.config.model_dump_json()) == changed.config
    second = {"value": "total", "excludedCountries": ["FR"], "excludedSources": []}
    found = (await store.set_destination("shop.example", "meta", META, second)).destination
    assert (found.value, found.sample_percent) == ("total", 12.5)
    assert (found.excluded_countries, found.excluded_sources) == (("FR",), ())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"value": "gross"}, "value"),
        ({"value": "fixed"}, "value"),
        ({"fixedValue": "5,00"}, "fixedValue"),
        ({"fixedValue": "-1"}, "fixedValue"),
        ({"samplePercent": 100.5}, "samplePercent"),
        ({"samplePercent": -1}, "samplePercent"),
        ({"samplePercent": "nan"}, "samplePercent"),
        ({"excludedCountries": ["DE", "Germany"]}, "excludedCountries.1"),
        ({"excludedCountries": ["XX"]}, "excludedCountries.0"),
        ({"excludedSources": ["pigeon"]}, "excludedSources.0"),
        ({"consentRequired": "perhaps"}, "consentRequired"),
    ],
)
async def test_a_wrong_rule_names_its_field_and_is_not_kept(
    store: Store, options: dict[str, object], field: str
) -> None:
    await store.add_domain("shop.example", "Org", {})
    with pytest.raises(RefusedChangeError, match=rf"^{field}: "):
        await store.set_destination("shop.example", "meta", META, options)
    (config,) = await store.configs()
    assert (config.revision, config.destinations) == (1, ())
    kept = await store.set_destination("shop.example", "meta", META)
    with pytest.raises(RefusedChangeError, match=rf"^{field}: "):
        await store.set_destination("shop.example", "meta", META, options)
    assert await store.configs() == [kept.config]


async def test_changes_at_the_same_time_follow_one_another(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    changes = [
        store.set_destination("shop.example", "meta", META | {"pixel_id": str(number)})
        for number in range(5)
    ]
    configs = [changed.config for changed in await asyncio.gather(*changes)]
    configs.sort(key=lambda config: config.revision)
    assert [config.revision for config in configs] == [2, 3, 4, 5, 6]
    assert [len(config.destinations) for config in configs] == [1, 2, 3, 4, 5]


async def test_another_account_is_another_destination(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    await store.set_destination("shop.example", "meta", META)
    changed = await store.set_destination("shop.example", "meta", META | {"pixel_id": "2"})
    assert [d.account for d in changed.config.destinations] == ["1234567890", "2"]


@pytest.mark.parametrize(
    ("host", "platform", "fields", "message"),
    [
        ("other.example", "meta", META, "host: other.example is not configured"),
        ("shop.example", "myspace", META, "platform: 'myspace' is not one of meta, tiktok"),
        ("shop.example", "meta", {"access_token": CANARY}, "pixel_id: Field required"),
        ("shop.example", "meta", META | {"pixel_id": "../x"}, "pixel_id: "),
        ("shop.example", "meta", META | {"acess_token": CANARY}, "acess_token: Extra"),
        ("shop.example", "meta", META | {"access_token": f"{CANARY} x"}, "access_token: must not"),
        ("shop.example", "meta", META | {"access_token": f"{CANARY}ü"}, "access_token: must be"),
        ("shop.example", "meta", META | {"access_token": [CANARY]}, "access_token: "),
    ],
)
async def test_a_wrong_change_names_its_field_and_no_token(
    store: Store, host: str, platform: str, fields: dict[str, object], message: str
) -> None:
    await store.add_domain("shop.example", "Org", {})
    with pytest.raises(RefusedChangeError) as refusal:
        await store.set_destination(host, platform, fields)
    assert message in str(refusal.value)
    assert CANARY not in str(refusal.value)
    (config,) = await store.configs()
    assert (config.revision, config.destinations) == (1, ())


async def test_of_new_credentials_nothing_is_known(store: Store) -> None:
    await store.add_domain("shop.example", "Org", {})
    made = (await store.set_destination("shop.example", "meta", META)).destination
    check = Check(ok=False, status=401, error="Meta refuses these credentials")
    await store.note_checks({made.id: check, "dst_gone": check})
    (row,) = (await store.domain("shop.example")).destinations
    assert (row.check_ok, row.check_status, row.check_error) == (False, 401, check.error)
    await store.set_rules("shop.example", made.id, {"limitedDataUse": True})
    (row,) = (await store.domain("shop.example")).destinations
    assert row.check_ok is False
    await store.set_destination("shop.example", "meta", META)
    (row,) = (await store.domain("shop.example")).destinations
    assert (row.checked_at, row.check_ok, row.check_status, row.check_error) == (None,) * 4


async def test_what_no_key_opens_is_to_be_set_anew(store: Store, database: Database) -> None:
    added = await store.add_domain("shop.example", "Org", {})
    made = (await store.set_destination("shop.example", "meta", META)).destination
    which = ById(added.config.org_id, added.domain_id)
    await store.register_callback(which, KnownCallback("https://shop.example/", "t"), COMMAND)
    key = SecretStr("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    other = Store(database, Vault(VaultSettings(keys={"k1": key})), TOKENS, JumpingClock())
    for opening in (other.credentials(which, made.id), other.callback(which)):
        with pytest.raises(RefusedChangeError, match="cannot be opened any more"):
            await opening
    push = await other.push(which, [Pushed("meta", META, advanced_matching=True)], COMMAND)
    assert push.changed
    _, opened = await other.credentials(which, made.id)
    assert opened.reveal()["access_token"] == CANARY


async def test_no_secret_is_readable_at_rest(store: Store, dump: Callable[[], bytes]) -> None:
    added = await store.add_domain("shop.example", "Org", {})
    await store.set_destination("shop.example", "meta", META)
    await store.close()
    kept = dump()
    assert b"shop.example" in kept
    for secret in (CANARY, added.sync_token, added.domain_token, KEY.get_secret_value()):
        assert secret.encode() not in kept


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("sk-0123456789abcdef7f3a", "sk-****…7f3a"),
        ("012345678901", "****…8901"),
        ("0123456789", "****…789"),
        ("012", "****…2"),
        ("01", "****…"),
    ],
)
def test_a_preview(secret: str, shown: str) -> None:
    assert masked(secret) == shown


@given(secret=st.text(alphabet="abcdef", min_size=1, max_size=300))
def test_a_preview_shows_a_third_at_most(secret: str) -> None:
    shown = masked(secret).replace("****…", "")
    assert len(shown) <= min(7, len(secret) // 3)
    assert len(masked(secret)) <= 40
