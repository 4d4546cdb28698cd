"""The table of raw answers: what an instance says, and what a client may make of it."""

from __future__ import annotations

import pytest

from tests.e2e.raw_answers import broken, early_ends, passed_on
from tests.e2e.raw_answers.row import Row

pytest.register_assert_rewrite("tests.e2e.raw_answers.stage")

__all__ = ["TABLE", "Row"]

TABLE: tuple[Row, ...] = (*passed_on.ROWS, *broken.ROWS, *early_ends.ROWS)
