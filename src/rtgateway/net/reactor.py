"""The epoll reactor with a shorter way from the kernel to ``doRead``.

Twisted wraps each event in a logging context (the ``system`` of legacy log lines), which costs
more than reading the bytes. Here the ordinary events, "readable and nothing else" and "writable
and nothing else", go to ``doRead`` and ``doWrite`` directly; every other one goes Twisted's way.
`install` is called once by the command line or the ``twistd`` plug-in, before anything imports
``twisted.internet.reactor``.
"""

from __future__ import annotations

# Twisted's reactors are not annotated throughout.
# mypy: allow-untyped-calls
import sys
from time import monotonic
from typing import Any

from twisted.python import log

__all__ = ["install"]

if sys.platform == "linux":
    from select import EPOLLIN, EPOLLOUT

    from twisted.internet.epollreactor import EPollReactor
    from twisted.internet.main import installReactor
    from twisted.internet.posixbase import _NO_FILEDESC

    __all__ += ["EpollReactor"]

    _EVENTS = 512
    """Events taken from the kernel at a time; what is left over comes first the next time."""

    _READING, _WRITING = (EPOLLIN, EPOLLOUT), (EPOLLOUT, EPOLLIN)
    """What is waited for, and what else may be."""

    class EpollReactor(EPollReactor):
        """See the module."""

        # Timers are to hold when somebody sets the clock; Twisted's follow it.
        seconds = staticmethod(monotonic)

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
                if event != EPOLLIN and event != EPOLLOUT:
                    log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)
                    continue
                why: BaseException | None
                reading = False
                try:
                    if selectable.fileno() == -1:
                        why = _NO_FILEDESC
                    elif event == EPOLLIN:
                        why = selectable.doRead()
                        reading = True
                    else:
                        why = selectable.doWrite()
                except BaseException as error:
                    why = error
                    log.err(system=_prefix(selectable))
                if why:
                    try:
                        self._disconnectSelectable(selectable, why, reading)
                    except BaseException:
                        log.err(system=_prefix(selectable))

        def removeReader(self, reader: Any) -> None:
            """Don't read ``reader`` any more; nothing happens if it was not read."""
            fd = reader.fileno()
            if fd in self._reads:
                self._remove(reader, self._reads, self._writes, self._selectables, *_READING)
            elif fd < 0 or self._continuousPolling.isReading(reader):
                super().removeReader(reader)

        def removeWriter(self, writer: Any) -> None:
            """Don't ask ``writer`` for more; nothing happens if it was not asked."""
            fd = writer.fileno()
            if fd in self._writes:
                self._remove(writer, self._writes, self._reads, self._selectables, *_WRITING)
            elif fd < 0 or self._continuousPolling.isWriting(writer):
                super().removeWriter(writer)

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
