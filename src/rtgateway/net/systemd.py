"""Sockets inherited from systemd (socket activation, sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.internet import endpoints

__all__ = ["inherited_socket", "variables"]

_FIRST = 3
"""SD_LISTEN_FDS_START: standard input, output and error come before."""


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with what Twisted has taken out of it.

    The module `twisted.internet.endpoints`, which anything may import, looks for sockets of its own
    when it is imported, and removes what it finds (``LISTEN_PID``, ``LISTEN_FDS``).
    """
    taken = endpoints._SystemdParser._sddaemon.inheritedDescriptors()
    if not taken:
        return dict(environ)
    return {**environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(taken))}


def inherited_socket(which: int | str, environ: Mapping[str, str], pid: int) -> socket.socket:
    """The listening socket that systemd passed as number ``which`` (from 0) or by that name.

    The result is a copy: the inherited descriptor stays open, so that it can be asked for again.

    :raises LookupError: when no such socket was passed; its text is a sentence.
    """
    names = _passed(environ, pid)
    if isinstance(which, int):
        if which >= len(names):
            raise LookupError(f"systemd passed no socket numbered {which} (passed: {len(names)})")
        number = which
    elif which in names:
        number = names.index(which)
    else:
        known = ", ".join(names) or "none"
        raise LookupError(f"systemd passed no socket named {which!r} (passed: {known})")
    descriptor = _FIRST + number
    try:
        os.set_inheritable(descriptor, False)
        found = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise LookupError(
            f"systemd's descriptor {descriptor} is no socket: {error.strerror}"
        ) from None
    if found.type != socket.SOCK_STREAM or not found.getsockopt(
        socket.SOL_SOCKET, socket.SO_ACCEPTCONN
    ):
        found.close()
        raise LookupError(f"systemd's descriptor {descriptor} is no listening stream socket")
    return found


def _passed(environ: Mapping[str, str], pid: int) -> list[str]:
    """The names of the sockets passed to this process, in order."""
    count = environ.get("LISTEN_FDS", "")
    # LISTEN_PID tells a process from its children, which inherit the variables too.
    if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    # Before systemd 227 sockets had no names.
    return [names[n] if n < len(names) else "" for n in range(min(int(count), 1024))]
