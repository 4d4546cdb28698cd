"""Fixtures for pytest-twisted suites, registered by entry point. Imports no reactor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rtgateway.testing import RunningGateway
    from rtgateway.testing.redis import RedisServer, StartRedis

__all__ = ["redis", "redis_of_session", "redis_server", "rtgateway_factory", "start_redis"]


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


@pytest.fixture(scope="session")
def redis_of_session() -> Iterator[RedisServer]:
    """The server behind `redis`."""
    from rtgateway.testing.redis import RedisServer

    server = RedisServer().start()
    yield server
    server.kill()
    server.stop()


@pytest.fixture
def redis(redis_of_session: RedisServer) -> RedisServer:
    """A Redis server without data and scripts; one for the session, so do it no harm."""
    redis_of_session.command("FLUSHALL")
    redis_of_session.command("SCRIPT", "FLUSH")
    return redis_of_session


@pytest.fixture
def start_redis() -> Iterator[StartRedis]:
    """``start_redis(...)`` starts a `RedisServer` of these arguments, stopped after the test."""
    from rtgateway.testing.redis import RedisServer

    started: list[RedisServer] = []

    def start(**arguments: Any) -> RedisServer:
        server = RedisServer(**arguments)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()
        server.stop()


@pytest.fixture
def redis_server(start_redis: StartRedis) -> RedisServer:
    """A Redis server of the test's own, which may be killed, paused and restarted."""
    return start_redis()
