"""One question to the name servers: over UDP, and over TCP when the answer does not fit.

`dns_discovery` asks through `lookup`. Messages are those of ``twisted.names``. Its resolver is not
used: timers and TCP connections of a query that was cancelled stay behind, every socket writes two
lines to the log, answers with more than a thousand names are refused, and a server that isn't
there is only noticed by its silence. There is no cache: whoever asks knows the TTL.
"""

from __future__ import annotations

# Twisted's descriptors are not annotated throughout.
# mypy: allow-untyped-calls
import os
import socket
from collections.abc import Sequence
from errno import ECONNABORTED
from pathlib import Path
from typing import Any, cast

from twisted.internet.abstract import FileDescriptor, isIPAddress, isIPv6Address
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.net.connect import connect

__all__ = ["LookupFailed", "Server", "lookup", "system_servers"]

Server = tuple[str, int]
"""IP address and port of a name server."""

RESOLV_CONF = Path("/etc/resolv.conf")
_MOST_SERVERS = 3
"""As many as the C library asks (resolv.conf(5), MAXNS)."""
_MOST_BYTES = 65535
_MOST_POINTERS = 16384
"""Compressed names in one answer; 64 KiB hold no more than a third of that."""
_RCODES = {
    dns.EFORMAT: "could not read the question",
    dns.ESERVER: "failed",
    dns.ENOTIMP: "does not answer such questions",
    dns.EREFUSED: "refused to answer",
}


class LookupFailed(Exception):
    """No name server gave an answer. The text says why, for a log."""


