"""Fixtures for pytest-twisted suites, registered by entry point. Imports no reactor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rtgateway.testing import RunningGateway

__all__ = ["rtgateway_factory"]


@pytest.fixture
def rtgateway_factory() -> Iterator[Callable[[Any], Awaitable[RunningGateway]]]:
    """``await rtgateway_factory(settings)`` starts a gateway that is stopped after the test."""
    import pytest_twisted

    from rtgateway.testing import start_gateway

    started: list[RunningGateway] = []

    async def start(settings: Any) -> RunningGateway:
        gateway = await start_gateway(settings)
        started.append(gateway)
        return gateway

    yield start
    for gateway in started:
        pytest_twisted.blockon(gateway.stop())
