"""Connections to Redis, opened until they can be used: TLS, who we are, which database, whose.

A server that is still loading, or that is a replica, is not the one to use. Sentinels say which is
the master; they are asked one after the other, each with a deadline.
"""

from __future__ import annotations

# txredisapi has no annotations.
# mypy: allow-untyped-calls
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.net.connect import connect, connect_unix
from rtgateway.net.tls import client_tls
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.protocol import CommandProtocol

__all__ = ["Opening"]

C = TypeVar("C", bound=CommandProtocol)
T = TypeVar("T")

_NAME = "rtgateway"
"""What ``CLIENT LIST`` calls these connections."""
_NOT_NOW = ("LOADING", "MASTERDOWN", "NOAUTH", "DENIED", "ERR max")
"""Answers to a PING that don't come from a server which can be used; ``NOPERM`` does."""


class Opening:
    """How the Redis of the configuration is reached.

    :raises CertificateFileError: the file of authorities can't be used.
    """

    __slots__ = (
        "_reactor",
        "_sentinels",
        "_settings",
        "_tls",
    )

    def __init__(self, settings: config.State, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._tls: dict[str, IOpenSSLClientConnectionCreator] = {}
        sentinel = settings.sentinel
        # The first is the one that is believed.
        self._sentinels = list(sentinel.addresses) if sentinel is not None else []
        if settings.secure and settings.host:
            self._tls_to(settings.host)

    def open(self, protocol: C) -> Deferred[C]:
        """Fires with ``protocol`` when commands can be sent; fails with `StoreError` (``down``).

        Cancelling it gives up.
        """
        return Deferred.fromCoroutine(self._open(protocol))

    async def _open(self, protocol: C) -> C:
        if not self._sentinels:
            await self._in_time(self._open_at(protocol, self._settings.host, self._settings.port))
            return protocol
        host, port = await self._master()
        believed = self._sentinels[0]
        try:
            await self._in_time(self._open_at(protocol, host, port))
        except StoreError:
            # It may be one that has lost touch with the others.
            if self._sentinels[0] == believed:
                self._sentinels.append(self._sentinels.pop(0))
            raise
        return protocol

    def master(self) -> Deferred[tuple[str, int] | None]:
        """Fires with where the sentinels say that the master is; None if nobody knows of any."""
        if not self._sentinels:
            return succeed(None)

        def unknown(failure: Failure) -> None:
            failure.trap(StoreError)

        return Deferred.fromCoroutine(self._master()).addErrback(unknown)

    def _in_time(self, opening: Coroutine[Any, Any, T]) -> Deferred[T]:
        def too_late(result: object, timeout: float) -> Any:
            return Failure(StoreError("down", "nothing came in time"))

        timeout = self._settings.connect_timeout
        return Deferred.fromCoroutine(opening).addTimeout(timeout, self._reactor, too_late)

    # -- Redis --------------------------------------------------------------------------------

    async def _open_at(self, protocol: CommandProtocol, host: str, port: int) -> None:
        settings = self._settings
        await self._connect(protocol, host, port, settings.unix)
        try:
            await _introduce(protocol, settings.user, settings.key, settings.database)
        except BaseException:
            protocol.abort("not the one to use")
            raise

    async def _connect(self, protocol: C, host: str, port: int, unix: str = "") -> None:
        timeout, reactor = self._settings.connect_timeout, self._reactor
        try:
            if unix:
                await connect_unix(unix, protocol, timeout=timeout, reactor=reactor)
            else:
                tls = self._tls_to(host) if self._settings.secure else None
                await connect(host, port, protocol, timeout=timeout, reactor=reactor, tls=tls)
        except (UpstreamFailed, UpstreamTimeout) as error:
            raise StoreError("down", error.detail) from None
        protocol.where = (host, port)

    def _tls_to(self, host: str) -> IOpenSSLClientConnectionCreator:
        tls = self._tls.get(host)
        if tls is None:
            if len(self._tls) > len(self._sentinels) + 8:
                self._tls.clear()  # Sentinels have named many masters by now.
            tls = self._tls[host] = client_tls(self._settings.verification, host)
        return tls

    # -- Sentinel -----------------------------------------------------------------------------

    async def _master(self) -> tuple[str, int]:
        """Where the sentinels say that the master is; the one that knew is asked first again."""
        trouble = ""
        for address in tuple(self._sentinels):
            try:
                found = await self._in_time(self._ask(*address))
            except StoreError as error:
                trouble = f"the sentinel at {address[0]}:{address[1]}: {error.detail}"
                continue
            self._sentinels.remove(address)
            self._sentinels.insert(0, address)
            return found
        raise StoreError("down", f"no sentinel knows the master; {trouble}")

    async def _ask(self, host: str, port: int) -> tuple[str, int]:
        sentinel = self._settings.sentinel
        assert sentinel is not None
        protocol = CommandProtocol(self._reactor)
        await self._connect(protocol, host, port)
        try:
            if sentinel.key:
                await protocol.auth(sentinel.key, sentinel.user or None)
            found = await protocol.sentinel_get_master_addr_by_name(sentinel.master)
            if not found:
                raise StoreError("down", f"it does not know {sentinel.master!r}")
            return found[0].decode(), int(found[1])
        finally:
            protocol.abort("asked")

    def __repr__(self) -> str:
        return f"<Opening of {self._settings.label}>"


async def _introduce(protocol: CommandProtocol, user: str, password: bytes, database: int) -> None:
    """Say who we are, and see who that is; all at once."""
    first = protocol.auth(password, user or None) if password else None
    asked = [
        protocol.select(database) if database else None,
        protocol.ping(),
        protocol.role(),
        protocol.execute_command("CLIENT", "SETNAME", _NAME),
    ]
    asked.insert(0, first)
    replies = await DeferredList([each for each in asked if each is not None], consumeErrors=True)
    rest = iter(replies)
    auth, select, ping, role, _ = (
        _outcome(*next(rest)) if each is not None else None for each in asked
    )
    for error in (auth, select):
        if isinstance(error, StoreError):
            raise StoreError("down", error.detail)
    if isinstance(ping, StoreError) and (
        ping.reason != "refused" or ping.detail.startswith(_NOT_NOW)
    ):
        raise StoreError("down", ping.detail)
    # Who may not ask for the role has to rely on errors that come when something is written.
    if isinstance(role, list) and role[0] != b"master":
        raise StoreError("down", f"it is a {role[0].decode(errors='replace')}, not the master")


def _outcome(success: bool, result: Any) -> Any:
    if success:
        return result
    return result.value
