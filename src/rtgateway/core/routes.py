"""Which rule a request matches: host, then path, then method.

Paths are compared as they came, percent-encoding included: ``/caf%C3%A9`` and ``/caf%c3%a9`` are
different paths here, and ``%2F`` is never a slash. Whatever decoding a service does happens behind
the segment boundaries that were matched.

A path in a rule is one of

``/v1``             a prefix: matches ``/v1`` and everything below, never ``/v10``
``/v1/*``, ``/v1/`` everything below, and not ``/v1`` itself
``/users/{id}``     a template: matches exactly; a parameter is one segment that is not empty
``/users/{id}/*``   everything below a template

Of several rules that match, the one for an exact host wins over one for ``*.example.com`` (the
longest first), which wins over one for any host. Among these, paths are compared segment by
segment from the left: a literal is better than a parameter, a parameter better than the end of a
prefix. Then a rule that lists the method is better than one for all methods; then the first
rule. A rule that does not have the method never hides a less specific one that does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Match", "MethodNotAllowed", "RouteTable", "Rule"]

T = TypeVar("T")

_MAX_RECENT = 2048
_MAX_RECENT_PATH = 256
"""Matches that are remembered, for what is asked again and again; bytes of their longest path."""


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """What to match and what it leads to.

    :ivar host: lower-case name, ``*.`` in front for one or more labels; None for any.
    :ivar methods: methods that match; all if empty. GET does not imply HEAD.
    """

    host: str | None
    path: str
    methods: frozenset[bytes]
    target: T


class Match(Generic[T]):
    """A rule's target, and the path behind what its prefix matched."""

    __slots__ = ("rest", "target")

    def __init__(self, target: T, segments: list[bytes], at: int) -> None:
        self.target = target
        #: What follows the matched part; always begins with a slash.
        self.rest = b"/" + b"/".join(segments[at:])

    def __repr__(self) -> str:
        return f"<Match {self.target!r}>"


@dataclass(frozen=True, slots=True)
class MethodNotAllowed:
    """Rules match host and path, but none of them the method; ``allow`` is what they take."""

    allow: tuple[bytes, ...]


class _End(Generic[T]):
    """The rules with the same host and path, by method."""

    __slots__ = ("any_method", "by_method")

    def __init__(self) -> None:
        self.by_method: dict[bytes, Rule[T]] = {}
        self.any_method: Rule[T] | None = None

    def add(self, rule: Rule[T]) -> None:
        if not rule.methods and self.any_method is None:
            self.any_method = rule
        for method in rule.methods:
            self.by_method.setdefault(method, rule)


class _Place(Generic[T]):
    """A place in the tree of paths: what may follow, and which rules end here.

    :ivar here: for a path that ends here, the best first: the exact template, the prefix.
    :ivar beyond: for a path that goes on: everything below, the prefix.
    """

    __slots__ = ("_below", "_exact", "_prefix", "beyond", "here", "literals", "parameter")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Place[T]] = {}
        self.parameter: _Place[T] | None = None
        self._exact: _End[T] = _End()
        self._prefix: _End[T] = _End()
        self._below: _End[T] = _End()
        self.here: tuple[_End[T], ...] = ()
        self.beyond: tuple[_End[T], ...] = ()

    def add(self, rule: Rule[T], segments: list[bytes], *, template: bool) -> None:
        """File ``rule`` under what is left of its path."""
        first, *others = segments
        if not others and (first == b"*" or (first == b"" and not template)):
            self._end(self._below, rule)
            return
        place = self._child(first)
        if others:
            place.add(rule, others, template=template)
        else:
            place._end(place._exact if template else place._prefix, rule)

    def _child(self, segment: bytes) -> _Place[T]:
        if not segment.startswith(b"{"):
            return self.literals.setdefault(segment, _Place())
        if self.parameter is None:
            self.parameter = _Place()
        return self.parameter

    def _end(self, end: _End[T], rule: Rule[T]) -> None:
        end.add(rule)
        used = [
            one
            for one in (self._exact, self._below, self._prefix)
            if one.by_method or one.any_method
        ]
        self.here = tuple(one for one in used if one is not self._below)
        self.beyond = tuple(one for one in used if one is not self._exact)

    def search(
        self, segments: list[bytes], at: int, method: bytes, refused: list[_End[T]]
    ) -> Match[T] | None:
        """The best match from here on.

        Every place of the tree is visited at most once, so the work is bounded by the rules, not
        by the request.

        :param at: which segment comes next.
        :param refused: takes the ends that match but for the method.
        """
        if at < len(segments):
            segment = segments[at]
            place = self.literals.get(segment)
            if place is not None:
                found = place.search(segments, at + 1, method, refused)
                if found is not None:
                    return found
            if self.parameter is not None and segment:
                found = self.parameter.search(segments, at + 1, method, refused)
                if found is not None:
                    return found
            ends = self.beyond
        else:
            ends = self.here
        for end in ends:
            rule = end.by_method.get(method, end.any_method)
            if rule is not None:
                return Match(rule.target, segments, at)
            refused.append(end)
        return None


