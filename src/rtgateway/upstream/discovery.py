"""Instances that come and go: where they are looked up, and what is known of them.

The composition root makes one `Discovery` for each service that has one, with `make_discovery`,
and starts and stops it with the service. Whatever it finds goes to the service as a whole set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorTime

from rtgateway import config
from rtgateway.upstream.dns_discovery import DnsDiscovery
from rtgateway.upstream.file_discovery import FileDiscovery
from rtgateway.upstream.findings import Found, OnFound

__all__ = ["Discovery", "Found", "OnFound", "make_discovery"]


class Discovery(Protocol):
    """A source of instances."""

    def start(self) -> None:
        """Begin to look. A file is read before this returns; names take their time."""

    def stop(self) -> None:
        """Look no more; nothing is left open, and ``found`` is not called again."""

    def describe(self) -> dict[str, object]:
        """How it goes, for the admin pages; see `Findings.describe`."""


def make_discovery(
    settings: config.Discovery, found: OnFound, reactor: ReactorBase, random: Callable[[], float]
) -> Discovery:
    """The source that ``settings`` ask for, not started yet.

    :param found: is given the whole set whenever it differs from the one before.
    """
    if settings.dns is not None:
        return DnsDiscovery(settings.dns, found, reactor, random)
    assert settings.file is not None, "validated: one of the two"
    return FileDiscovery(settings.file, found, cast("IReactorTime", reactor))
