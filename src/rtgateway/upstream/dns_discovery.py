"""Instances found in the DNS: one for each address of a name, or for each SRV record (RFC 2782).

Asked again when the answer's TTL is over, within bounds. Names are asked for as they are written:
``search`` domains and ``/etc/hosts`` have no say. What a failure or an empty answer means is
always the same: the last good set stays.
"""

from __future__ import annotations

# Twisted's records are not annotated throughout.
# mypy: allow-untyped-calls
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

from pydantic import ValidationError
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.names import dns
from twisted.python.failure import Failure

from rtgateway import config
from rtgateway.net.log import Logger
from rtgateway.upstream.dns_query import LookupFailed, lookup, system_servers
from rtgateway.upstream.findings import Findings, Found, OnFound

__all__ = ["DnsDiscovery"]

log = Logger()

_NEVER = float("inf")
_MOST_ALIASES = 8
"""CNAMEs followed, one after the other."""
_JITTER = 0.1
"""Share of a wait that is added at random, so that many gateways don't ask at the same time."""
_MOST_WEIGHT = 1000
"""Of an instance. SRV weights go to 65535; larger ones are scaled down together."""
_BACKOFF_STEPS = 16
_FAMILIES = {dns.A: "A", dns.AAAA: "AAAA"}


@dataclass(frozen=True, slots=True)
class _Answer:
    """Records at the end of a name's aliases; ``nothing`` says why there are none."""

    records: Sequence[dns.RRHeader]
    additional: Sequence[dns.RRHeader]
    ttl: float
    nothing: str = ""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one look has found."""

    found: Sequence[Found]
    ttl: float
    problem: str | None = None


class DnsDiscovery:
    """See the module.

    :param found: see `OnFound`.
    :param random: for jitter; 0 <= x < 1.
    """

    def __init__(
        self,
        settings: config.DnsDiscovery,
        found: OnFound,
        reactor: ReactorBase,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._clock = cast("IReactorTime", reactor)
        self._random = random
        self._findings = Findings(f"dns {settings.type} {settings.name}", found, self._clock)
        self._known: dict[int, Sequence[str]] = {}
        self._failures = 0
        self._running = False
        self._asking: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Ask for the first time."""
        self._running = True
        self._ask()

    def stop(self) -> None:
        """Ask no more, and give up what is being asked."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._asking is not None:
            self._asking.cancel()

    def describe(self) -> dict[str, object]:
        """See `Findings.describe`."""
        return self._findings.describe()

    # -- when ---------------------------------------------------------------------------------

    def _ask(self) -> None:
        self._timer = None
        look = self._addresses if self._settings.type == "a" else self._targets
        asking = Deferred.fromCoroutine(look())
        self._asking = asking.addCallbacks(self._answered, self._failed)

    def _answered(self, outcome: _Outcome) -> None:
        self._asking = None
        self._failures = 0
        self._findings.good(outcome.found, ttl=outcome.ttl, problem=outcome.problem)
        self._wait(max(self._settings.min_ttl, min(outcome.ttl, self._settings.max_ttl)))

    def _failed(self, reason: Failure) -> None:
        self._asking = None
        if not self._running:
            return
        if reason.check(LookupFailed):
            self._findings.bad(str(reason.value))
        else:
            log.failure("A look into the DNS failed", reason)
            self._findings.bad(f"unexpected: {reason.type}")
        backoff = self._settings.min_ttl * 2.0 ** min(self._failures, _BACKOFF_STEPS)
        self._failures += 1
        self._wait(min(backoff, self._settings.max_ttl))

    def _wait(self, seconds: float) -> None:
        # What was found may have been a reason to stop.
        if self._running:
            self._timer = self._clock.callLater(seconds * (1 + _JITTER * self._random()), self._ask)

    # -- what ---------------------------------------------------------------------------------

    async def _addresses(self) -> _Outcome:
        """The A and AAAA records of the name, asked for at the same time."""
        asking = [Deferred.fromCoroutine(self._records(kind)) for kind in _FAMILIES]
        results: Any = await DeferredList(asking, consumeErrors=True)
        fresh: dict[int, Sequence[str]] = {}
        ttl, problems, nothing = _NEVER, [], []
        for kind, (ok, result) in zip(_FAMILIES, results, strict=True):
            if ok:
                fresh[kind] = sorted(_hosts(result.records), key=ip_address)
                ttl = min(ttl, result.ttl if fresh[kind] else _NEVER)
                nothing.append(result.nothing or "no address that can be used")
            elif result.check(LookupFailed):
                problems.append(f"{_FAMILIES[kind]}: {result.value}")
            else:
                result.raiseException()
        if not any(fresh.values()):
            raise LookupFailed("; ".join(problems or dict.fromkeys(nothing)))
        # A family that was not told about keeps its own last addresses.
        self._known.update(fresh)
        hosts = [host for known in self._known.values() for host in known]
        name, port = _plain(self._settings.name), self._settings.port or 0
        authority = self._instance(name, port).authority
        found = [Found(self._instance(host, port), authority, name) for host in hosts]
        return _Outcome(found, ttl, "; ".join(problems) or None)

    async def _targets(self) -> _Outcome:
        """The SRV records of the name, with the addresses that came along."""
        answer = await self._records(dns.SRV)
        services = [cast("dns.Record_SRV", record.payload) for record in answer.records]
        if len(services) == 1 and not services[0].target.name.strip(b"."):
            raise LookupFailed("the record says that the service is not available")
        first = min((service.priority for service in services), default=0)
        scale = _MOST_WEIGHT / max([_MOST_WEIGHT, *(service.weight for service in services)])
        found: list[Found] = []
        ttl, problem = answer.ttl, None
        # Servers rotate their answers; the order matters where there are too many.
        for service in sorted(services, key=_rank):
            weight, backup = max(1, round(service.weight * scale)), service.priority > first
            name = service.target.name.lower()
            known = [each for each in answer.additional if each.name.name.lower() == name]
            hosts = sorted(_hosts(known), key=ip_address)
            try:
                found += self._at(
                    _plain(name.decode("latin-1")), hosts, service.port, weight, backup
                )
            except ValidationError:
                problem = "a record with a target or a port that can't be used"
                continue
            ttl = min([ttl, *(each.ttl for each in known if each.type in _FAMILIES)])
        if not found:
            raise LookupFailed(problem or answer.nothing)
        return _Outcome(found, ttl, problem)

    def _at(
        self, name: str, hosts: Sequence[str], port: int, weight: int, backup: bool
    ) -> Iterator[Found]:
        """The instances of one SRV record: one for each address, or one for the name."""
        named = self._instance(name, port, weight, backup)
        if not hosts:
            yield Found(named)
        for host in hosts:
            yield Found(self._instance(host, port, weight, backup), named.authority, name)

    def _instance(
        self, host: str, port: int, weight: int = 1, backup: bool = False
    ) -> config.Instance:
        """:raises ValidationError: for a name or a port that no URL can have."""
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        url = f"{self._settings.scheme}://{place}{self._settings.path}"
        return config.Instance(url=url, weight=weight, backup=backup)

    async def _records(self, kind: int) -> _Answer:
        """:raises LookupFailed: no answer; an answer without records is one."""
        name = _plain(self._settings.name).encode("ascii")
        servers = self._settings.servers or system_servers()
        ttl = _NEVER
        for _ in range(_MOST_ALIASES):
            message = await lookup(name, kind, servers, self._settings.timeout, self._reactor)
            name, aliases, records = _followed(message.answers, name, kind)
            ttl = min([ttl, *(each.ttl for each in (*aliases, *records))])
            if records:
                return _Answer(records, message.additional, ttl)
            if message.rCode == dns.ENAME:
                return _Answer((), (), ttl, "no such name")
            if not aliases:
                return _Answer((), (), ttl, "the name has no such records")
            # The server knows the alias and not what it stands for.
        raise LookupFailed(f"more than {_MOST_ALIASES} aliases in a row")

    def __repr__(self) -> str:
        return f"<DnsDiscovery {self._findings!r}>"


def _followed(
    answers: Sequence[dns.RRHeader], name: bytes, kind: int
) -> tuple[bytes, list[dns.RRHeader], list[dns.RRHeader]]:
    """Where the aliases (RFC 1034, 3.6.2) in ``answers`` lead: name, aliases, records there."""
    aliases: list[dns.RRHeader] = []
    while True:
        here = [each for each in answers if each.name.name.lower() == name]
        records = [each for each in here if each.type == kind]
        alias = next((each for each in here if each.type == dns.CNAME), None)
        if records or alias is None or len(aliases) == _MOST_ALIASES:
            return name, aliases, records
        aliases.append(alias)
        name = cast("Any", alias.payload).name.name.lower()


def _rank(service: dns.Record_SRV) -> tuple[int, bytes, int]:
    return service.priority, service.target.name, service.port


def _hosts(records: Iterable[dns.RRHeader]) -> Iterator[str]:
    """The addresses of those records that have one which an instance can be reached at."""
    for record in records:
        if record.type in _FAMILIES:
            address: IPv4Address | IPv6Address = ip_address(cast("Any", record.payload).address)
            # 0.0.0.0 is this machine, and what filters answer for names that they block.
            if not (address.is_unspecified or address.is_multicast):
                yield str(address)


def _plain(name: str) -> str:
    """A name in lower case, without the dot that makes it absolute."""
    return name.lower().rstrip(".")
