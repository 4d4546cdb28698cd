"""WebSockets: ``/ws/health`` for everybody, and ``/gateway/websockets`` to see and close them."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any, cast

from twisted.web.resource import Resource
from twisted.web.server import Request

from rtgateway.observe.socket_views import SocketView, TrafficView
from rtgateway.web.admin.audit import audited
from rtgateway.web.admin.page import Answer, Answering, Page, Unknown, answer, asked_by
from rtgateway.web.admin.times import Moment
from rtgateway.web.admin.view import GatewayView, ManagedSocket
from rtgateway.web.admin.websocket_query import Closing, Filters, readable

__all__ = ["WebSocketsPage", "websocket_health"]

_ONE = "/gateway/websockets/:id"
"""What the page of any single one is called in metrics."""


def websocket_health(gateway: GatewayView) -> Answering:
    """``/ws/health``: numbers, and the global settings that clients may want to know."""

    def page(request: Request) -> Answer:
        sockets = gateway.sockets
        total = len(sockets.live)
        closing = sum(each.state == "closing" for each in sockets.live.values())
        settings = gateway.config.websocket
        document = {
            "status": "draining" if sockets.draining else "healthy",
            "active_connections": total,
            "connection_states": {"open": total - closing, "closing": closing},
            "config": {
                "ping_interval": settings.ping_interval,
                "pong_timeout": settings.pong_timeout,
                "inactivity_timeout": settings.idle_timeout,
                "max_lifetime": settings.max_lifetime,
                "close_timeout": settings.close_timeout,
                "drain_timeout": settings.drain_timeout,
            },
        }
        return answer(503 if sockets.draining else 200, document)

    return page


class WebSocketsPage(Page):
    """All WebSockets; below it, each by its id."""

    def __init__(self, gateway: GatewayView) -> None:
        super().__init__(GET=self._list, DELETE=self._close)
        self._gateway = gateway

    def getChild(self, path: bytes, request: object) -> Resource:
        """A WebSocket."""
        if not path:
            return super().getChild(path, request)
        asking = asked_by(cast("Request", request))
        if asking is not None:
            asking.label = _ONE
        socket = self._gateway.sockets.live.get(path.decode("latin-1"))
        return Unknown("websocket") if socket is None else _socket_page(socket)

    def _list(self, request: Request) -> Answer:
        filters, window = Filters.to_list(request)
        matching = [each for each in self._gateway.sockets.live.values() if filters.match(each)]
        # By id, not by place: whoever asks for one part after the other sees every socket once
        # that is there all the time, whatever else comes and goes between.
        after = _order(window.after)
        behind = [each for each in matching if _order(each.id) > after]
        shown = nsmallest(window.limit, behind, key=lambda each: _order(each.id))
        moment = Moment.current()
        document = {
            "total": len(matching),
            "next": shown[-1].id if len(behind) > len(shown) else None,
            "websockets": [_document(each, moment) for each in shown],
        }
        return answer(200, document)

    def _close(self, request: Request) -> Answer:
        filters, closing = Filters.to_close(request)
        meant = [
            each
            for each in self._gateway.sockets.live.values()
            if each.state == "open" and filters.match(each)
        ]
        for socket in meant:
            socket.close(*closing)
        audited(request, "closing", f"{len(meant)} WebSockets with {filters}", str(closing))
        document = {"closing": len(meant), "code": closing.code, "reason": closing.reason}
        return answer(202, document)


def _socket_page(socket: ManagedSocket) -> Page:
    def show(request: Request) -> Answer:
        return answer(200, _document(socket, Moment.current()))

    def close(request: Request) -> Answer:
        closing = Closing.of_request(request)
        if socket.state == "open":
            socket.close(*closing)
            audited(request, "closing", f"WebSocket {socket.id}", str(closing))
        return answer(202, _document(socket, Moment.current()))

    return Page(GET=show, DELETE=close)


def _order(id: str) -> tuple[int, str]:
    """Ids are counted up, and become longer: the older one comes first."""
    return len(id), id


def _document(socket: SocketView, moment: Moment) -> dict[str, Any]:
    """A WebSocket with everything about it; durations in seconds, times in ISO 8601."""
    instance = socket.instance
    closed = socket.state != "open"
    return {
        "id": socket.id,
        "request_id": socket.request_id.decode("latin-1"),
        "state": socket.state,
        "opened": moment.iso(socket.opened),
        "age": round(max(0.0, moment.now - socket.opened), 3),
        "client_ip": socket.client_ip,
        "identity": readable(socket.identity) or None,
        "route": socket.route,
        "path": socket.path.decode("latin-1"),
        "service": instance.service,
        "instance": instance.id,
        "subprotocol": socket.subprotocol or None,
        "compressed": socket.compressed,
        "received": _traffic(socket.received),
        "sent": _traffic(socket.sent),
        "buffered": {"in": socket.buffered_in, "out": socket.buffered_out},
        "rtt": None if socket.rtt is None else round(socket.rtt, 6),
        "close": {
            "code": socket.close_code,
            "reason": readable(socket.close_reason),
            "by": socket.closed_by,
        }
        if closed
        else None,
    }


def _traffic(traffic: TrafficView) -> dict[str, int]:
    return {"messages": traffic.messages, "frames": traffic.frames, "bytes": traffic.bytes}
