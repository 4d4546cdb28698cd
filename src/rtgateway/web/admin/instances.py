"""Changes of a service's instances at run time: add, weigh, drain, remove."""

from __future__ import annotations

from typing import Any

from twisted.web.server import Request

from rtgateway.config import ConfigError, Instance, from_dict
from rtgateway.upstream.discovery import Found
from rtgateway.web.admin.audit import audited
from rtgateway.web.admin.page import Answer, answer, body_of, refusal
from rtgateway.web.admin.parameters import complaints, wrong
from rtgateway.web.admin.query import instance_asked_for
from rtgateway.web.admin.view import ManagedInstance, ManagedService

__all__ = ["InstanceChanges"]

_ANY = "http://any.invalid"
_PLACE = "services.x.instances[0]"
_SOMEWHERE_ELSE = "http://instance.invalid"
"""An instance beside the one that is checked: a service needs one that takes requests."""


class InstanceChanges:
    """What can be done to the instances of one service; each method answers a request."""

    def __init__(self, service: ManagedService) -> None:
        self._service = service

    def add(self, request: Request) -> Answer:
        """``POST``: a new instance, from ``{"url", "weight", "backup"}``."""
        service = self._service
        settings = _settings(body_of(request))
        try:
            instance = service.add(Found(settings))
        except ValueError as error:
            raise refusal(409, "conflict", _sentence(str(error))) from None
        change = f"weight {instance.nominal}{', backup' if instance.backup else ''}"
        audited(request, "addition", self._name(instance), change)
        return answer(
            201,
            {
                "id": instance.id,
                "url": instance.label,
                "weight": instance.nominal,
                "backup": instance.backup,
            },
        )

    def reweigh(self, request: Request) -> Answer:
        """``PATCH``: another weight, from ``{"weight"}``."""
        instance = instance_asked_for(request, self._service)
        body = body_of(request)
        if not isinstance(body, dict) or set(body) != {"weight"} or body["weight"] is None:
            raise refusal(400, "bad_request", 'The body has to be {"weight": <number>}')
        weight = _settings({"url": _ANY, **body}).weight
        before = instance.nominal
        instance = self._service.reweigh(instance.id, weight)
        audited(request, "weight", self._name(instance), f"from {before} to {weight}")
        return answer(200, {"id": instance.id, "weight": weight})

    def drain(self, request: Request) -> Answer:
        """``POST .../drain``: send nothing new; what is in flight goes on."""
        instance = self._service.drain(instance_asked_for(request, self._service).id)
        audited(request, "draining", self._name(instance), f"{instance.inflight} in flight")
        return _left(instance)

    def undrain(self, request: Request) -> Answer:
        """``POST .../undrain``: take requests again."""
        instance = self._service.undrain(instance_asked_for(request, self._service).id)
        audited(request, "draining", self._name(instance), "ended")
        return _left(instance)

    def remove(self, request: Request) -> Answer:
        """``DELETE``: send nothing new, and forget it once it is empty."""
        instance = instance_asked_for(request, self._service)
        self._service.remove(instance.id)
        audited(request, "removal", self._name(instance), f"{instance.inflight} in flight")
        return _left(instance)

    def _name(self, instance: ManagedInstance) -> str:
        return f"{self._service.name}/{instance.id}"


def _left(instance: ManagedInstance) -> Answer:
    return answer(
        202,
        {
            "id": instance.id,
            "inFlight": instance.inflight,
            "streams": instance.streams,
            "websockets": instance.sockets,
            "empty": not instance.inflight,
        },
    )


def _settings(body: Any) -> Instance:
    """What ``body`` describes, checked as in a configuration.

    :raises GatewayError: 400, with the words that a wrong configuration gets.
    """
    if not isinstance(body, dict):
        raise refusal(400, "bad_request", "The body has to be an object")
    try:
        config = from_dict({"services": {"x": {"instances": [body, _SOMEWHERE_ELSE]}}})
    except ConfigError as error:
        raise wrong(complaints(error, _PLACE)) from None
    return config.services["x"].instances[0]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
