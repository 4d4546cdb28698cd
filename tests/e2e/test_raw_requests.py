"""The table of raw requests, over real sockets: see `tests.e2e.raw_requests`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from tests.e2e.chunks import pieces
from tests.e2e.raw_requests import TABLE, Row
from tests.e2e.raw_requests.stage import Stage

__all__: list[str] = []


@pytest_twisted.async_yield_fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.set_up()
    yield stage
    await stage.take_down()


def test_the_table_is_large_and_its_names_are_unique() -> None:
    """Nothing is left out by a name that stands twice."""
    assert len(TABLE) >= 170
    assert len({row.name for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest_twisted.ensureDeferred
async def test_as_it_is_written(stage: Stage, row: Row) -> None:
    """What is answered, what is forwarded, and how the connection goes on."""
    await stage.play(row, list(row.sends))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest_twisted.ensureDeferred
async def test_in_small_pieces(stage: Stage, row: Row) -> None:
    """The same, however the bytes arrive."""
    await stage.play(row, pieces(row.sends))
