"""The parameters of a request's query, taken strictly.

A misspelt or empty filter that was passed over would mean more than was meant, and some requests
close or change all that they mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from twisted.web.http import parse_qs
from twisted.web.server import Request

from rtgateway.config import ConfigError
from rtgateway.errors import GatewayError
from rtgateway.web.admin.page import refusal

__all__ = ["Window", "address", "complaints", "listed", "parameters", "true", "whole", "wrong"]

_MOST = 1000
_USUAL = 100


class Window(NamedTuple):
    """A part of a list: at most ``limit``, those behind what ``after`` names."""

    limit: int = _USUAL
    after: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str], *, usual: int = _USUAL, most: int = _MOST) -> Window:
        """What a query asks for.

        :raises GatewayError: 400.
        """
        text = query.get("limit", str(usual))
        limit = whole(text)
        if not 1 <= limit <= most:
            raise wrong(f"limit has to be a number from 1 to {most}")
        return cls(limit, query.get("after", ""))


def parameters(request: Request, *known: str) -> dict[str, str]:
    """The parameters of ``request``; all of them are known, have a value, and are there once.

    :raises GatewayError: 400.
    """
    # Not request.args: it leaves out what has no value.
    text = request.uri.partition(b"?")[2]
    try:
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True) if text else {}
    except ValueError:
        raise wrong("The query has to be name=value&name=value") from None
    query: dict[str, str] = {}
    for raw, values in fields.items():
        name = raw.decode("latin-1")
        if name not in known:
            there = f"there are {listed(known)}" if known else "there are none"
            raise wrong(f"There is no such parameter here; {there}")
        if len(values) != 1 or not values[0]:
            raise wrong(f"{name} has to be there once, with a value")
        try:
            query[name] = values[0].decode()
        except UnicodeDecodeError:
            raise wrong(f"{name} is not UTF-8") from None
    return query


def true(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is ``true``; false if it is not there.

    :raises GatewayError: 400, it is something else.
    """
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise wrong(f"{name} has to be true or false")
    return text == "true"


def address(text: str) -> str:
    """An address as clients' addresses are written.

    :raises GatewayError: 400.
    """
    try:
        found = ip_address(text)
    except ValueError:
        raise wrong("ip has to be an IP address") from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


def whole(text: str) -> int:
    """A number that is written with at most five digits; -1 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else -1


def listed(names: tuple[str, ...]) -> str:
    """In words: ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def complaints(error: ConfigError, place: str = "") -> str:
    """What is wrong with a part of a configuration, in words.

    :param place: where it would stand; that tells nothing to who sent only that part.
    """
    return "; ".join(
        str(replace(problem, file="", key=problem.key.removeprefix(place).lstrip(".")))
        for problem in error.problems
    )


def wrong(message: str) -> GatewayError:
    """What is raised: 400."""
    return refusal(400, "bad_request", message)
