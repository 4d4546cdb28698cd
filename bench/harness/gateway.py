"""rtgateway as a contestant: its configuration for each scenario, and how it is started."""

import dataclasses
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.proxies import BENCH, Launch, Proxy, Slot

ACCESS_LOG = "access.log"
MANY_ROUTES = 500
SOCKET_PATH = "/echo"
MOST_CONNECTIONS = 16000


@dataclass(frozen=True)
class Stages:
    """What is switched on. The defaults are the gateway's own: what a new user measures."""

    access_log: bool = True
    tracing: bool = True
    secret: str = ""  # HS256; empty = no authentication
    routes: int = 0
    resilience: bool = True  # breakers, outliers, retries
    instances: int = 1  # the same upstream under as many addresses
    stock_reactor: bool = False  # twistd --reactor=epoll in place of the gateway's own
    websocket: Mapping[str, object] | None = None  # rules of the route for SOCKET_PATH; None = none
    limits: bool = False  # one for each X-User, else each address; never reached
    state: str = "memory"  # or the URL of a Redis
    leases: bool = True

    def replace(self, **changes: bool | str | int) -> "Stages":
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


BARE = Stages(access_log=False, tracing=False, resilience=False)


def gateway(stages: Stages | None = None, name: str = "rtgateway") -> Proxy:
    """The gateway with `stages` on, answering /api/users/* from the upstream."""
    chosen = stages or Stages()
    twistd = _twistd()

    def launch(slot: Slot) -> Launch:
        file = slot.directory / "gateway.yaml"
        # JSON is YAML; the standard library writes no other.
        file.write_text(json.dumps(configuration(slot, chosen), indent=2))
        argv: list[str | Path] = [twistd, "-n", "--pidfile="]
        if chosen.stock_reactor:
            argv.append("--reactor=epoll")
        return Launch([*argv, "rtgateway", "--config", file])

    return Proxy(
        name,
        name,
        launch,
        missing="" if twistd.exists() else f"{twistd} is not there",
        version=_version(),
        speaks_tls=True,
        prefix="/api/users",
        log_files=(ACCESS_LOG,),
    )


def configuration(slot: Slot, stages: Stages) -> dict[str, object]:
    """The configuration file. Caps are raised, because all clients share one address here."""
    listeners: list[dict[str, object]] = [{"tcp": f"127.0.0.1:{slot.port}", "backlog": 4096}]
    if slot.certificate is not None:
        certificate = {"certificate": str(slot.certificate.chain), "key": str(slot.certificate.key)}
        listeners.append(
            {
                "tcp": f"127.0.0.1:{slot.tls_port}",
                "backlog": 4096,
                "tls": {"certificates": [certificate]},
            }
        )
    return {
        "listeners": listeners,
        "services": {"users": _service(slot, stages)},
        "routes": [*_socket_routes(stages), *map(_route, range(stages.routes))],
        "connections": {"total": MOST_CONNECTIONS, "per_ip": MOST_CONNECTIONS},
        "access_log": _access_log(slot, stages),
        "tracing": {"start": stages.tracing},
        "auth": _auth(stages),
        "log_level": "warn",
        **_limits(stages),
    }


def _limits(stages: Stages) -> dict[str, object]:
    if not stages.limits:
        return {}
    limiter = {"per": "header:x-user", "capacity": 1_000_000, "refill_rate": 1_000_000}
    state = {"url": stages.state, "leases": stages.leases}
    return {"rate_limits": {"per-user": limiter}, "state": state}


def _service(slot: Slot, stages: Stages) -> dict[str, object]:
    host, _, port = slot.upstream.rpartition(":")
    # All of 127.0.0.0/8 is this machine, so that one upstream can be several instances.
    hosts = [host, *(f"127.0.0.{number}" for number in range(2, stages.instances + 1))]
    off: dict[str, object] = {}
    if not stages.resilience:
        disabled = {"enabled": False}
        off = {"circuit_breaker": disabled, "outliers": disabled, "retry": {"attempts": 1}}
    return {
        "instances": [f"http://{each}:{port}" for each in hosts],
        "pool": {"connections": MOST_CONNECTIONS, "idle": 4096, "queue": 4096},
        **off,
    }


def _access_log(slot: Slot, stages: Stages) -> dict[str, object]:
    if not stages.access_log:
        return {"format": "off"}
    return {"format": "json", "file": str(slot.directory / ACCESS_LOG)}


def _auth(stages: Stages) -> dict[str, object]:
    if not stages.secret:
        return {"required": False}
    return {"required": True, "jwt": {"secret": stages.secret, "algorithm": "HS256"}}


def _socket_routes(stages: Stages) -> list[dict[str, object]]:
    if stages.websocket is None:
        return []
    rules = dict(stages.websocket) or True
    return [{"name": "sockets", "path": SOCKET_PATH, "service": "users", "websocket": rules}]


def _route(number: int) -> dict[str, object]:
    """Hosts, prefixes, templates and methods in turn, as a grown configuration has them."""
    kinds: list[dict[str, object]] = [
        {"path": f"/v1/area{number}"},
        {"path": f"/v1/area{number}/{{id}}/items/{{item}}"},
        {"path": f"/v2/area{number}", "methods": ["GET", "POST"]},
        {"path": "/", "host": f"area{number}.example.com"},
    ]
    return {"name": f"area{number}", "service": "users", **kinds[number % len(kinds)]}


def _twistd() -> Path:
    """twistd beside the running Python, else in the project's environment."""
    beside = Path(sys.executable).with_name("twistd")
    return beside if beside.exists() else BENCH.parent / ".venv" / "bin" / "twistd"


def _version() -> str:
    try:
        return importlib.metadata.version("rtgateway")
    except importlib.metadata.PackageNotFoundError:
        return ""
