"""Which records of the audit topic are noted for dispatch keys."""

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from audit import dispatches as dispatches_module
from audit.dispatches import note_dispatches
from capistream.embedded import free_port
from runtime.dispatches import Dispatches
from runtime.errors import UnavailableError
from runtime.kafka import ConsumedRecord
from runtime.redis import connect
from runtime.settings import RedisSettings
from schemas.delivery import Delivery
from schemas.outcome import Outcome, OutcomeKind

if TYPE_CHECKING:
    from redis.asyncio import Redis

DELIVERY = Delivery("dom_1", "dst_1", "meta", "o-1", "Purchase", 1, 2, "raw-events-0-1")


def record(value: bytes | None) -> ConsumedRecord:
    return ConsumedRecord("audit", 0, 0, b"dom_1", value, ())


def told(dispatch_key: str | None, detail: str | None = None) -> ConsumedRecord:
    """A delivery's outcome, as it lies on the topic."""
    delivery = DELIVERY._replace(dispatch_key=dispatch_key)
    return record(delivery.outcome_record(OutcomeKind.DELIVERED, at=3, detail=detail).value)


async def test_what_has_a_key_is_noted(redis_client: "Redis") -> None:
    dispatches = Dispatches(redis_client)
    await note_dispatches(dispatches, [told(None), told("a"), told('b "quoted" é'), told(None)])
    for key in ("a", 'b "quoted" é'):
        found = await dispatches.status("dom_1", key)
        assert found is not None
        assert [o.outcome for o in found.outcomes] == [OutcomeKind.DELIVERED]
    assert await redis_client.dbsize() == 2


async def test_what_has_none_is_not_even_parsed(
    redis_client: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes | None] = []

    def counted(value: bytes | None) -> Outcome | None:
        parsed.append(value)
        return Outcome.model_validate_json(value or b"")

    monkeypatch.setattr(dispatches_module, "read_outcome", counted)
    sly = told(None, detail='"dispatchKey":"x"')
    keyed = told("a")
    await note_dispatches(Dispatches(redis_client), [told(None), sly, keyed, record(None)])
    assert parsed == [keyed.value]
    assert await redis_client.dbsize() == 1


@pytest.mark.parametrize(
    "value", [b'{"dispatchKey":"a"}', b'"dispatchKey"', b'\xff"dispatchKey"', b"", None]
)
async def test_what_is_no_outcome_is_passed_over(
    redis_client: "Redis", value: bytes | None
) -> None:
    await note_dispatches(Dispatches(redis_client), [record(value), told("a")])
    assert await redis_client.dbsize() == 1


@pytest.mark.parametrize("fault", ["away", "full"])
async def test_a_redis_that_takes_nothing_is_told_of(
    redis_client: "Redis", valkey: RedisSettings, fault: str
) -> None:
    at = {"away": f"redis://127.0.0.1:{free_port()}/0", "full": valkey.url.get_secret_value()}
    other: Any = connect(RedisSettings(url=SecretStr(at[fault])))
    try:
        if fault == "full":
            await redis_client.config_set("maxmemory", "1")
        with pytest.raises(UnavailableError, match="Redis"):
            await note_dispatches(Dispatches(other), [told("a")])
    finally:
        await redis_client.config_set("maxmemory", "0")
        await other.aclose()
    await note_dispatches(Dispatches(redis_client), [told("a")])
    assert await redis_client.dbsize() == 1
