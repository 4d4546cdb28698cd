"""``rtgateway demo``: several small instances on free loopback ports, the gateway in front of them.

`Demo` is the service that the command runs. It knows the ports of its instances only once they
listen, so the gateway's configuration is made while it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort

from rtgateway import __version__, config
from rtgateway.demo.instance import make_site
from rtgateway.service import make_service

__all__ = ["INSTANCES", "Demo", "gateway_settings", "instructions"]

INSTANCES = {"users": 3, "products": 1, "events": 1}
"""How many instances each service of the demo has."""

Urls = Mapping[str, Sequence[str]]


class Instances(Service):
    """The demo's instances; they listen from `startService` on."""

    def __init__(self, reactor: Any, counts: Mapping[str, int] = INSTANCES) -> None:
        self._reactor = reactor
        self._counts = counts
        self._ports: list[IListeningPort] = []

    def startService(self) -> None:
        super().startService()
        self.urls: dict[str, list[str]] = {
            service: [self._listen(f"{service}-{number}") for number in range(1, count + 1)]
            for service, count in self._counts.items()
        }

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        ports, self._ports = self._ports, []
        return DeferredList([d for d in (port.stopListening() for port in ports) if d])

    def _listen(self, name: str) -> str:
        site = make_site(name, self._reactor)
        port = self._reactor.listenTCP(0, site, interface="127.0.0.1")
        self._ports.append(port)
        return f"http://127.0.0.1:{port.getHost().port}"


class Demo(MultiService):
    """The instances and the gateway, started and stopped together.

    :param address: where the gateway listens, ``host:port``.
    :param say: is given the text that tells what to try, once everything listens.
    """

    def __init__(self, reactor: Any, address: str, say: Callable[[str], None]) -> None:
        super().__init__()
        self._reactor = reactor
        self._address = address
        self._say = say

    def startService(self) -> None:
        instances = Instances(self._reactor)
        instances.setServiceParent(self)
        super().startService()
        settings = config.from_dict(gateway_settings(self._address, instances.urls))
        make_service(settings, self._reactor).setServiceParent(self)
        # By then, signals are heeded: whoever reads this may press Ctrl-C at once.
        text = "\n".join(instructions(self._address, instances.urls))
        self._reactor.callWhenRunning(self._say, text)


def gateway_settings(address: str, urls: Urls) -> dict[str, Any]:
    """The configuration of the gateway, as one would write it into a file.

    Times are short, so that one sees an instance leave and come back while one is looking.
    """
    services: dict[str, dict[str, Any]] = {
        service: {
            "instances": list(of),
            "circuit_breaker": {"timeout": "5s", "timeout_factor": 1},
        }
        for service, of in urls.items()
    }
    services["users"] |= {
        # In turns, so that every third request meets the instance that was broken.
        "balance": {"strategy": "round_robin", "slow_start": "2s"},
        # Slow enough that retries and the circuit are seen first.
        "health": {"path": "/health", "interval": "3s", "timeout": "1s", "rise": 1, "fall": 3},
        "timeouts": {"first_byte": "4s"},
    }
    return {
        "listeners": [{"tcp": address}],
        "proxy_headers": True,
        "services": services,
        "routes": [
            {"name": "users", "path": "/users", "service": "users"},
            {"name": "products", "path": "/products", "service": "products"},
            {"name": "events", "path": "/events", "service": "events"},
            {
                "name": "drill",
                "path": "/drill",
                "service": "users",
                "strip_prefix": True,
                "faults": {"delay": "1s", "delay_share": 0.3, "abort": 503, "abort_share": 0.2},
            },
        ],
    }


def instructions(address: str, urls: Urls) -> list[str]:
    """What to print: what runs where, and commands to try it with. It fits on one screen."""
    base = f"http://localhost:{address.rpartition(':')[2]}"
    broken, drained = urls["users"][:2]
    drain = f"{base}/gateway/services/users/drain?instance={drained.removeprefix('http://')}"
    socket = base.replace("http", "ws", 1)
    return [
        f"rtgateway {__version__} listens on {base}",
        "",
        *(f"  {service:<9} {'  '.join(of)}" for service, of in urls.items()),
        "",
        "Try:",
        *aligned(
            (f"curl -i {base}/api/users/users", "X-Instance says who answered"),
            (f"curl -i {base}/api/users/echo -d hello", "what the instance received"),
            (f"curl -N {base}/sse/events/events", "an event every second"),
            (f"curl -N {base}/events -H 'Last-Event-ID: 1'", "and what was missed"),
            (f"curl -i {base}/drill/users", "some late, some 503, on purpose"),
            (f"curl {base}/health", "also /metrics, /admin/stats"),
        ),
        "",
        "Break an instance (how=503, hang, close; or 500, which is not tried again), and mend it:",
        f"  curl -X POST '{broken}/break?how=503&seconds=30'",
        f"  for i in $(seq 15); do curl -si {base}/api/users/users | grep -i attempts; done",
        f"  curl {base}/health/services  # its circuit opens; later its health check fails",
        f"  curl -X POST {broken}/mend",
        "",
        "A page that fails at each of them: five 500s in a row open a circuit, for 5 s:",
        f"  for i in $(seq 16); do curl -s {base}/api/users/fail; done",
        f"  curl {base}/gateway/circuit-breakers/users",
        "",
        "Take an instance out of use, and back in with undrain:",
        f"  curl -X POST '{drain}'",
        "",
        f"A WebSocket that echoes: {socket}/ws/events/ws",
        "Ctrl-C stops everything.",
        "",
    ]


def aligned(*commands: tuple[str, str]) -> list[str]:
    """Commands, and beside them what they are for."""
    width = max(len(command) for command, _ in commands)
    return [f"  {command:<{width}}  # {meaning}" for command, meaning in commands]
