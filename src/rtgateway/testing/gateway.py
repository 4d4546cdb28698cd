"""A whole gateway in the process of the test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from rtgateway import config
from rtgateway.service import Gateway, make_service
from rtgateway.testing.waiting import eventually, the_reactor

__all__ = ["RunningGateway", "start_gateway"]


class RunningGateway:
    """A started gateway.

    :ivar port: the TCP port of its first listener.
    :ivar service: the gateway itself, to look into.
    """

    def __init__(self, service: Gateway) -> None:
        self.service = service
        self.port: int = getattr(service.ports[0].getHost(), "port", 0)

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> Deferred[Any]:
        """Drain and stop, as SIGTERM does."""
        return self.service.stopService()

    async def idle(self) -> None:
        """Wait until nothing is being served any more."""
        await eventually(lambda: all(not i.inflight for i in self.service.instances()))

    def __repr__(self) -> str:
        return f"<RunningGateway {self.url} {self.service!r}>"


async def start_gateway(settings: Mapping[str, Any] | Path | str | config.Config) -> RunningGateway:
    """Start a gateway from a mapping, a file, or a ready configuration.

    A mapping gets what tests want unless it says otherwise: a free port on 127.0.0.1, no access
    log, no grace at shutdown.
    """
    if isinstance(settings, config.Config):
        ready = settings
    elif isinstance(settings, Mapping):
        defaults = {
            "listeners": [{"tcp": "127.0.0.1:0"}],
            "access_log": {"format": "off"},
            "shutdown": {"grace": 0},
        }
        ready = config.from_dict({**defaults, **settings})
    else:
        ready = config.load(settings)
    service = make_service(ready, the_reactor(), own_process=False)
    service.startService()
    return RunningGateway(service)
