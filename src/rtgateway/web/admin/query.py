"""Which instance a request is about: ``?instance=<id>``, because ids have slashes and colons."""

from __future__ import annotations

from twisted.web.server import Request

from rtgateway.web.admin.page import refusal
from rtgateway.web.admin.view import ManagedInstance, ManagedService

__all__ = ["instance_asked_for"]


def instance_asked_for(request: Request, service: ManagedService) -> ManagedInstance:
    """The instance that the query names.

    :raises GatewayError: 400 if it names none, or several; 404 if ``service`` has none of this id.
    """
    ids = (request.args or {}).get(b"instance", [])
    if len(ids) != 1:
        raise refusal(400, "bad_request", "Say which instance: ?instance=<id>")
    try:
        return service.find(ids[0].decode("utf-8", "replace"))
    except KeyError:
        raise refusal(
            404, "unknown_instance", f"Service {service.name} has no instance of this id"
        ) from None
