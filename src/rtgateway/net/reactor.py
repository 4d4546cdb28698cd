"""The epoll reactor with a shorter way from the kernel to ``doRead``.

Twisted wraps each event in a logging context (the ``system`` of legacy log lines), which costs
more than reading the bytes. Here the ordinary event, "readable and nothing else", goes to
``doRead`` directly; every other one goes Twisted's way. `install` is called once by the command
line or the ``twistd`` plug-in, before anything imports ``twisted.internet.reactor``.
"""

from __future__ import annotations

# Twisted's reactors are not annotated throughout.
# mypy: allow-untyped-calls
import sys
from typing import Any

from twisted.python import log

__all__ = ["install"]

if sys.platform == "linux":
    from select import EPOLLIN

    from twisted.internet.epollreactor import EPollReactor
    from twisted.internet.main import installReactor
    from twisted.internet.posixbase import _NO_FILEDESC

    __all__ += ["EpollReactor"]

    _EVENTS = 512
    """Events taken from the kernel at a time; what is left over comes first the next time."""

    class EpollReactor(EPollReactor):
        """See the module."""

        def doPoll(self, timeout: float | None) -> None:
            """Wait up to ``timeout`` seconds, for ever if None, and serve what is ready."""
            selectables = self._selectables
            # A signal is no error here: PEP 475.
            events = self._poller.poll(timeout, min(len(selectables), _EVENTS))
            for fd, event in events:
                selectable = selectables.get(fd)
                if selectable is None:
                    # An earlier one of these events closed it.
                    continue
                if event != EPOLLIN:
                    log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)
                    continue
                why: BaseException | None
                reading = False
                try:
                    if selectable.fileno() == -1:
                        why = _NO_FILEDESC
                    else:
                        why = selectable.doRead()
                        reading = True
                except BaseException as error:
                    why = error
                    log.err(system=_prefix(selectable))
                if why:
                    log.callWithLogger(
                        selectable, self._disconnectSelectable, selectable, why, reading
                    )

        # The main loop calls it by this name.
        doIteration = doPoll


def _prefix(selectable: Any) -> str:
    try:
        return str(selectable.logPrefix())
    except Exception:
        return "(buggy logPrefix method)"


def install() -> bool:
    """Make `EpollReactor` the reactor of this process.

    :return: False, with nothing changed, where there is no epoll or a reactor is there already.
    """
    if sys.platform != "linux" or "twisted.internet.reactor" in sys.modules:
        return False
    installReactor(EpollReactor())
    return True