def system_servers(path: Path = RESOLV_CONF) -> list[Server]:
    """The name servers of ``resolv.conf``; without any, the one on this machine."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        text = ""
    lines = (line.split() for line in text.splitlines())
    hosts = [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
    known = [host for host in hosts if isIPAddress(host) or isIPv6Address(host)]
    return [(host, dns.PORT) for host in known[:_MOST_SERVERS] or ["127.0.0.1"]]


async def lookup(
    name: bytes, kind: int, servers: Sequence[Server], timeout: float, reactor: ReactorBase
) -> dns.Message:
    """What the first of ``servers`` that has an answer says.

    :param name: in lower case, without a dot at its end.
    :param kind: a record type, such as `dns.A`.
    :param timeout: seconds that one server may take, TCP included; UDP asks twice in that time.
    :return: with ``rCode`` `dns.OK` or `dns.ENAME` (no such name), and perhaps without records.
    :raises LookupFailed: with what the last server said or did not say.
    """
    failed = LookupFailed("no name servers")
    for server in servers:
        asking = Deferred.fromCoroutine(_ask(server, name, kind, timeout, reactor))
        asking.addTimeout(timeout, cast("IReactorTime", reactor))
        try:
            message = await asking
        except TimeoutError:
            failed = LookupFailed(f"{server[0]}: no answer within {timeout:g} s")
        except LookupFailed as reason:
            failed = LookupFailed(f"{server[0]}: {reason}")
        else:
            if message.rCode in (dns.OK, dns.ENAME):
                return message
            said = _RCODES.get(message.rCode, f"answered with code {message.rCode}")
            failed = LookupFailed(f"{server[0]} {said}")
    raise failed


async def _ask(
    server: Server, name: bytes, kind: int, timeout: float, reactor: ReactorBase
) -> dns.Message:
    deadline = reactor.seconds() + timeout
    question = dns.Message(dns.randomSource(), recDes=1)
    question.addQuery(name, kind)
    try:
        datagrams = _Datagrams(server, question, reactor)
    except OSError as error:
        raise LookupFailed(_words(error)) from None
    try:
        message = await datagrams.ask(again=timeout / 2)
    finally:
        datagrams.close()
    if not message.trunc:
        return message
    # RFC 2181, 9: a truncated answer is dropped, and the question asked again over TCP.
    stream = _Stream(question)
    left = max(0.0, deadline - reactor.seconds())
    try:
        await connect(*server, stream, timeout=left, reactor=reactor)
        return await stream.answer
    except (UpstreamFailed, UpstreamTimeout) as error:
        raise LookupFailed(f"over TCP: {error.detail}") from None
    finally:
        stream.close()


class _Datagrams(FileDescriptor):
    """A question over UDP, on a socket of its own.

    RFC 5452, 9.2: a random port and a random identifier, so that an answer is hard to forge. The
    socket is connected: the kernel drops what others send, and tells when nobody listens there.
    """

    def __init__(self, server: Server, question: dns.Message, reactor: ReactorBase) -> None:
        super().__init__(cast("IReactorFDSet", reactor))
        self._clock = cast("IReactorTime", reactor)
        self._again: IDelayedCall | None = None
        self._question = question
        self._answer: Deferred[dns.Message] = Deferred()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect(server)
        except OSError:
            self._socket.close()
            raise

    def ask(self, again: float) -> Deferred[dns.Message]:
        """Send the question, and once more after ``again`` seconds: datagrams get lost."""
        self._again = self._clock.callLater(again, self._send)
        self.startReading()
        self._send()
        return self._answer

    def _send(self) -> None:
        try:
            self._socket.send(self._question.toStr())
        except BlockingIOError:
            pass  # as good as lost on the way
        except OSError as error:
            self._failed(error)

    def doRead(self) -> None:
        try:
            data = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        message = _parsed(data)
        # What does not fit is forged or late: the answer may still come.
        if message is not None and _answers(message, self._question) and not self._answer.called:
            self._answer.callback(message)

    def _failed(self, error: OSError) -> None:
        if not self._answer.called:
            self._answer.errback(LookupFailed(_words(error)))

    def close(self) -> None:
        """Ask no more, whether there was an answer or not."""
        self.stopReading()
        self._socket.close()
        if self._again is not None and self._again.active():
            self._again.cancel()

    def fileno(self) -> int:
        return self._socket.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw an error on the socket, or stops."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._failed(OSError(code or ECONNABORTED, os.strerror(code or ECONNABORTED)))


class _Stream(Int16StringReceiver):
    """A question over TCP (RFC 7766)."""

    def __init__(self, question: dns.Message) -> None:
        self._question = question
        self.answer: Deferred[dns.Message] = Deferred()

    def connectionMade(self) -> None:
        self.sendString(self._question.toStr())

    def stringReceived(self, data: bytes) -> None:
        message = _parsed(data)
        if message is None or not _answers(message, self._question):
            self._failed("over TCP: not an answer to the question")
        elif not self.answer.called:
            self.answer.callback(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._failed("over TCP: the connection ended before the answer")

    def _failed(self, reason: str) -> None:
        if not self.answer.called:
            self.answer.errback(LookupFailed(reason))

    def close(self) -> None:
        """End the connection, if there is one; nobody waits for the answer any more."""
        self.answer.addErrback(lambda _: None)
        if self.transport is not None:
            cast("Any", self.transport).abortConnection()


def _parsed(data: bytes) -> dns.Message | None:
    message = dns.Message()
    message.maxCompressionPointers = _MOST_POINTERS
    try:
        message.fromStr(data)
    except Exception:
        # Anybody's bytes: whatever the codec makes of them, they are no answer.
        return None
    return message


def _answers(message: dns.Message, question: dns.Message) -> bool:
    """Whether ``message`` is an answer to ``question`` (RFC 5452, 9.1)."""
    if message.id != question.id or not message.answer:
        return False
    if not message.queries:
        # Some servers leave the question out when they can't answer it.
        return message.rCode not in (dns.OK, dns.ENAME)
    asked, wanted = message.queries[0], question.queries[0]
    same_name = asked.name.name.lower() == wanted.name.name.lower()
    return same_name and (asked.type, asked.cls) == (wanted.type, wanted.cls)


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
