"""URLs of Redis, taken apart: ``redis://``, ``rediss://`` and ``unix://``.

They hold passwords, so that nothing here repeats what it was given.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from pydantic import SecretStr

from rtgateway.config.urls import split_host_port

__all__ = ["MAX_DATABASE", "REDIS_PORT", "RedisUrl", "split_redis_url"]

REDIS_PORT = 6379
MAX_DATABASE = 9999
"""Highest number of a database; Redis has 16 of them unless told otherwise."""

_URL = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#\s]*)(?P<path>/[^?#\s]*)?(?:\?(?P<query>[^#\s]*))?",
    re.ASCII | re.IGNORECASE,
)
_DATABASE = re.compile(r"[0-9]{1,4}", re.ASCII)
_RESERVED = "a / ? # or @ in a password is percent-encoded"
_LONGEST_PATH = 107
"""Bytes; unix(7): ``sun_path`` has 108, with the null byte at its end."""


class RedisUrl(NamedTuple):
    """Parts of a URL.

    :ivar host: lower-case name or address, IPv6 without brackets; empty with ``unix``.
    :ivar port: 0 with ``unix``.
    :ivar unix: path of a Unix socket; empty with ``host``.
    :ivar db: number of the database; None where the URL does not say.
    :ivar secure: TLS.
    :ivar user: empty where the URL has none.
    """

    host: str
    port: int
    unix: str
    db: int | None
    secure: bool
    user: str
    password: SecretStr


def split_redis_url(text: str) -> RedisUrl:
    """The parts of ``text``; user name and password percent-decoded.

    :raises ValueError: with what is wrong, in words that don't repeat any of it.
    """
    match = _URL.fullmatch(text.strip())
    if match is None or match["scheme"].lower() not in ("redis", "rediss", "unix"):
        raise ValueError("not a URL with redis, rediss or unix")
    scheme = match["scheme"].lower()
    path = match["path"] or ""
    userinfo, at, address = match["authority"].rpartition("@")
    if "@" in path and scheme != "unix":
        raise ValueError(_RESERVED)
    user, colon, password = userinfo.partition(":")
    if at and not colon and not user:
        raise ValueError("nothing in front of the @")
    host, port, unix = "", 0, ""
    if scheme == "unix":
        unix = _socket(address, unquote(path))
        number = ""
    else:
        host, port = _host_and_port(address)
        number = path.removeprefix("/")
    db = _database(number, match["query"])
    secret = SecretStr(unquote(password))
    return RedisUrl(host, port, unix, db, scheme == "rediss", unquote(user), secret)


def _socket(address: str, path: str) -> str:
    if address or len(path) < 2:
        raise ValueError("no path: three slashes, as in unix:///run/redis.sock")
    if len(path.encode()) > _LONGEST_PATH or "\0" in path:
        raise ValueError(f"a path of more than {_LONGEST_PATH} bytes, or with a null byte")
    return path


def _host_and_port(address: str) -> tuple[str, int]:
    numbered = address.rpartition(":")[2].isdigit() and not address.endswith("]")
    split = split_host_port(address if numbered else f"{address}:{REDIS_PORT}")
    if split is None:
        # What was meant as a password may have been taken for a port: nothing of it is shown.
        raise ValueError(f"no host, or no port from 1 to 65535; {_RESERVED}")
    return split


def _database(number: str, query: str | None) -> int | None:
    if query:
        key, _, value = query.partition("=")
        if key != "db" or number:
            raise ValueError("only db may follow the question mark, and the database is there once")
        number = value or "none"
    if not number:
        return None
    if not _DATABASE.fullmatch(number):
        raise ValueError(f"the database is no number from 0 to {MAX_DATABASE}")
    return int(number)
