"""Rules about limiters: their numbers and costs, and what they refer to elsewhere.

Called by `RateLimit.rules` and by `rtgateway.config.model.Config.rules`, with what is validated
already, or else with what the document says: see `rtgateway.config.section.Section.rules`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from rtgateway.config.problems import show
from rtgateway.config.quotas import AlgorithmName, Quota, number_rules, resolve, settled_quota
from rtgateway.config.references import is_name, look
from rtgateway.config.section import Rule

__all__ = ["limit_rules", "rate_limit_rules"]

BUILTIN_ROUTES = ("/api/:service/*", "/sse/:service/*", "/ws/:service")
"""Labels of the routes that are there without being configured."""

_MOST_LIMITERS = 100
_MOST_PLANS = 100
_MOST_OVERRIDES = 1000
_LONGEST_SUBJECT = 256

_Place = tuple[str | int, ...]


def limit_rules(algorithm: AlgorithmName, values: Mapping[str, Any]) -> Iterator[Rule]:
    """The numbers of one limiter, those for plans and overrides among them, and its costs."""
    base = settled_quota(values)
    own = values.get("plans"), values.get("overrides")
    plans, overrides = look(own[0], "values"), own[1]
    for key, sections, most in (
        (("plans", "values"), plans, _MOST_PLANS),
        (("overrides",), overrides, _MOST_OVERRIDES),
    ):
        if isinstance(sections, Mapping) and len(sections) > most:
            yield Rule("", key, f"{len(sections)} of them", f"at most {most}")
    yield from _subject_rules(overrides, _named(values.get("per"), "header"))
    if base is None:
        return
    yield from number_rules(algorithm, base.own)
    yield from _cost_rules((), values.get("cost"), algorithm, base.own)
    for place, quota in (*_quotas(("plans", "values"), plans), *_quotas(("overrides",), overrides)):
        if not quota.own:
            yield Rule("no number that differs", place, allowed="at least one")
        for rule in number_rules(algorithm, quota.own, base.own):
            yield replace(rule, key=(*place, *rule.key))
        yield from _cost_rules(place, values.get("cost"), algorithm, base.own, quota.own)


def _quotas(place: _Place, sections: object) -> Iterator[tuple[_Place, Quota]]:
    for name, section in sections.items() if isinstance(sections, Mapping) else ():
        quota = settled_quota(section)
        if quota is not None:
            yield (*place, name), quota


def _named(per: object, kind: str) -> list[str]:
    """The headers or claims that a limiter counts by."""
    parts = per if isinstance(per, list | tuple) else (per,)
    split = (str(part).partition(":") for part in parts)
    return [name.lower() for each, _, name in split if each == kind]


def _subject_rules(overrides: object, headers: Sequence[str]) -> Iterator[Rule]:
    for subject in overrides if isinstance(overrides, Mapping) else ():
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            allowed = f"a subject or a key of 1 to {_LONGEST_SUBJECT} characters"
            yield Rule("", ("overrides", subject), f"the name {show(subject)}", allowed)
        elif subject.startswith("ip:") and (spelled := _counted_as(subject)) != subject:
            message = f"an address is counted as {spelled}" if spelled else "no address"
            yield Rule(message, ("overrides", subject), allowed=spelled or "ip:203.0.113.7")
        else:
            name, colon, value = subject.partition(":")
            if colon and name not in headers and name.lower() in headers:
                message = "the name of a header is counted in lower case"
                yield Rule(message, ("overrides", subject), allowed=f"{name.lower()}:{value}")


def _counted_as(subject: str) -> str:
    """How the key of an address is spelled; empty when it is none."""
    try:
        address = ip_address(subject.removeprefix("ip:"))
    except ValueError:
        return ""
    if address.version == 4:
        return f"ip:{address}"
    mapped = address.ipv4_mapped
    return f"ip:{mapped or type(address)(int(address) >> 64 << 64)}"


def _cost_rules(
    place: _Place, cost: object, algorithm: AlgorithmName, *layers: Mapping[str, Any]
) -> Iterator[Rule]:
    """No request costs more than there may ever be.

    Told at the cost, or where a plan or an override has less than everybody.
    """
    at_once = resolve(algorithm, *layers).at_once
    too_dear = [(key, units) for key, units in _costs(cost) if units > at_once]
    if not at_once:
        return
    if not place:
        for key, units in too_dear:
            allowed = f"at most {at_once}, which is all there may be at once"
            yield Rule("", ("cost", *key), f"a cost of {units}", allowed)
    elif too_dear and at_once < resolve(algorithm, *layers[:-1]).at_once:
        key, units = max(too_dear, key=lambda each: each[1])
        found = f"{at_once} at once, but a cost of {units} ({'.'.join(('cost', *key))})"
        yield Rule("", place, found, f"at least {units}")


def _costs(cost: object) -> Iterator[tuple[tuple[str, ...], int]]:
    default = cost if not isinstance(cost, Mapping) and look(cost, "default") is None else None
    candidates: list[tuple[tuple[str, ...], object]] = [
        (("default",), look(cost, "default") if default is None else default)
    ]
    methods = look(cost, "methods")
    if isinstance(methods, Mapping):
        candidates += [(("methods", str(method)), units) for method, units in methods.items()]
    if look(cost, "header") is not None:
        candidates.append((("most",), look(cost, "most")))
    for key, units in candidates:
        if isinstance(units, int) and not isinstance(units, bool):
            yield key, units


def rate_limit_rules(
    sections: object,
    services: object,
    routes: Sequence[object],
    builtin: object,
    auth: object,
) -> Iterator[Rule]:
    """Limiters have names; what they name is there, and tokens are looked at if they have to be."""
    if not isinstance(sections, Mapping):
        return
    if len(sections) > _MOST_LIMITERS:
        allowed = f"at most {_MOST_LIMITERS}"
        yield Rule("", ("rate_limits",), f"{len(sections)} limiters", allowed)
    known_services = sorted(filter(is_name, services)) if isinstance(services, Mapping) else []
    labels = [look(route, "name") or look(route, "path") for route in routes]
    known_routes = sorted({label for label in labels if isinstance(label, str)})
    if builtin is not False:
        known_routes += BUILTIN_ROUTES
    for name, section in sections.items():
        place = ("rate_limits", name)
        yield from _known(place, "services", look(section, "services"), known_services)
        yield from _known(place, "routes", look(section, "routes"), known_routes)
        if look(auth, "jwt") is None:
            yield from _without_tokens(place, section)


def _known(place: _Place, key: str, names: object, known: Sequence[str]) -> Iterator[Rule]:
    words = "a name under services" if key == "services" else "the name or path of a route"
    for index, name in enumerate(names if isinstance(names, list | tuple) else ()):
        if isinstance(name, str) and name not in known:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0) or ["none yet"]
            yield Rule("", (*place, key, index), show(name), f"{words}: {', '.join(near)}")


def _without_tokens(place: _Place, section: object) -> Iterator[Rule]:
    message = "no token is verified, as there is no auth.jwt"
    per = look(section, "per")
    for index, part in enumerate(per if isinstance(per, list | tuple) else ()):
        if str(part).partition(":")[0] in ("identity", "claim"):
            yield Rule(message, (*place, "per", index))
    exempt = look(section, "exempt")
    for key in ("identities", "claims"):
        if look(exempt, key):
            yield Rule(message, (*place, "exempt", key))
    if look(section, "plans") is not None:
        yield Rule(message, (*place, "plans"))
    overrides = look(section, "overrides")
    kinds = ("ip", "service", "route", *_named(per, "header"), *_named(per, "claim"))
    for subject in overrides if isinstance(overrides, Mapping) else ():
        if not isinstance(subject, str) or subject == "global":
            continue
        if ":" not in subject:
            yield Rule(message, (*place, "overrides", subject), allowed="keys such as ip:192.0.2.7")
        elif subject.partition(":")[0].lower() not in kinds:
            words = f"a key of {', '.join(kinds)}, as no token is verified (auth.jwt)"
            yield Rule("nothing is counted so", (*place, "overrides", subject), allowed=words)
