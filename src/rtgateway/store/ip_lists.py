"""Lists of networks: whose addresses are let in whatever their limits, and whose are not let in.

`IpLists` keeps what is added at run time in this process. What is kept in Redis
(`store.redis.ip_lists`) has the same methods and asks its own copy, which is one of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from twisted.internet.defer import Deferred, succeed

from rtgateway.core.networks import Network, NetworkSet, packed, parse_network, spell

__all__ = ["LISTS", "MOST_NETWORKS", "IpLists", "ListName", "Verdict"]

MOST_NETWORKS = 100_000
"""Networks that are added at run time, to both lists together."""

ListName = Literal["allow", "deny"]
LISTS: tuple[ListName, ...] = ("allow", "deny")
Verdict = Literal["allow", "deny", ""]

_NONE: frozenset[Network] = frozenset()
_MAX_CACHED = 8192
_LONGEST = 64
"""Characters of the longest text whose verdict is remembered."""


class IpLists:
    """See the module. An address on both lists is let in.

    :param allow: configured networks, ``deny``: likewise.
    :ivar allow: all networks of the list, ``deny``: likewise.
    :ivar active: whether there is any.
    :raises ValueError: one of them is no network.
    """

    def __init__(
        self,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        most: int = MOST_NETWORKS,
    ) -> None:
        self.allow = NetworkSet(allow)
        self.deny = NetworkSet(deny)
        self._configured = {
            "allow": frozenset(self.allow.networks),
            "deny": frozenset(self.deny.networks),
        }
        self._added: dict[str, set[Network]] = {"allow": set(), "deny": set()}
        self._most = most
        self._verdicts: dict[str, Verdict] = {}
        self.active = bool(len(self.allow) or len(self.deny))

    def verdict(self, ip: str) -> Verdict:
        """What to do about an address; empty: neither list has it."""
        verdict = self._verdicts.get(ip)
        return self._judge(ip) if verdict is None else verdict

    def entries(self, which: ListName) -> list[tuple[str, str]]:
        """Each network of a list, and where it is from: ``config`` or ``runtime``."""
        configured, added = self._configured[which], self._added[which]
        return [
            *((spell(network), "config") for network in configured),
            *((spell(network), "runtime") for network in added - configured),
        ]

    def add(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """Add networks, at once.

        :return: fires with how many were not there; fails with `StoreError`.
        :raises ValueError: at once or later: one is no network, or there would be too many. Nothing
            has changed then.
        """
        new = set(map(parse_network, networks)) - self._added[which]
        if self._count + len(new) > self._most:
            raise too_many(self._most)
        self._change(which, new, _NONE)
        return succeed(len(new))

    def remove(self, which: ListName, networks: Sequence[str]) -> Deferred[int]:
        """Remove networks that were added at run time.

        :return: fires with how many were there; fails with `StoreError`.
        :raises ValueError: at once: one is no network, or a configured one.
        """
        gone = self._removable(which, networks) & self._added[which]
        self._change(which, _NONE, gone)
        return succeed(len(gone))

    def tick(self, now: float) -> None:
        """Called every 100 ms."""

    # -- for both twins -----------------------------------------------------------------------

    @property
    def _count(self) -> int:
        return len(self._added["allow"]) + len(self._added["deny"])

    def _removable(self, which: ListName, networks: Sequence[str]) -> set[Network]:
        parsed = set(map(parse_network, networks))
        for network in parsed & self._configured[which] - self._added[which]:
            raise ValueError(f"{spell(network)} is configured, and can't be removed at run time")
        return parsed

    def _change(
        self, which: ListName, new: AbstractSet[Network], gone: AbstractSet[Network]
    ) -> None:
        added = self._added[which]
        networks = self.allow if which == "allow" else self.deny
        added |= new
        networks.put(new)
        added -= gone
        networks.drop(gone - self._configured[which])
        self._verdicts.clear()
        self.active = bool(len(self.allow) or len(self.deny))

    def _judge(self, ip: str) -> Verdict:
        verdict: Verdict = ""
        address = packed(ip)
        if address is not None:
            if self.allow.holds(address):
                verdict = "allow"
            elif self.deny.holds(address):
                verdict = "deny"
        if len(self._verdicts) >= _MAX_CACHED:
            self._verdicts.clear()
        if len(ip) <= _LONGEST:
            self._verdicts[ip] = verdict
        return verdict

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {len(self.allow)} allowed {len(self.deny)} denied,"
            f" {self._count} of them at run time>"
        )


def too_many(most: int) -> ValueError:
    """What is wrong with so many networks."""
    return ValueError(f"no more than {most} networks can be added at run time")
