"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from rtgateway import service
from rtgateway.core.deadlines import Wheel
from tests.e2e.world import World


@pytest.fixture(scope="session", autouse=True)
def _what_is_there_stays() -> Iterator[None]:
    """Collecting garbage after each test need not walk what pytest has loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest_twisted.async_yield_fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """See `World`. Deadlines are looked at more often than in earnest: waiting is expensive."""
    monkeypatch.setattr(service, "_TICK", 0.02)
    monkeypatch.setattr(service, "Wheel", lambda tick: Wheel(tick=tick, period=0.2))
    world = World(tmp_path)
    yield world
    await world.end()
