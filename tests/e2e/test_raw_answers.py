"""The table of raw answers, over real sockets: see `tests.e2e.raw_answers`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_twisted

from tests.e2e.chunks import pieces
from tests.e2e.raw_answers import TABLE, Row
from tests.e2e.raw_answers.stage import Stage


@pytest_twisted.async_yield_fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    await stage.set_up()
    yield stage
    await stage.take_down()


def test_the_table_is_large_and_its_names_are_unique() -> None:
    """Nothing is left out by a name that stands twice."""
    assert len(TABLE) >= 60
    assert len({row.name for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest_twisted.ensureDeferred
async def test_as_it_is_written(stage: Stage, row: Row) -> None:
    """What the client gets, and that nobody else gets any of it."""
    await stage.play(row, list(row.says), (row.outcome,))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
@pytest_twisted.ensureDeferred
async def test_in_small_pieces(stage: Stage, row: Row) -> None:
    """The same however the bytes arrive, unless a mistake is only seen when the head is out."""
    await stage.play(row, pieces(row.says), row.in_pieces)
