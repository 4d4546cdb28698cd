"""Links to the Redis servers of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher

from rtgateway import config
from rtgateway.testing.redis import RedisServer
from rtgateway.testing.waiting import the_reactor

if TYPE_CHECKING:
    from rtgateway.store.redis.link import Link

MakeLink = Callable[..., "Link"]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What is logged: the text of each event, and all that is in it."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event) + repr(event))

    globalLogPublisher.addObserver(cast(ILogObserver, observe))
    yield lines
    globalLogPublisher.removeObserver(cast(ILogObserver, observe))


@pytest.fixture
def make_link() -> Iterator[MakeLink]:
    """``make_link(server, **settings)`` starts a link that is stopped after the test.

    ``server`` may be a URL, or None if ``settings`` say where Redis is.
    """
    from rtgateway.store.redis.link import Link

    made: list[Link] = []

    def make(server: RedisServer | str | None, **settings: Any) -> Link:
        if server is not None:
            settings["url"] = server if isinstance(server, str) else server.url
        link = Link(config.State.model_validate(settings), the_reactor(), Random(7).random)
        made.append(link)
        link.start()
        return link

    yield make
    for link in made:
        pytest_twisted.blockon(link.stop())
