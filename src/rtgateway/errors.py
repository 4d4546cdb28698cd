"""What can go wrong while a request is served, and whose fault it is.

Every row raises these and nothing else on purpose; ``gateway.respond`` is the one place
that turns one into bytes. A `GatewayError` is a value: it holds no socket and no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = [
    "BadRequest",
    "ClientGone",
    "FailureKind",
    "Fault",
    "GatewayError",
    "Unauthorized",
    "UpstreamFailed",
    "UpstreamTimeout",
]

Fault = Literal["client", "upstream", "gateway"]
FailureKind = Literal["connect", "reset", "timeout", "invalid"]
"""How an instance failed, in the words of the configuration (``retry.on``, ``failure_on``)."""

_NO_MEMBERS: Mapping[str, object] = MappingProxyType({})


class GatewayError(Exception):
    """A request that can't be served as asked.

    :ivar status: the HTTP status that a client sees.
    :ivar code: a stable word for programs (the ``error`` key of the JSON body, the log).
    :ivar message: one sentence for people; never contains what the client sent.
    :ivar fault: who has to change something: ``client``, ``upstream`` or ``gateway``.
    :ivar retryable: whether another attempt (another instance, a fresh connection) may succeed.
    :ivar headers: extra response fields, such as ``Allow`` or ``WWW-Authenticate``.
    :ivar members: extra members of the JSON body.
    :ivar detail: what happened, in words for a log.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fault: Fault = "gateway",
        retryable: bool = False,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        members: Mapping[str, object] = _NO_MEMBERS,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fault: Fault = fault
        self.retryable = retryable
        self.headers = headers
        self.members = members
        self.detail = detail

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} {self.code} fault={self.fault}>"


class BadRequest(GatewayError):
    """The client's message breaks HTTP; the connection it came on can't be trusted any further."""

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(status, code, message, fault="client")


class ClientGone(GatewayError):
    """The client left before its answer was complete: 499 in the log, nobody's failure."""

    def __init__(self) -> None:
        super().__init__(499, "client_gone", "The client closed the connection", fault="client")


class Unauthorized(GatewayError):
    """A request without a token, or with one that does not pass.

    :param code: ``missing_token``, ``invalid_token``, ``expired_token``, or ``auth_not_configured``
        when a token is required and nothing is configured to verify it with. For the log and the
        metrics; clients see one message, so that they can't probe which check failed.
    """

    def __init__(self, code: str = "missing_token") -> None:
        # RFC 6750, 3.1: no error code where the client did not try to authenticate.
        challenge = b"Bearer"
        if code in ("invalid_token", "expired_token"):
            challenge = b'Bearer error="invalid_token"'
        super().__init__(
            401,
            code,
            "Authentication is required"
            if code == "auth_not_configured"
            else "Invalid or missing token",
            fault="client",
            headers=((b"WWW-Authenticate", challenge),),
        )


class UpstreamFailed(GatewayError):
    """An instance could not be reached, or answered with something that is not HTTP.

    :ivar kind: ``connect``: no connection came about; ``reset``: it ended before the answer was
        complete; ``invalid``: what came is not HTTP.
    :ivar detail: what happened, in words for a log.
    :ivar reused: the connection had served another request before, so that its end may
        only mean that the instance closed an idle connection (RFC 9112, 9.3.1).
    """

    def __init__(
        self,
        detail: str,
        *,
        kind: FailureKind = "invalid",
        retryable: bool = False,
        reused: bool = False,
        code: str = "",
    ) -> None:
        super().__init__(
            502,
            code or "upstream_unavailable",
            "Failed to reach upstream",
            fault="upstream",
            retryable=retryable,
        )
        self.kind = kind
        self.detail = detail
        self.reused = reused


class UpstreamTimeout(GatewayError):
    """An instance did not answer in time.

    :ivar phase: ``connect``, ``first_byte``, ``between_bytes``, or ``request`` for all of it.
    :ivar kind: ``connect`` while there was no connection yet, else ``timeout``.
    """

    reused = False

    def __init__(self, phase: str, *, retryable: bool = False) -> None:
        super().__init__(
            504,
            "upstream_timeout",
            "Upstream request timed out",
            fault="upstream",
            retryable=retryable,
        )
        self.phase = phase
        self.kind: FailureKind = "connect" if phase == "connect" else "timeout"
        self.detail = f"nothing came in time ({phase})"
