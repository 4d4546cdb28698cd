"""The proxies that are compared: how each is found and how each is started, one process each.

Every proxy listens on 127.0.0.1 and forwards to one upstream. `Slot` is what a run hands out,
`Launch` is what comes back; `start` in `bench.py` puts the two together.
"""

import getpass
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.credentials import Certificate
from harness.machine import raise_open_files
from harness.processes import Child

BENCH = Path(__file__).resolve().parents[1]
PEERS = BENCH / "peers"
BUILD = BENCH / "build"
OWN_PYTHON = BENCH / ".venv" / "bin" / "python"
ONE_PROCESSOR = {"GOMAXPROCS": "1"}

# Titles by which the scenarios find their rows.
NGINX, GO = "nginx", "Go ReverseProxy"
HTTP_PROXY, AUTOBAHN = "node http-proxy", "Autobahn bridge"


@dataclass(frozen=True)
class Slot:
    """Where a proxy lives during a run. `upstream` is host:port."""

    directory: Path
    port: int
    tls_port: int
    upstream: str
    certificate: Certificate | None


@dataclass(frozen=True)
class Launch:
    argv: list[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Proxy:
    """One contestant. `missing` says why it cannot take part, empty when it can."""

    name: str
    title: str
    launch: Callable[[Slot], Launch]
    missing: str
    version: str = ""
    speaks_tls: bool = False
    http: bool = True  # takes part where requests are measured
    sockets: bool = False  # takes part where WebSockets are
    prefix: str = ""  # put in front of the upstream's path
    log_files: tuple[str, ...] = ()  # in the slot's directory, emptied between rounds


@dataclass(frozen=True)
class Running:
    """A started proxy."""

    proxy: Proxy
    child: Child
    slot: Slot

    def url(self, path: str, *, tls: bool = False) -> str:
        scheme, port = ("https", self.slot.tls_port) if tls else ("http", self.slot.port)
        return f"{scheme}://127.0.0.1:{port}{self.proxy.prefix}{path}"

    def empty_logs(self) -> None:
        for name in self.proxy.log_files:
            log = self.slot.directory / name
            if log.exists():
                log.write_bytes(b"")


def peers() -> list[Proxy]:
    """All that rtgateway is compared with, installed or not."""
    return [
        _debian("nginx", NGINX, _nginx, speaks_tls=True),
        _debian("haproxy", "HAProxy", _haproxy),
        _debian("caddy", "Caddy", _caddy),
        _go(),
        _fastify(),
        _twisted_web(),
        _fastapi(),
        _http_proxy(),
        _autobahn(),
    ]


# --- each peer ------------------------------------------------------------------------------------


def _debian(
    name: str, title: str, launch: Callable[[Slot], Launch], *, speaks_tls: bool = False
) -> Proxy:
    missing = "" if shutil.which(name) else f"{name} is not installed"
    flag = "version" if name == "caddy" else "-v"
    version = "" if missing else _version([name, flag])
    return Proxy(name, title, launch, missing, version, speaks_tls, sockets=True)


def _nginx(slot: Slot) -> Launch:
    tls = ""
    if slot.certificate is not None:
        tls = (
            f"listen 127.0.0.1:{slot.tls_port} ssl backlog=4096; "
            f"ssl_certificate {slot.certificate.chain}; ssl_certificate_key {slot.certificate.key};"
        )
    configuration = slot.directory / "nginx.conf"
    fill_in(
        PEERS / "nginx.conf",
        configuration,
        {**_directory_and_port(slot), "UPSTREAM": slot.upstream, "TLS": tls},
    )
    return Launch(["nginx", "-c", configuration, "-e", slot.directory / "error.log"])


def _haproxy(slot: Slot) -> Launch:
    configuration = slot.directory / "haproxy.cfg"
    fill_in(
        PEERS / "haproxy.cfg", configuration, {"PORT": str(slot.port), "UPSTREAM": slot.upstream}
    )
    return Launch(["haproxy", "-db", "-f", configuration])


def _caddy(slot: Slot) -> Launch:
    configuration = slot.directory / "Caddyfile"
    fill_in(PEERS / "Caddyfile", configuration, {"PORT": str(slot.port), "UPSTREAM": slot.upstream})
    home = str(slot.directory)
    return Launch(
        ["caddy", "run", "--adapter", "caddyfile", "--config", configuration],
        {**ONE_PROCESSOR, "HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home},
    )


def _go() -> Proxy:
    program = BUILD / "goproxy"

    def launch(slot: Slot) -> Launch:
        argv: list[str | Path] = [program, "-listen", f"127.0.0.1:{slot.port}"]
        argv += ["-upstream", slot.upstream]
        if slot.certificate is not None:
            argv += ["-listen-tls", f"127.0.0.1:{slot.tls_port}"]
            argv += ["-cert", slot.certificate.chain, "-key", slot.certificate.key]
        return Launch(argv, ONE_PROCESSOR)

    missing = "" if program.exists() else "peers/go is not built"
    version = _version(["go", "version"]) if shutil.which("go") else ""
    return Proxy("go", GO, launch, missing, version, speaks_tls=True, sockets=True)


def _fastify() -> Proxy:
    return _node("fastify", "fastify + http-proxy", "fastify", "@fastify/http-proxy")


def _http_proxy() -> Proxy:
    proxy = _node("node", HTTP_PROXY, "http_proxy", "http-proxy")
    return replace(proxy, http=False, sockets=True)


def _node(name: str, title: str, directory: str, package: str) -> Proxy:
    program = PEERS / directory / "server.js"
    missing = ""
    if not shutil.which("node"):
        missing = "node is not installed"
    elif not (PEERS / directory / "node_modules" / package).exists():
        missing = "its packages are not installed"
    return Proxy(
        name,
        title,
        lambda slot: Launch(
            ["node", program, str(slot.port), slot.upstream], {"NODE_ENV": "production"}
        ),
        missing,
        "" if missing else f"node {_version(['node', '--version'])}",
    )


def _twisted_web() -> Proxy:
    return Proxy(
        "twisted.web",
        "twisted.web",
        lambda slot: Launch(
            [sys.executable, PEERS / "twisted_web.py", str(slot.port), slot.upstream]
        ),
        _not_importable(Path(sys.executable), "twisted"),
        _version([sys.executable, "-m", "twisted", "--version"]),
    )


def _fastapi() -> Proxy:
    missing = _not_importable(OWN_PYTHON, "fastapi", "httpx", "uvicorn")

    def launch(slot: Slot) -> Launch:
        argv: list[str | Path] = [OWN_PYTHON, "-m", "uvicorn", "fastapi_httpx:app"]
        argv += ["--app-dir", PEERS, "--host", "127.0.0.1", "--port", str(slot.port)]
        argv += ["--workers", "1", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        argv += ["--log-level", "warning"]
        return Launch(argv, {"UPSTREAM": slot.upstream, "PYTHONDONTWRITEBYTECODE": "1"})

    version = "" if missing else _version([OWN_PYTHON, "-m", "uvicorn", "--version"])
    return Proxy("fastapi", "FastAPI + httpx", launch, missing, version)


def _autobahn() -> Proxy:
    return Proxy(
        "autobahn",
        AUTOBAHN,
        lambda slot: Launch(
            [sys.executable, PEERS / "autobahn_bridge.py", str(slot.port), slot.upstream]
        ),
        _not_importable(Path(sys.executable), "twisted", "autobahn"),
        _version(
            [sys.executable, "-c", "import importlib.metadata as m; print(m.version('autobahn'))"]
        ),
        http=False,
        sockets=True,
    )


# --- shared by the above and by upstream.py -------------------------------------------------------


def fill_in(template: Path, target: Path, values: Mapping[str, str]) -> None:
    """Copy `template` with each @NAME@ replaced; KeyError for a name without a value."""
    text = re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], _without_comments(template))
    target.write_text(text)


def nginx_values(directory: Path, port: int) -> dict[str, str]:
    return {
        "DIR": str(directory),
        "PORT": str(port),
        "USER": getpass.getuser(),
        "OPEN_FILES": str(raise_open_files()),
    }


def _directory_and_port(slot: Slot) -> dict[str, str]:
    return nginx_values(slot.directory, slot.port)


def _without_comments(template: Path) -> str:
    lines = template.read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.lstrip().startswith("#"))


def _version(argv: list[str | Path]) -> str:
    """The first version number that a program says of itself, empty when it says none."""
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    found = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return found[0] if found else ""


def _not_importable(python: Path, *modules: str) -> str:
    if not python.exists():
        return "bench/.venv is not there"
    program = "import sys, importlib.util as u; [u.find_spec(m) or print(m) for m in sys.argv[1:]]"
    said = subprocess.run(
        [python, "-c", program, *modules], capture_output=True, text=True, check=False
    )
    absent = ", ".join(said.stdout.split())
    return f"not installed: {absent}" if absent or said.returncode else ""
