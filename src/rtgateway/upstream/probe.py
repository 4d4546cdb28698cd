"""One active check: ask over HTTP, or only connect, and say how it went.

`upstream.health.HealthCheck` calls `Probe.check` once per interval. Every check makes a connection
of its own, as the data path does (`net.connect`: same resolver, same TLS), and closes it: one that
was kept would pass long after nobody new gets in. Time and bytes are bounded, whatever comes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from rtgateway import __version__
from rtgateway.core.health import Expectation
from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.upstream.check_target import MOST, CheckTarget, Dialer

__all__ = ["HttpProbe", "Outcome", "Probe", "ProbeSettings", "TcpProbe"]

_USER_AGENT = f"rtgateway-health/{__version__}".encode("ascii")


class ProbeSettings(Protocol):
    """What a probe wants to know; `config.HealthCheck` and `config.DependencyCheck` have it."""

    @property
    def method(self) -> str: ...
    @property
    def timeout(self) -> float: ...
    @property
    def statuses(self) -> tuple[int | str, ...]: ...
    @property
    def body(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Outcome(NamedTuple):
    """How a check went, and in words what came or why nothing did."""

    passed: bool
    detail: str


class Probe(ABC):
    """The form of a check; see the module. One check at a time.

    :param port: the port to connect to instead of the URL's.
    """

    def __init__(
        self, target: CheckTarget, settings: ProbeSettings, reactor: Any, *, port: int | None = None
    ) -> None:
        self._target = target
        self._timeout = settings.timeout
        self._reactor = reactor
        self._dialer = Dialer(target, port, settings.timeout, reactor)

    def check(self) -> Deferred[Outcome]:
        """Check once. Cancelling it ends the check and resets its connection."""
        checking = Deferred.fromCoroutine(self._check())
        return checking.addTimeout(self._timeout, self._reactor, self._too_late)

    async def _check(self) -> Outcome:
        dialer = self._dialer
        dialer.line = None
        answered = False
        try:
            outcome = await self._ask()
            answered = True
        except UpstreamFailed as error:
            outcome = Outcome(False, error.detail)
        except UpstreamTimeout:
            outcome = self._too_late(None, self._timeout)
        finally:
            if dialer.line is not None:
                dialer.line.hang_up(orderly=answered)
        return outcome

    @abstractmethod
    async def _ask(self) -> Outcome:
        """What there is to do.

        :raises UpstreamFailed: see `net.connect`; the same for `UpstreamTimeout`.
        """

    def _too_late(self, result: object, timeout: float) -> Outcome:
        what = "connection" if self._dialer.line is None else "complete answer"
        return Outcome(False, f"no {what} within {timeout:g} s")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._target.label}>"


class TcpProbe(Probe):
    """Whether somebody accepts connections there, and shakes hands where that is TLS."""

    async def _ask(self) -> Outcome:
        await self._dialer.dial(None)
        return Outcome(True, "connected")


class HttpProbe(Probe):
    """Whether a request gets the expected answer.

    No redirect is followed, no cookie kept, nothing decompressed, and nothing asked twice.

    :param path: put behind the target's URL, with a query if there is one.
    """

    def __init__(
        self,
        target: CheckTarget,
        settings: ProbeSettings,
        reactor: Any,
        *,
        path: str = "",
        port: int | None = None,
    ) -> None:
        super().__init__(target, settings, reactor, port=port)
        self._method = settings.method
        self._expectation = Expectation(settings.statuses, settings.body)
        self._headers = Headers({b"Host": [target.authority], b"User-Agent": [_USER_AGENT]})
        for name, value in settings.headers.items():
            self._headers.setRawHeaders(name, [value])
        parts = urlsplit(target.url + path)
        query = f"?{parts.query}" if parts.query else ""
        # The dialer knows where to, and treq takes no host name with an underscore, and no IPv6.
        self._url = f"http://target{parts.path}{query}"
        pool = HTTPConnectionPool(reactor, persistent=False)
        pool.retryAutomatically = False
        self._agent = _Undecoded(Agent.usingEndpointFactory(reactor, self._dialer, pool))

    async def _ask(self) -> Outcome:
        body = _Body()
        try:
            # A client has a cookie jar, hence one for each check.
            answer = await HTTPClient(self._agent).request(
                self._method,
                self._url,
                headers=self._headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            answer.deliverBody(body)
            await body.over
        except ResponseFailed as error:
            line = self._dialer.line
            if line is None or not line.full:
                raise UpstreamFailed(_why(error)) from error
            if not body.began:
                raise UpstreamFailed(f"a head of more than {MOST} bytes") from error
            # Of a body that goes on and on its beginning is looked at.
        reason = self._expectation.verdict(answer.code, b"".join(body.pieces))
        return Outcome(not reason, reason or f"status {answer.code}")


class _Body(StreamProtocol):
    """Collects a body.

    :ivar over: fires at its end; fails with ``ResponseFailed`` if that is not complete.
    """

    def __init__(self) -> None:
        self.began = False
        self.pieces: list[bytes] = []
        self.over: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.began = True

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # RFC 9112, 6.3: without a length, the body ends with the connection.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.over.callback(None)
        else:
            self.over.errback(reason)


@implementer(IAgent)
class _Undecoded:
    """An agent that asks for plain bodies, and hides codings from those who would decode.

    treq decompresses what comes, and 64 KiB may unfold to a thousand times as much.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        plain = headers.copy() if headers is not None else Headers()
        plain.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(self._hide)

    @staticmethod
    def _hide(response: IResponse) -> IResponse:
        response.headers.removeHeader(b"Content-Encoding")
        return response


def _why(failed: ResponseFailed) -> str:
    """Why there is no complete answer, in words for a log; never what the other side sent."""
    if any(reason.check(ConnectionClosed) for reason in failed.reasons):
        return "the connection ended before the answer was complete"
    return "the answer is not valid HTTP"
