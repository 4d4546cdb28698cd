"""The faults: what happens to the instances, one at a time, and for how long.

Each play waits for what the gateway does about it, and says when that was.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from tests.e2e.faults.board import Fault
from tests.e2e.faults.stage import Child, Stage, until

__all__ = ["PLAYS", "Play", "Times"]


@dataclass(frozen=True)
class Times:
    """Of one play, in seconds; None for what did not happen.

    :ivar eject: until the gateway sent the instance nothing more, save probes; the longest, where
        it happened to several.
    :ivar recover: from the end of the fault until it got requests like any other.
    :ivar ejected: when, in monotonic seconds; ``began``, ``ended``: the fault, likewise.
    """

    began: float
    ended: float
    eject: float | None = None
    recover: float | None = None
    ejected: float | None = None


Action = Callable[[Stage, Child], Awaitable[None]]


@dataclass(frozen=True)
class Play:
    """One fault.

    :ivar healthy: what the instance's health check says meanwhile is that all is well.
    :ivar service: by which name the instances are asked (`stage.SERVICES`).
    :ivar run: plays it; the fault is to last for the given seconds at least.
    :ivar victims: how many of the three instances it meets at a time.
    :ivar certain: enough of it is seen to eject the instance; one that is slow or silent may get
        too few requests for that, because the others are preferred to it.
    """

    name: str
    run: Callable[[Stage, float], Awaitable[Times]]
    healthy: bool = True
    service: str = "plain"
    victims: int = 1
    certain: bool = True


async def _recovered(stage: Stage, victim: Child, since: float) -> float | None:
    """Seconds from ``since`` until an instance has got a request like any other."""
    with suppress(TimeoutError):
        usual = await until(lambda: stage.into(victim), stage.patience)
        await until(lambda: victim.board.last > usual)
        return victim.board.last - since
    return None


async def _ejected(stage: Stage, victim: Child, patience: float) -> float | None:
    with suppress(TimeoutError):
        return await until(lambda: stage.out(victim), patience)
    return None


def _to_one(begin: Action, end: Action) -> Callable[[Stage, float], Awaitable[Times]]:
    """A play in which one instance has a fault for a while."""

    async def run(stage: Stage, seconds: float) -> Times:
        victim = stage.instances[1]
        began = monotonic()
        await begin(stage, victim)
        ejected = await _ejected(stage, victim, seconds)
        await asyncio.sleep(max(0.0, began + seconds - monotonic()))
        await end(stage, victim)
        ended = monotonic()
        recover = await _recovered(stage, victim, ended)
        eject = None if ejected is None else ejected - began
        return Times(began, ended, eject, recover, ejected)

    return run


def _ordered(fault: Fault) -> Callable[[Stage, float], Awaitable[Times]]:
    async def begin(stage: Stage, victim: Child) -> None:
        victim.board.fault = fault

    async def end(stage: Stage, victim: Child) -> None:
        victim.board.fault = Fault.NONE

    return _to_one(begin, end)


async def _kill(stage: Stage, victim: Child) -> None:
    victim.kill()


async def _revive(stage: Stage, victim: Child) -> None:
    stage.start(victim)
    await victim.listening()


async def _freeze(stage: Stage, victim: Child) -> None:
    victim.signal(signal.SIGSTOP)


async def _thaw(stage: Stage, victim: Child) -> None:
    victim.signal(signal.SIGCONT)


async def _names(stage: Stage, seconds: float) -> Times:
    """First the name has no addresses any more, then the server is broken."""
    board = stage.names.board

    async def trouble() -> bool:
        return (await stage.look())["discovery"]["last_error"] is not None

    began = monotonic()
    board.fault = Fault.EMPTY
    await until(trouble)
    await asyncio.sleep(seconds / 2)
    board.fault = Fault.BROKEN
    await asyncio.sleep(max(0.0, began + seconds - monotonic()))
    board.fault = Fault.NONE
    ended = monotonic()

    async def well() -> bool:
        return not await trouble()

    return Times(began, ended, None, await until(well) - ended)


async def _rolling(stage: Stage, seconds: float) -> Times:
    """A deployment: each instance in turn leaves gracefully and comes back."""
    began = monotonic()
    ejects: list[float | None] = []
    recovers: list[float | None] = []
    for victim in stage.instances:
        asked = monotonic()
        victim.signal(signal.SIGTERM)
        ejected = await _ejected(stage, victim, stage.patience)
        ejects.append(None if ejected is None else ejected - asked)
        await victim.ended()
        await _revive(stage, victim)
        recovers.append(await _recovered(stage, victim, monotonic()))
    return Times(began, monotonic(), _longest(ejects), _longest(recovers))


async def _all_down(stage: Stage, seconds: float) -> Times:
    """Nobody is left, and then everybody comes back at once."""
    began = monotonic()
    for victim in stage.instances:
        victim.kill()
    found = [await _ejected(stage, victim, stage.patience) for victim in stage.instances]
    await asyncio.sleep(max(0.0, began + seconds - monotonic()))
    for victim in stage.instances:
        stage.start(victim)
    for victim in stage.instances:
        await victim.listening()
    ended = monotonic()
    recovers = [await _recovered(stage, victim, ended) for victim in stage.instances]
    ejected = _longest(found)
    eject = None if ejected is None else ejected - began
    return Times(began, ended, eject, _longest(recovers), ejected)


def _longest(times: Sequence[float | None]) -> float | None:
    """None if one of them is."""
    return None if None in times else max(each for each in times if each is not None)


PLAYS = (
    Play("kill -9", _to_one(_kill, _revive), healthy=False),
    Play("SIGSTOP", _to_one(_freeze, _thaw), healthy=False),
    Play("100 % 500s", _ordered(Fault.FAILS)),
    Play("50 % 500s", _ordered(Fault.FAILS_HALF)),
    Play("latency x100", _ordered(Fault.SLOW), certain=False),
    Play("accepts, never answers", _ordered(Fault.MUTE), certain=False),
    Play("closes mid-body", _ordered(Fault.CUT), healthy=False),
    Play("resets on reuse", _ordered(Fault.ONCE)),
    Play("bad certificate", _ordered(Fault.CERTIFIED_BADLY), False, "secure"),
    Play("DNS returns nothing", _names, service="named", victims=0, certain=False),
    Play("rolling restart", _rolling, healthy=False),
    Play("all down and back", _all_down, healthy=False, victims=3),
)
