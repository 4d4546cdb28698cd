"""Rules about names: which ones are possible, which ones are there, and who refers to them.

Called by `rtgateway.config.model.Config.rules` with what is validated already, or else with what
the document says: see `rtgateway.config.section.Section.rules`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rtgateway.config.problems import show
from rtgateway.config.routes import Route
from rtgateway.config.section import Rule, Section
from rtgateway.config.services import SERVICE_NAME

__all__ = ["is_name", "look", "name_rules", "route_rules"]


def look(section: object, key: str) -> Any:
    """A key of a section that may be validated already, or be a mapping, or be anything."""
    if isinstance(section, Mapping):
        return section.get(key)
    return getattr(section, key, None) if isinstance(section, Section) else None


def is_name(name: object) -> bool:
    """Whether a service, a check or a limiter may be called ``name``."""
    # Dots alone would be taken for relative segments of the path /api/<service>/.
    valid = isinstance(name, str) and SERVICE_NAME.fullmatch(name) is not None
    return valid and name not in (".", "..")


def name_rules(key: str, sections: object) -> Iterator[Rule]:
    """Names of services, checks and limiters are safe in paths, in keys and in metrics."""
    for name in sections if isinstance(sections, Mapping) else ():
        if not is_name(name):
            allowed = "names of 1 to 64 letters, digits and . _ ~ -"
            yield Rule("", (key, name), found=f"the name {show(name)}", allowed=allowed)


def route_rules(routes: Sequence[object], services: object) -> Iterator[Rule]:
    """Routes lead to services that are there; none is called like another one, or hides it."""
    names: dict[str, int] = {}
    matches: dict[tuple[object, ...], int] = {}
    known = sorted(filter(is_name, services)) if isinstance(services, Mapping) else []
    for index, route in enumerate(routes):
        for place, service in _services_of(route):
            yield from _service_rules(("routes", index, *place), service, known)
        yield from _detour_rules(index, route)
        name = look(route, "name")
        if isinstance(name, str) and (first := names.setdefault(name, index)) != index:
            yield Rule(
                f"the name of routes[{first}], too",
                ("routes", index, "name"),
                show(name),
                "each name once",
            )
        if isinstance(route, Route):
            for method in route.methods or ("",):
                if (first := matches.setdefault((route.host, route.path, method), index)) != index:
                    message = f"the same host, path and method as routes[{first}]"
                    yield Rule(message, ("routes", index))
                    break


_Place = tuple[str | int, ...]


def _services_of(route: object) -> Iterator[tuple[_Place, object]]:
    """Every name of a service in ``route``, and where it is: the route's own comes first."""
    yield ("service",), look(route, "service")
    targets = look(look(route, "split"), "to")
    for at, target in enumerate(targets if isinstance(targets, list | tuple) else ()):
        yield ("split", "to", at, "service"), look(target, "service")
    yield ("mirror", "service"), look(look(route, "mirror"), "service")


def _service_rules(key: _Place, service: object, known: Sequence[str]) -> Iterator[Rule]:
    if isinstance(service, str) and service not in known:
        near = difflib.get_close_matches(service, known, n=5, cutoff=0) or ["none yet"]
        allowed = f"a name under services: {', '.join(near)}"
        yield Rule("", key, show(service), allowed)


def _detour_rules(index: int, route: object) -> Iterator[Rule]:
    (_, own), *others = _services_of(route)
    for place, service in others:
        if isinstance(service, str) and service == own:
            key = ("routes", index, *place)
            yield Rule("the route's own service", key, show(service), "another service")