class RouteTable(Generic[T]):
    """Rules, arranged for one lookup per request.

    :raises ValueError: a rule's path does not begin with a slash.
    """

    __slots__ = ("_any_host", "_hosts", "_recent", "_rules", "_splits", "_wildcards")

    def __init__(self, rules: Iterable[Rule[T]]) -> None:
        self._any_host: _Place[T] = _Place()
        self._hosts: dict[bytes, _Place[T]] = {}
        self._wildcards: dict[bytes, _Place[T]] = {}
        self._rules = 0
        self._splits = 0
        self._recent: dict[tuple[bytes, bytes, bytes], Match[T]] = {}
        for rule in rules:
            self._add(rule)

    def _add(self, rule: Rule[T]) -> None:
        if not rule.path.startswith("/"):
            raise ValueError(f"a path begins with a slash: {rule.path}")
        if rule.host is None:
            root = self._any_host
        elif rule.host.startswith("*."):
            root = self._wildcards.setdefault(rule.host[2:].encode("ascii"), _Place())
        else:
            root = self._hosts.setdefault(rule.host.encode("ascii"), _Place())
        segments = rule.path.encode("ascii")[1:].split(b"/")
        root.add(rule, segments, template="/{" in rule.path)
        self._rules += 1
        # A path is split no further than the longest rule looks, plus the rest in one piece.
        self._splits = max(self._splits, len(segments) + 1)

    def match(self, host: bytes, method: bytes, path: bytes) -> Match[T] | MethodNotAllowed | None:
        """What a request matches; None if nothing.

        :param host: lower-case, without port.
        :param path: as received, without query. One that does not begin with a slash (``*``)
            matches nothing.
        """
        recent = self._recent.get((host, method, path))
        if recent is not None:
            return recent
        found = self._search(host, method, path)
        if isinstance(found, Match) and len(path) <= _MAX_RECENT_PATH:
            if len(self._recent) >= _MAX_RECENT:
                self._recent.clear()
            self._recent[host, method, path] = found
        return found

    def _search(
        self, host: bytes, method: bytes, path: bytes
    ) -> Match[T] | MethodNotAllowed | None:
        if not path.startswith(b"/"):
            return None
        segments = path.split(b"/", self._splits)
        refused: list[_End[T]] = []
        root = self._hosts.get(host)
        if root is not None:
            found = root.search(segments, 1, method, refused)
            if found is not None:
                return found
        if self._wildcards:
            for root in self._above(host):
                found = root.search(segments, 1, method, refused)
                if found is not None:
                    return found
        found = self._any_host.search(segments, 1, method, refused)
        if found is None and refused:
            methods = {name for end in refused for name in end.by_method}
            return MethodNotAllowed(tuple(sorted(methods)))
        return found

    def _above(self, host: bytes) -> Iterator[_Place[T]]:
        """The trees for wildcards that ``host`` matches, the longest first."""
        dot = host.find(b".")
        while dot >= 0:
            root = self._wildcards.get(host[dot + 1 :])
            if root is not None:
                yield root
            dot = host.find(b".", dot + 1)

    def __repr__(self) -> str:
        return f"<RouteTable {self._rules} rules>"
