"""Rotation of the vault's keys, on each of the databases."""

import base64
from collections.abc import Awaitable, Callable

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from typing_extensions import override

from manage.actions import Actor
from manage.keys import KeyStatus, Rotated, Rotation, read_seals, statuses
from manage.rows import CALLBACK
from manage.services import Services
from manage.store import Store
from manage.tables import AdminAction, Callback, Destination
from runtime.clock import Clock
from runtime.errors import ConfigError
from runtime.settings import VaultSettings
from runtime.vault import Seal, Vault
from schemas.config import DomainConfig
from tests.unit.manage.api import KEY
from tests.unit.runtime.clocks import JumpingClock

NEW = SecretStr(base64.b64encode(b"n" * 32).decode())
BOTH = Vault(VaultSettings(keys={"k1": KEY, "k1.new": NEW}, active="k1.new"))
BY = Actor("command")
TOKEN = "EAABcanary0123456789"


async def add_shop(services: Services, host: str) -> DomainConfig:
    """A domain with two destinations and a callback, sealed with the old key."""
    await services.store.add_domain(host, "Org", {})
    fields = {"access_token": TOKEN, "pixel_id": "1234567890"}
    await services.store.set_destination(host, "meta", fields)
    config = (await services.store.set_destination(host, "tiktok", fields)).config
    token = services.vault.seal(b"back", domain_id=config.domain_id, destination_id=CALLBACK)
    async with services.database.changing.begin() as session:
        session.add(
            Callback(
                domain_id=config.domain_id,
                url="https://shop.example/resync",
                sealed_token=token,
                registered_at=1,
            )
        )
    return config


def rotation(services: Services, clock: Clock | None = None) -> Rotation:
    """Where the ring with both keys is in force."""
    clock = clock or services.clock
    store = Store(services.database, BOTH, services.tokens, clock)
    return Rotation(services.database, store, services.publisher, BOTH, clock)


def opened(vault: Vault, seals: list[Seal]) -> list[bytes]:
    """What the seals hold."""
    return [
        vault.open(one.text, domain_id=one.domain_id, destination_id=one.destination_id)
        for one in seals
    ]


async def test_everything_is_sealed_again_and_the_old_key_is_not_needed_any_more(
    services: Services, dump: Callable[[], bytes]
) -> None:
    before = [await add_shop(services, host) for host in ("a.example", "b.example")]
    keys = rotation(services)
    assert statuses(BOTH, await read_seals(services.database)) == [
        KeyStatus("k1", 6, is_active=False, is_known=True),
        KeyStatus("k1.new", 0, is_active=True, is_known=True),
    ]
    told: list[Rotated] = []
    done = await keys.run(BY, told.append)
    assert done == Rotated(sealed=6)
    assert [one.left for one in told] == [3, 0]

    only_new = Vault(VaultSettings(keys={"k1.new": NEW}))
    found = opened(only_new, await read_seals(services.database))
    tokens = [orjson.loads(plain)["access_token"] for plain in found if plain != b"back"]
    assert (len(found), tokens) == (6, [TOKEN] * 4)
    assert [one.is_needed for one in statuses(BOTH, await read_seals(services.database))] == [
        False,
        True,
    ]

    after = await services.store.configs()
    assert {c.domain_id: c.revision for c in after} == {c.domain_id: c.revision + 1 for c in before}
    assert TOKEN.encode() not in dump()


async def test_what_was_done_is_not_done_again(services: Services) -> None:
    for host in ("a.example", "b.example"):
        await add_shop(services, host)
    keys = rotation(services)

    def cut_short(_done: Rotated) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await keys.run(BY, cut_short)
    assert await keys.run(BY) == Rotated(sealed=3)
    revisions = [config.revision for config in await services.store.configs()]
    assert revisions == [4, 4]
    assert await keys.run(BY) == Rotated()
    assert revisions == [config.revision for config in await services.store.configs()]


async def test_each_domain_is_on_record(services: Services) -> None:
    config = await add_shop(services, "a.example")
    await rotation(services).run(BY)
    rotated = select(AdminAction.target, AdminAction.actor, AdminAction.organisation_id)
    async with services.database.reading() as session:
        rows = await session.execute(rotated.where(AdminAction.action == "keys.rotate"))
        assert rows.all() == [(config.domain_id, "command", config.org_id)]


async def test_what_does_not_open_is_counted_and_left(services: Services) -> None:
    config = await add_shop(services, "a.example")
    foreign = services.vault.seal(b"{}", domain_id="dom_other", destination_id="dst_other")
    first = config.destinations[0].id
    async with services.database.changing.begin() as session:
        await session.execute(
            update(Destination).where(Destination.id == first).values(sealed=foreign)
        )
    keys = rotation(services)
    assert await keys.run(BY) == Rotated(sealed=2, failed=1)
    assert [
        one.text for one in await read_seals(services.database) if one.destination_id == first
    ] == [foreign]
    assert await keys.run(BY) == Rotated(failed=1)


class BusyClock(JumpingClock):
    """While somebody waits on it, something else happens."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    @override
    async def sleep(self, seconds: float) -> None:
        """Let it happen."""
        await self.meanwhile()


async def test_a_token_that_is_set_meanwhile_is_kept(services: Services) -> None:
    hosts = ("a.example", "b.example")
    for host in hosts:
        await add_shop(services, host)
    set_anew = {"access_token": "EAABanew", "pixel_id": "1234567890"}

    async def set_tokens() -> None:
        for host in hosts:
            await services.store.set_destination(host, "meta", set_anew)

    busy = rotation(services, BusyClock(set_tokens))
    await busy.run(BY)
    await rotation(services).run(BY)
    for host in hosts:
        domain = await services.store.domain(host)
        (meta,) = [one for one in domain.destinations if one.platform == "meta"]
        (plain,) = opened(BOTH, [Seal(domain.id, meta.id, meta.sealed)])
        assert orjson.loads(plain)["access_token"] == "EAABanew"
        assert meta.sealed.startswith("v1.k1.new.")


async def test_a_deleted_domain_is_passed_over(services: Services) -> None:
    for host in ("a.example", "b.example"):
        await add_shop(services, host)

    async def delete_all() -> None:
        for domain in await services.store.domains():
            await services.store.delete_domain(domain.host)

    done = await rotation(services, BusyClock(delete_all)).run(BY)
    assert done == Rotated(sealed=3)


async def test_another_ring_is_told_at_once(services: Services) -> None:
    await add_shop(services, "a.example")
    seals = await read_seals(services.database)
    services.vault.check(seals)
    with pytest.raises(ConfigError, match="lacks 'k1'"):
        Vault(VaultSettings(keys={"k2": KEY})).check(seals)
    with pytest.raises(ConfigError, match="another key under the name 'k1'"):
        Vault(VaultSettings(keys={"k1": NEW})).check(seals)


def test_a_key_that_nobody_has_is_counted() -> None:
    seals = [Seal("dom", "dst", "v1.lost.AAAA"), Seal("dom", "dst", "v1.k1.AAAA")]
    assert statuses(BOTH, seals) == [
        KeyStatus("k1", 1, is_active=False, is_known=True),
        KeyStatus("k1.new", 0, is_active=True, is_known=True),
        KeyStatus("lost", 1, is_active=False, is_known=False),
    ]
