"""What an error of Redis is about: one call, the server, or where the keys are instead."""

from __future__ import annotations

import re

from rtgateway.net.log import Logger

__all__ = ["Complaints", "about_the_server", "code_of", "in_short", "is_unfit", "moved_to"]

log = Logger()

_UNFIT = frozenset({"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED"})
"""Of a server that is not, or not yet, the right one to ask."""
_UNABLE = frozenset({"OOM", "MISCONF", "NOREPLICAS", "BUSY", "NOSCRIPT"})
"""Of a server that could not do any other call either."""
_OF_REDIS_6 = re.compile(r"\AERR Error running script .*?: -(?=[A-Z]+ )", re.DOTALL)
"""What Redis 6 puts in front of the error of a command in a script; later ones put it behind."""
_IN_SCRIPT = ("script: ", "in script")
_MOVED = re.compile(r"MOVED [0-9]{1,5} (?P<host>[A-Za-z0-9._:-]{0,253}):(?P<port>[0-9]{1,5})")
_MOST_COMPLAINTS = 100
"""Kinds of refusals that are logged, each once."""


def code_of(detail: str) -> str:
    """The word that an error begins with, such as ``OOM``."""
    return _OF_REDIS_6.sub("", detail, count=1).partition(" ")[0]


def is_unfit(detail: str) -> bool:
    """Whether all connections should go elsewhere, or come again later."""
    return code_of(detail) in _UNFIT


def about_the_server(detail: str, *, of_script: bool) -> bool:
    """Whether any other script would have been refused as well.

    ``ASK`` and ``TRYAGAIN`` are about one call: its keys are on their way to another node, and the
    others have not left yet, or are there already.
    """
    code = code_of(detail)
    if code == "NOPERM":
        # Of a command inside, it is about one script; else about all, as their keys are alike.
        return of_script and not any(words in detail for words in _IN_SCRIPT)
    return code in _UNABLE or code in _UNFIT


def in_short(detail: str) -> str:
    """The first sentence: some go on about what can be configured, or where in a script it was."""
    said = _OF_REDIS_6.sub("", detail, count=1).partition(" script: ")[0]
    return said.partition(". ")[0].rstrip(".")


def moved_to(detail: str, host: str) -> tuple[str, int] | None:
    """Host and port of the node that has our keys; None if an error does not say, or can't.

    :param host: who says so; a node that does not know its own name leaves it out.
    """
    found = _MOVED.fullmatch(detail)
    if found is None:
        return None
    host, port = found["host"] or host, int(found["port"])
    return (host, port) if host and 0 < port < 65536 else None


class Complaints:
    """Refusals that are about a call, each kind logged once."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def refused(self, operation: str, detail: str) -> None:
        """Log it, unless that was done before."""
        kind = (operation, code_of(detail))
        if kind not in self._said and len(self._said) < _MOST_COMPLAINTS:
            self._said.add(kind)
            log.warn("Redis refuses {operation}: {why}", operation=operation, why=detail)

    def __repr__(self) -> str:
        return f"<Complaints: {len(self._said)}>"
