"""Answers of the gateway's own: errors, and the head of whatever else it says itself.

The one place that turns a `GatewayError` into bytes. JSON bodies have the shapes of the Real-Time
API Gateway, with ``request_id`` beside; who asks for HTML gets a small page.
"""

from __future__ import annotations

import html
import json
from email.utils import formatdate
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING

from rtgateway.errors import BadRequest, GatewayError

if TYPE_CHECKING:
    from rtgateway.gateway.exchange import Exchange

__all__ = ["http_date", "name_instance", "own_head", "reason_of", "with_error", "with_nothing"]

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Payload Too Large",
    499: "Client Closed Request",
}

_WITH_STATUS_CODE = frozenset([401, 403, 413])
"""Statuses of errors that keep ``{"statusCode", "error": <reason phrase>, "message"}``."""

_WITH_STATUS_CODE_TOO = frozenset(["not_found", "rate_limited", "banned", "ip_denied"])
"""Codes of other errors that do."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{status} {reason}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><style>
body{{font:16px/1.5 system-ui,sans-serif;color:#1c2430;background:#f6f7f9;margin:0;
display:grid;place-items:center;min-height:100vh}}
main{{background:#fff;border:1px solid #dde1e7;border-radius:10px;padding:2rem 2.5rem;
max-width:32rem;margin:1rem}}
h1{{font-size:1.25rem;margin:0 0 .5rem}}p{{margin:.25rem 0}}
code{{color:#5a6675;font-size:.85rem;overflow-wrap:anywhere}}
</style></head><body><main><h1>{status} {reason}</h1><p>{message}</p>
<p><code>request {request_id}</code></p></main></body></html>
"""


def reason_of(status: int) -> str:
    """The reason phrase of a status code."""
    return _REASONS.get(status, "Unknown")


class _Clock:
    """The Date field, formatted once a second (RFC 9110, 6.6.1)."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        now = int(time())
        if now != self._second:
            self._second = now
            self._line = formatdate(now, usegmt=True).encode("ascii")
        return self._line


http_date = _Clock()


def with_error(exchange: Exchange, error: GatewayError) -> None:
    """Answer ``exchange`` with ``error``; once its answer has begun, cut it off instead."""
    exchange.error_code = error.code
    exchange.error_detail = error.detail
    if exchange.started_answering:
        exchange.client.abort()
        return
    exchange.status = error.status
    page = _wants_page(exchange)
    body = (_page if page else _json)(exchange, error)
    kind = b"text/html; charset=utf-8" if page else b"application/json; charset=utf-8"
    body_open = exchange.body is not None and not exchange.body.ended
    if body_open or isinstance(error, BadRequest):
        exchange.keep_alive = False
    head = own_head(exchange, error.status, kind, len(body), error.headers)
    exchange.started_answering = True
    exchange.bytes_out = 0 if exchange.to_head else len(body)
    exchange.client.write(head if exchange.to_head else head + body)


def with_nothing(exchange: Exchange, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer ``exchange`` with 200 and an empty body."""
    if exchange.body is not None and not exchange.body.ended:
        exchange.keep_alive = False
    exchange.status = 200
    exchange.started_answering = True
    exchange.client.write(own_head(exchange, 200, b"", 0, headers))


def name_instance(exchange: Exchange) -> None:
    """Tell the client which service and instance have answered, and at which try."""
    if exchange.started_answering or exchange.service is None:
        return
    lines = b"X-Proxy-Service: %b\r\n" % exchange.service.name.encode("ascii")
    if exchange.chosen is not None:
        lines += b"X-Proxy-Instance: %b\r\n" % exchange.chosen.id.encode("ascii")
    exchange.answer_lines += lines + b"X-Proxy-Attempts: %d\r\n" % exchange.attempts


def own_head(
    exchange: Exchange,
    status: int,
    content_type: bytes,
    length: int,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """The head of an answer that the gateway gives itself, with its blank line."""
    lines = [
        b"HTTP/1.1 %d %b\r\nDate: %b\r\n" % (status, reason_of(status).encode(), http_date()),
        b"X-Request-Id: %b\r\nCache-Control: no-store\r\n" % exchange.request_id,
    ]
    if content_type:
        lines.append(b"Content-Type: %b\r\n" % content_type)
    lines += [b"%b: %b\r\n" % field for field in headers]
    lines.append(exchange.answer_lines)
    if exchange.quota:
        lines.append(exchange.quota[2:] + b"\r\n")
    lines.append(b"Content-Length: %d\r\n" % length)
    lines.append(connection_line(exchange))
    lines.append(b"\r\n")
    return b"".join(lines)


def connection_line(exchange: Exchange) -> bytes:
    """The Connection field the client needs to know whether it may go on (RFC 9112, 9.3)."""
    if not exchange.keep_alive:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if exchange.version == 10 else b""


def _wants_page(exchange: Exchange) -> bool:
    accept = b",".join(exchange.values(b"accept")).lower()
    return b"text/html" in accept and b"application/json" not in accept


def _json(exchange: Exchange, error: GatewayError) -> bytes:
    body: dict[str, object]
    if error.status in _WITH_STATUS_CODE or error.code in _WITH_STATUS_CODE_TOO:
        body = {"statusCode": error.status, "error": reason_of(error.status)}
    else:
        body = {"error": error.code}
    body["message"] = error.message
    body.update(error.members)
    body["request_id"] = exchange.request_id.decode("ascii")
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _page(exchange: Exchange, error: GatewayError) -> bytes:
    return _PAGE.format(
        status=error.status,
        reason=html.escape(reason_of(error.status)),
        message=html.escape(error.message),
        request_id=html.escape(exchange.request_id.decode("ascii")),
    ).encode("utf-8")
