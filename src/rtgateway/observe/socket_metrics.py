"""Metrics of WebSockets, read from their registry when Prometheus asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rtgateway.observe.exposition import family, histogram_family
from rtgateway.observe.socket_views import SocketsView
from rtgateway.observe.views import ServiceView

__all__ = ["socket_metrics"]


def socket_metrics(sockets: SocketsView, services: Sequence[ServiceView]) -> Iterator[str]:
    """The text of all of them."""
    yield from _there(sockets, services)
    yield from _come_and_gone(sockets)
    yield from _traffic(sockets)
    yield histogram_family(
        "gateway_websocket_handshake_duration_seconds",
        "Time from the request of a WebSocket until it was open.",
        ["route"],
        [([route], histogram) for route, histogram in sockets.handshakes.items()],
    )
    yield histogram_family(
        "gateway_websocket_ping_rtt_seconds",
        "Time between a ping of the gateway and its pong.",
        ["route", "side"],
        sockets.rtts.items(),
    )


def _there(sockets: SocketsView, services: Sequence[ServiceView]) -> Iterator[str]:
    # Without labels: dashboards of the Real-Time API Gateway read it so.
    yield family(
        "gateway_websocket_connections",
        "gauge",
        "WebSockets that are open.",
        [],
        [([], len(sockets.live))],
    )
    yield family(
        "gateway_websocket_instance_connections",
        "gauge",
        "WebSockets with an instance, those that are being opened included.",
        ["service", "instance"],
        [
            ([service.name, instance.label], instance.sockets)
            for service in services
            for instance in service.instances
        ],
    )


def _come_and_gone(sockets: SocketsView) -> Iterator[str]:
    yield family(
        "gateway_websocket_opened_total",
        "counter",
        "WebSockets that were opened.",
        ["route", "service"],
        sockets.opened.items(),
    )
    yield family(
        "gateway_websocket_closed_total",
        "counter",
        "WebSockets that are closed, by code and by who closed; the reason is the gateway's own.",
        ["route", "service", "code", "side", "reason"],
        sockets.closed.items(),
    )
    yield family(
        "gateway_websocket_refused_total",
        "counter",
        "Requests of a WebSocket that were refused.",
        ["route", "reason"],
        sockets.refused.items(),
    )


def _traffic(sockets: SocketsView) -> Iterator[str]:
    totals = sockets.totals()
    yield family(
        "gateway_websocket_messages_total",
        "counter",
        "Messages of clients (in) and to clients (out).",
        ["route", "direction"],
        [(key, messages) for key, (messages, _) in totals.items()],
    )
    yield family(
        "gateway_websocket_bytes_total",
        "counter",
        "Bytes of frames from clients (in) and to clients (out).",
        ["route", "direction"],
        [(key, size) for key, (_, size) in totals.items()],
    )
    live = sockets.live.values()
    yield family(
        "gateway_websocket_buffered_bytes",
        "gauge",
        "Bytes that wait to be taken by instances (in) and by clients (out).",
        ["direction"],
        [
            (["in"], sum(each.buffered_in for each in live)),
            (["out"], sum(each.buffered_out for each in live)),
        ],
    )
