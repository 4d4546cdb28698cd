"""What is said first on a connection to Redis: who we are, which database; and whether this is the
server to use."""

from __future__ import annotations

# txredisapi has no annotations.
# mypy: allow-untyped-calls
from typing import Any

from twisted.internet.defer import DeferredList, succeed

from rtgateway import config
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.protocol import CommandProtocol
from rtgateway.store.redis.refusals import is_unfit, moved_to

__all__ = ["Moved", "introduce"]

_NAME = "rtgateway"
"""What ``CLIENT LIST`` calls these connections."""
_NOT_NOW = ("LOADING", "MASTERDOWN", "BUSY", "NOAUTH", "DENIED", "ERR max")
"""Answers to a PING that don't come from a server which can be used; ``NOPERM`` does."""


class Moved(StoreError):
    """Our keys are at another node of the cluster.

    :ivar to: its host and port.
    """

    def __init__(self, detail: str, to: tuple[str, int]) -> None:
        super().__init__("down", detail)
        self.to = to


async def introduce(protocol: CommandProtocol, settings: config.State) -> None:
    """All of it at once.

    :raises StoreError: this server is not the one to use; `Moved`: it says which one is.
    """
    password, database = settings.key, settings.database
    asked = [
        protocol.auth(password, settings.user or None) if password else succeed(None),
        protocol.select(database) if database else succeed(None),
        protocol.ping(),
        protocol.role(),
        # In a cluster, who does not have our slot says who does.
        protocol.execute_command("EXISTS", b"{%b}:gateways" % settings.prefix.encode()),
        protocol.execute_command("CLIENT", "SETNAME", _NAME),
    ]
    replies = await DeferredList(asked, consumeErrors=True)
    auth, select, ping, role, ours, _ = (_outcome(*each) for each in replies)
    for error in (auth, select):
        if isinstance(error, StoreError):
            raise StoreError("down", error.detail)
    if isinstance(ping, StoreError) and (
        ping.reason != "refused" or ping.detail.startswith(_NOT_NOW)
    ):
        raise StoreError("down", ping.detail)
    # Who may not ask for a key or the role has to rely on errors that come when one is written.
    if isinstance(ours, StoreError) and is_unfit(ours.detail):
        to = moved_to(ours.detail, protocol.where[0])
        raise StoreError("down", ours.detail) if to is None else Moved(ours.detail, to)
    if isinstance(role, list) and role[0] != b"master":
        raise StoreError("down", f"it is a {role[0].decode(errors='replace')}, not the master")


def _outcome(success: bool, result: Any) -> Any:
    return result if success else result.value
