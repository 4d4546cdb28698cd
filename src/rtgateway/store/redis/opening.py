"""Connections to Redis, opened until they can be used: TLS, who we are, which database, whose.

A server that is still loading, or that is a replica, is not the one to use. Sentinels say which is
the master; they are asked one after the other, each with a deadline. A node of a cluster says which
one has our keys, which are all in one slot.
"""

from __future__ import annotations

# txredisapi has no annotations.
# mypy: allow-untyped-calls
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.errors import UpstreamFailed, UpstreamTimeout
from rtgateway.net.connect import connect, connect_unix
from rtgateway.net.log import Logger
from rtgateway.net.tls import client_tls
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.introduction import Moved, introduce
from rtgateway.store.redis.protocol import CommandProtocol
from rtgateway.store.redis.refusals import moved_to

__all__ = ["Opening", "Place"]

log = Logger()

C = TypeVar("C", bound=CommandProtocol)
T = TypeVar("T")
Place = tuple[str, int]
"""Host and port; empty and 0 for a Unix socket."""

_MOST_HOPS = 4
"""Nodes of a cluster that are asked in one attempt; two would do, did they agree."""


class Opening:
    """How the Redis of the configuration is reached.

    :raises CertificateFileError: a certificate, key or file of authorities can't be used.
    """

    __slots__ = (
        "_configured",
        "_place",
        "_reactor",
        "_said",
        "_sentinels",
        "_settings",
        "_tls",
    )

    def __init__(self, settings: config.State, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        # By host, and whether it is that of a sentinel.
        self._tls: dict[tuple[str, bool], IOpenSSLClientConnectionCreator] = {}
        sentinel = settings.sentinel
        # The first is the one that is believed.
        self._sentinels = list(sentinel.addresses) if sentinel is not None else []
        # Where our keys are, as far as is known; and where that was logged to be.
        self._configured = self._place = self._said = (settings.host, settings.port)
        for each in (settings.tls_of_redis, settings.tls_of_sentinels):
            if each is not None:
                # Files that can't be used are told of before anything is connected.
                client_tls(each, settings.host or "redis", each.own)

    def open(self, make: Callable[[], C]) -> Deferred[C]:
        """Fires with a connection when commands can be sent; fails with `StoreError` (``down``).

        Cancelling it gives up.

        :param make: makes one that is not connected.
        """
        if self._sentinels:
            return Deferred.fromCoroutine(self._open_master(make()))
        return self._in_time(self._open_node(make))

    async def _open_master(self, protocol: C) -> C:
        before = self._said
        host, port = await self._master()
        believed = self._sentinels[0]
        try:
            await self._in_time(self._open_at(protocol, (host, port)))
        except StoreError:
            # It may be one that has lost touch with the others.
            if self._sentinels[0] == believed:
                self._sentinels.append(self._sentinels.pop(0))
            raise
        if self._said not in (before, (host, port)):
            # One that hung, and comes back, believes that it is the master still.
            protocol.abort("not the one to use")
            raise StoreError("down", "another one is the master by now")
        self._say((host, port))
        return protocol

    def _say(self, place: Place) -> None:
        """In the log: which of several servers it is now."""
        if place != self._said:
            self._said = place
            label, where = self._settings.label, f"{place[0]}:{place[1]}"
            log.info("The keys of Redis at {label} are at {where}", label=label, where=where)

    async def _open_node(self, make: Callable[[], C]) -> C:
        """Open one to where our keys are; from the configured node on if that can't be reached."""
        for _ in range(_MOST_HOPS):
            place, protocol = self._place, make()
            try:
                await self._open_at(protocol, place)
            except Moved as moved:
                self._place = moved.to
                continue
            except BaseException:
                # Others may have learnt of another place meanwhile.
                if self._place == place:
                    self._place = self._configured
                raise
            self._say(place)
            return protocol
        self._place = self._configured
        raise StoreError("down", "each node says that another one has the keys")

    def follow(self, detail: str) -> None:
        """Open the next connections where an error says that our keys are, if it does."""
        to = moved_to(detail, self._place[0])
        if to is not None and not self._sentinels:
            self._place = to

    def master(self) -> Deferred[Place | None]:
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

    async def _open_at(self, protocol: CommandProtocol, place: Place) -> None:
        settings = self._settings
        unix = "" if place[0] else settings.unix
        await self._connect(protocol, place, unix)
        try:
            await introduce(protocol, settings)
        except BaseException:
            protocol.abort("not the one to use")
            raise

    async def _connect(
        self, protocol: C, place: Place, unix: str = "", *, to_sentinel: bool = False
    ) -> None:
        timeout, reactor = self._settings.connect_timeout, self._reactor
        try:
            if unix:
                await connect_unix(unix, protocol, timeout=timeout, reactor=reactor)
            else:
                tls = self._tls_to(place[0], to_sentinel)
                await connect(*place, protocol, timeout=timeout, reactor=reactor, tls=tls)
        except (UpstreamFailed, UpstreamTimeout) as error:
            raise StoreError("down", error.detail) from None
        protocol.where = place

    def _tls_to(self, host: str, sentinel: bool) -> IOpenSSLClientConnectionCreator | None:
        settings = self._settings
        how = settings.tls_of_sentinels if sentinel else settings.tls_of_redis
        if how is None:
            return None
        tls = self._tls.get((host, sentinel))
        if tls is None:
            if len(self._tls) > len(self._sentinels) + 8:
                self._tls.clear()  # Many masters have been named by now.
            tls = self._tls[host, sentinel] = client_tls(how, host, how.own)
        return tls

    # -- Sentinel -----------------------------------------------------------------------------

    async def _master(self) -> Place:
        """Where the sentinels say that the master is; the one that knew is asked first again."""
        trouble = ""
        for address in tuple(self._sentinels):
            try:
                found = await self._in_time(self._ask(address))
            except StoreError as error:
                trouble = f"the sentinel at {address[0]}:{address[1]}: {error.detail}"
                continue
            self._sentinels.remove(address)
            self._sentinels.insert(0, address)
            return found
        raise StoreError("down", f"no sentinel knows the master; {trouble}")

    async def _ask(self, address: Place) -> Place:
        sentinel = self._settings.sentinel
        assert sentinel is not None
        protocol = CommandProtocol(self._reactor)
        await self._connect(protocol, address, to_sentinel=True)
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
