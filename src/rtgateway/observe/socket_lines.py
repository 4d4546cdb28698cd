"""Lines of the access log at the end of a WebSocket; that of its request told of its beginning.

Like all lines (`observe.log_lines`) they tell no query and no payload, and a reason, which is
somebody else's text, can not break them.
"""

from __future__ import annotations

from json import JSONEncoder

from rtgateway.observe.log_lines import apache_time, hexed, iso_time, user_name
from rtgateway.observe.socket_views import SocketView

__all__ = ["combined_line", "json_line"]

_encode = JSONEncoder(separators=(",", ":")).encode


def json_line(socket: SocketView, wall: float) -> str:
    """``socket``, which is closed, as a JSON object and the end of a line.

    :param wall: the time of day, seconds since the epoch.
    """
    instance, received, sent = socket.instance, socket.received, socket.sent
    members = {
        "time": iso_time(wall),
        "event": "websocket_closed",
        "request_id": socket.request_id.decode("latin-1"),
        "websocket": socket.id,
        "client_ip": socket.client_ip,
        "route": socket.route,
        "service": instance.service,
        "instance": instance.label,
        "path": socket.path.decode("latin-1"),
        "duration_us": _microseconds(socket),
        "close_code": socket.close_code,
        "close_reason": socket.close_reason,
        "closed_by": socket.closed_by,
        "messages_in": received.messages,
        "bytes_in": received.bytes,
        "messages_out": sent.messages,
        "bytes_out": sent.bytes,
    }
    if socket.close_detail:
        members["detail"] = socket.close_detail
    if socket.identity:
        members["subject"] = socket.identity
    return _encode(members) + "\n"


def combined_line(socket: SocketView, wall: float) -> str:
    """The same in the shape of Apache's combined format.

    The method is ``CLOSE``, so that nobody counts it as another request; the status is that of the
    answer that began it. What the format has no place for is where the User-Agent would be.
    """
    received, sent = socket.received, socket.sent
    what = (
        f"code={socket.close_code} by={socket.closed_by or '-'} "
        f"reason={hexed(socket.close_reason.encode(errors='backslashreplace')) or '-'} "
        f"duration_us={_microseconds(socket)} in={received.messages}/{received.bytes} "
        f"out={sent.messages}/{sent.bytes} websocket={hexed(socket.id.encode())}"
    )
    return (
        f"{hexed(socket.client_ip.encode()) or '-'} - {user_name(socket.identity)} "
        f'[{apache_time(int(wall))}] "CLOSE {hexed(socket.path) or "-"} HTTP/1.1" '
        f'101 {sent.bytes} "-" "{what}"\n'
    )


def _microseconds(socket: SocketView) -> int:
    return int((socket.closed - socket.opened) * 1e6 + 0.5)
