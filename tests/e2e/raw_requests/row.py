"""What a row of the table of raw requests says, and the words it is written in.

Bytes that a gateway makes up stand in templates by name: ``<instance>`` (the authority of the
instance), ``<port>`` (of the listener), ``<id>`` (the request id), ``<trace>`` (a traceparent).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OK", "Row", "ask", "passed", "refused", "sent_on", "stranger"]

OK = (200,)


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation.

    :ivar rfc: the section that decides it.
    :ivar sends: what the client writes, one write after the other.
    :ivar answers: the statuses it gets, in order.
    :ivar forwarded: what the instance gets: whole requests, nothing between, before or behind.
    :ivar closed: the gateway ends the connection; else it serves another request on it.
    :ivar listener: ``plain``, ``proxied`` (PROXY header expected); of the gateway that trusts its
        peers ``trusting`` and ``trusting_proxied``.
    :ivar says: what must stand in the answers.
    :ivar says_not: what must not.
    :ivar instance_says: the answer of the instance; None for one that names what it was asked.
    :ivar broken_late: the mistake stands in the body, so that a head may have been passed on when
        it is found. The request must not get complete.
    """

    name: str
    rfc: str
    sends: tuple[bytes, ...]
    answers: tuple[int, ...] = OK
    forwarded: tuple[bytes, ...] = ()
    closed: bool = False
    listener: str = "plain"
    says: tuple[bytes, ...] = ()
    says_not: tuple[bytes, ...] = ()
    instance_says: bytes | None = None
    broken_late: bool = False

    def __repr__(self) -> str:
        return f"<Row {self.name} ({self.rfc})>"


def ask(
    line: bytes = b"GET /x HTTP/1.1", *fields: bytes, body: bytes = b"", host: bytes = b"test"
) -> bytes:
    """A request with a good Host in front of its other fields."""
    return b"\r\n".join([line, b"Host: " + host, *fields, b"", body])


def refused(
    name: str,
    rfc: str,
    *sends: bytes,
    status: int = 400,
    listener: str = "plain",
    broken_late: bool = False,
    says: tuple[bytes, ...] = (),
) -> Row:
    """A request that is answered with ``status`` and ends its connection; nothing is forwarded."""
    return Row(
        name,
        rfc,
        sends,
        answers=(status,),
        closed=True,
        listener=listener,
        broken_late=broken_late,
        says=(b"Connection: close\r\n", *says),
    )


def passed(
    name: str,
    rfc: str,
    sends: bytes | tuple[bytes, ...],
    *forwarded: bytes,
    answers: tuple[int, ...] | None = None,
    closed: bool = False,
    listener: str = "plain",
    says: tuple[bytes, ...] = (),
    says_not: tuple[bytes, ...] = (),
    instance_says: bytes | None = None,
) -> Row:
    """Requests that the instance gets as ``forwarded``."""
    return Row(
        name,
        rfc,
        (sends,) if isinstance(sends, bytes) else sends,
        answers=OK * len(forwarded) if answers is None else answers,
        forwarded=forwarded,
        closed=closed,
        listener=listener,
        says=says,
        says_not=says_not,
        instance_says=instance_says,
    )


def stranger(host: bytes = b"test", client: bytes = b"127.0.0.1") -> tuple[bytes, ...]:
    """What an instance is told about a client that is believed nothing."""
    node = b'"[%b]"' % client if b":" in client else client
    shown = b'"%b"' % host if b":" in host or b"[" in host else host
    of_host = b";host=" + shown if host else b""
    return (
        b"X-Forwarded-For: " + client,
        b"X-Forwarded-Proto: http",
        *([b"X-Forwarded-Host: " + host] if host else []),
        b"X-Forwarded-Port: <port>",
        b"Forwarded: for=" + node + of_host + b";proto=http",
    )


def sent_on(
    line: bytes = b"GET /x HTTP/1.1",
    *fields: bytes,
    body: bytes | None = None,
    chunked: bytes | None = None,
    trailers: tuple[bytes, ...] = (),
    te: bool = False,
    host: bytes = b"test",
    to: bytes = b"<instance>",
    forwarding: tuple[bytes, ...] | None = None,
    request_id: bytes = b"<id>",
    trace: bytes = b"<trace>",
    via: bytes = b"1.1",
) -> bytes:
    """What the instance gets.

    :param fields: those of the client, as they are passed on.
    :param body: a body of known length; ``chunked`` one of unknown length, as a single chunk.
    """
    lines = [line, b"Host: " + to, *fields, *(forwarding or stranger(host))]
    lines += [b"X-Request-Id: " + request_id, b"traceparent: " + trace]
    lines.append(b"Via: %b rtgateway" % via)
    content = b""
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
        content = body
    elif chunked is not None:
        lines.append(b"Transfer-Encoding: chunked")
        content = b"%x\r\n%b\r\n" % (len(chunked), chunked) if chunked else b""
        content += b"\r\n".join([b"0", *trailers, b"", b""])
    if te:
        lines += [b"TE: trailers", b"Connection: TE"]
    return b"\r\n".join([*lines, b"", content])
