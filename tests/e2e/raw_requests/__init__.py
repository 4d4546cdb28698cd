"""The table of raw requests: what is sent, what is answered, what an instance gets."""

from __future__ import annotations

import pytest

from tests.e2e.raw_requests import (
    codings,
    connections,
    fields,
    hops,
    hosts,
    lengths,
    methods,
    origins,
    request_lines,
    sizes,
    targets,
)
from tests.e2e.raw_requests.row import Row

pytest.register_assert_rewrite("tests.e2e.raw_requests.stage")

__all__ = ["TABLE", "Row"]

TABLE: tuple[Row, ...] = (
    *request_lines.ROWS,
    *sizes.ROWS,
    *fields.ROWS,
    *hosts.ROWS,
    *targets.ROWS,
    *lengths.ROWS,
    *codings.ROWS,
    *hops.ROWS,
    *connections.ROWS,
    *methods.ROWS,
    *origins.ROWS,
)
