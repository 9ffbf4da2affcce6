"""What goes wrong, one thing after the other, drawn by a seed.

Everything is drawn before anything happens, so that a seed is one plan, however long each part of
it takes.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.chaos.world import World
from tests.integration.system import PLATFORMS, Shop

PROCESSES: Final = ("gateway", "streams", "sinks", "audit")

_STEPS: Final = 500
"""More than is asked of a platform before it is told to behave."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    strike: Callable[[], None]
    """Returns when it is over, but for what it leaves behind."""
    pause: float
    """Seconds until the next one."""


def draw(world: World, shops: Sequence[Shop], dice: random.Random) -> list[Fault]:
    """Each kind of fault once, in any order; a token that runs out is renewed some faults later."""
    faults = [_kill(world, process, dice) for process in PROCESSES]
    faults.append(Fault("Redis emptied", world.empty_redis, _pause(dice)))
    if world.log.outage is not None:
        seconds = dice.uniform(0.5, 3.0)
        outage = partial(world.log.outage, seconds)
        faults.append(Fault(f"log away for {seconds:.1f} s", outage, _pause(dice)))
    faults += [
        _misbehaviour(world, dice, name, seconds, step) for name, seconds, step in _MISBEHAVIOURS
    ]
    dice.shuffle(faults)
    expiry, renewal = _token(world, shops, dice)
    place = dice.randrange(len(faults) // 2)
    faults.insert(dice.randrange(place + 3, len(faults) + 1), renewal)
    faults.insert(place, expiry)
    return faults


def _pause(dice: random.Random) -> float:
    return dice.uniform(0.5, 2.0)


def _kill(world: World, process: str, dice: random.Random) -> Fault:
    """Half of the time it dies again while it gets over it."""
    again = dice.uniform(0.5, 3.0) if dice.random() < 0.5 else None

    def strike() -> None:
        world.kill(process)
        if again is not None:
            time.sleep(again)
            world.kill(process)

    name = f"kill -9 {process}"
    return Fault(name if again is None else f"{name}, twice", strike, _pause(dice))


def _error(dice: random.Random) -> dict[str, Any]:
    if dice.random() < 0.2:
        return {"kind": "html", "status": 502}
    return {"kind": "status", "status": dice.choice([500, 502, 503, 504])}


def _break(dice: random.Random) -> dict[str, Any]:
    """Of the two, the second one happens after the events were stored."""
    return {"kind": dice.choice(["reset", "truncated"])}


def _slow(dice: random.Random) -> dict[str, Any]:
    """Some of them longer than the sinks wait; the events are stored nevertheless."""
    return {"kind": "slow", "seconds": round(dice.uniform(0.2, 3.0), 2)}


def _throttle(dice: random.Random) -> dict[str, Any]:
    return {"kind": "throttle", "retry_after": dice.choice([1, 2])}


_MISBEHAVIOURS: Final[Sequence[tuple[str, float, Callable[[random.Random], dict[str, Any]]]]] = (
    ("5xx", 5.0, _error),
    ("connections break", 3.0, _break),
    ("slow answers", 4.0, _slow),
    ("429", 3.0, _throttle),
)
"""Name, seconds, and what is done to a request."""


def _misbehaviour(
    world: World,
    dice: random.Random,
    name: str,
    seconds: float,
    step: Callable[[random.Random], dict[str, Any]],
) -> Fault:
    """Some platforms do it for a while, each to all who ask."""
    chosen = dice.sample(PLATFORMS, dice.randint(2, len(PLATFORMS)))
    steps = {platform: [step(dice) for _ in range(_STEPS)] for platform in chosen}

    def strike() -> None:
        for platform in chosen:
            world.misbehave(platform, steps[platform])
        time.sleep(seconds)
        world.behave()

    return Fault(f"{name} at {', '.join(chosen)}", strike, _pause(dice))


def _token(world: World, shops: Sequence[Shop], dice: random.Random) -> tuple[Fault, Fault]:
    """One destination's token runs out, and is renewed."""
    shop, platform = dice.choice(shops), dice.choice(PLATFORMS)

    def expire() -> None:
        world.expired.append((shop.domain_id, platform))
        world.system.set_token(shop.host, platform, "expired-token")

    def renew() -> None:
        world.system.set_token(shop.host, platform, "renewed-token")

    where = f"{shop.host} at {platform}"
    return (
        Fault(f"token of {where} runs out", expire, _pause(dice)),
        Fault(f"token of {where} renewed", renew, _pause(dice)),
    )
