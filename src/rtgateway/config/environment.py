"""The environment dialect: the variables of the Real-Time API Gateway, its defaults, its failures.

Used when no configuration file is given. A variable that is set but empty counts as not set, as
compose files and ``.env`` templates leave them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from rtgateway.config.document import MAX_BYTES, Document, Loc
from rtgateway.config.explain import validated
from rtgateway.config.listeners import split_address
from rtgateway.config.model import Config, Environment, LogLevel
from rtgateway.config.problems import key_path, show
from rtgateway.config.section import Allowed
from rtgateway.config.services import Instance
from rtgateway.config.units import MAX_SIZE
from rtgateway.config.websocket import SMALLEST_BUFFER

__all__ = ["VARIABLES", "Variable", "from_environment"]

NAME = "environment"
"""What problems call it in place of a file name."""

_TRUE = ("true", "1", "yes", "y", "on")
_FALSE = ("false", "0", "no", "n", "off")
_BODY_LIMIT = 1 << 20
_MAX_MILLISECONDS = 86_400_000


class Variable(NamedTuple):
    """A variable, for the reference page."""

    name: str
    default: str
    meaning: str


VARIABLES = (
    Variable("UPSTREAMS", "`{}`", "JSON object: service name to a list of base URLs."),
    Variable("HOST", "`0.0.0.0`", "Address to listen on."),
    Variable("PORT", "`8080`", "Port to listen on."),
    Variable("NODE_ENV", "`development`", "`development`, `test` or `production`."),
    Variable("LOG_LEVEL", "`info`", "As `log_level`."),
    Variable(
        "AUTH_REQUIRED",
        "`true` in production, else `false`",
        "As `auth.required`; needs `JWT_SECRET`.",
    ),
    Variable("JWT_SECRET", "", "Shared secret (HS256) of at least 32 characters."),
    Variable(
        "HTTP_PROXY_TIMEOUT_MS",
        "`30000`",
        "Longest wait for a connection (at most 5 s), for the first byte of an answer, and between "
        "its bytes.",
    ),
    Variable(
        "UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", "`1000`", "As `pressure.max_event_loop_delay`."
    ),
    Variable("UNDER_PRESSURE_MAX_RSS_BYTES", "`0`", "As `pressure.max_rss`."),
    Variable("WS_MAX_BUFFERED_BYTES", "`2000000`", "As `websocket.max_buffered`."),
    Variable("WS_PING_INTERVAL_MS", "`30000`", "As `websocket.ping_interval`."),
)


def from_environment(env: Mapping[str, str]) -> Config:
    """The configuration in ``env``.

    :raises ConfigError: for everything that is wrong with it, all at once; the problems' keys are
        names of variables (``UPSTREAMS.users[0]``).
    """
    variables = _Variables(env)
    environment = variables.choice("NODE_ENV", get_args(Environment), "development")
    timeout = variables.whole("HTTP_PROXY_TIMEOUT_MS", 30_000, 1, _MAX_MILLISECONDS) / 1000
    delay = variables.whole("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", 1000, 0, 3_600_000) / 1000
    variables.document.data = {
        "listeners": [{"tcp": variables.address()}],
        "services": variables.services(),
        "auth": variables.auth(environment == "production"),
        "limits": {"body": _BODY_LIMIT},
        "timeouts": {
            "connect": min(5.0, timeout),
            "first_byte": timeout,
            "between_bytes": timeout,
        },
        "log_level": variables.choice("LOG_LEVEL", get_args(LogLevel), "info"),
        "pressure": {
            "max_event_loop_delay": delay,
            "max_rss": variables.whole("UNDER_PRESSURE_MAX_RSS_BYTES", 0, 0, 1 << 40),
        },
        "websocket": {
            "max_buffered": variables.whole(
                "WS_MAX_BUFFERED_BYTES", 2_000_000, SMALLEST_BUFFER, MAX_SIZE
            ),
            "ping_interval": variables.whole("WS_PING_INTERVAL_MS", 30_000, 0, _MAX_MILLISECONDS)
            / 1000,
        },
        "environment": environment,
    }
    return validated(variables.document, {})


class _Variables:
    """Reads variables one by one; a bad one is reported, and its default goes on."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = env
        self.document = Document(NAME, spell=_spelled)

    def _text(self, name: str) -> str:
        return self.env.get(name, "").strip()

    def _refuse(self, name: str, allowed: str) -> None:
        self.document.report((name,), "", found=show(self._text(name)), allowed=allowed)

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        """One of several words."""
        value = self._text(name) or default
        if value in choices:
            return value
        self._refuse(name, f"one of {', '.join(choices)}")
        return default

    def whole(self, name: str, default: int, lowest: int, highest: int) -> int:
        """A whole number within bounds."""
        text = self._text(name)
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 16 and lowest <= int(text) <= highest:
            return int(text)
        self._refuse(name, f"a whole number from {lowest} to {highest}")
        return default

    def boolean(self, name: str, default: bool) -> bool:
        """true or false, in the spellings people use."""
        text = self._text(name).lower()
        if text and text not in _TRUE + _FALSE:
            self._refuse(name, f"one of {', '.join(_TRUE + _FALSE)}")
        return text in _TRUE if text in _TRUE + _FALSE else default

    def address(self) -> str:
        """HOST and PORT as one address."""
        host = self._text("HOST") or "0.0.0.0"
        port = self.whole("PORT", 8080, 0, 65535)
        address = f"[{host}]:{port}" if ":" in host and "[" not in host else f"{host}:{port}"
        try:
            split_address(address)
        except ValueError:
            self._refuse("HOST", "an address such as 0.0.0.0 or ::1")
            return f"0.0.0.0:{port}"
        return address

    def auth(self, default: bool) -> dict[str, Any]:
        """AUTH_REQUIRED and JWT_SECRET."""
        required = self.boolean("AUTH_REQUIRED", default)
        secret = self.env.get("JWT_SECRET", "")
        if secret:
            return {"required": required, "jwt": {"secret": secret}}
        if required:
            self.document.report((), "JWT_SECRET is required when AUTH_REQUIRED is true")
        return {}

    def services(self) -> dict[str, Any]:
        """UPSTREAMS: the one variable with a structure."""
        text = self._text("UPSTREAMS") or "{}"
        try:
            upstreams = json.loads(text) if len(text) <= MAX_BYTES else None
        except (ValueError, RecursionError):
            self.document.report((), "UPSTREAMS must be valid JSON")
            return {}
        if not isinstance(upstreams, dict):
            allowed = 'an object such as {"users": ["http://localhost:3001"]}'
            self._refuse("UPSTREAMS", allowed)
            return {}
        return {name: self._instances(name, urls) for name, urls in upstreams.items()}

    def _instances(self, name: str, urls: object) -> dict[str, Any]:
        loc: Loc = ("services", name)
        words = next(
            note.words
            for note in Instance.model_fields["url"].metadata
            if isinstance(note, Allowed)
        )
        if not isinstance(urls, list) or not urls:
            self.document.report(loc, "", found=show(urls), allowed="a list of URLs, at least one")
            self.document.missing.add(loc)
            return {}
        for index, url in enumerate(urls):
            if not isinstance(url, str):
                place = (*loc, "instances", index)
                self.document.report(place, "", found=show(url), allowed=words)
                self.document.missing.add(place)
        return {"instances": urls}


def _spelled(loc: Loc) -> str:
    """A place in the configuration as the variable that sets it."""
    match loc:
        case ("services", str(name), "instances", int(index), *_):
            return key_path(("UPSTREAMS", name, index))
        case ("services", str(name), *_):
            return key_path(("UPSTREAMS", name))
        case ("auth", *_):
            return "JWT_SECRET"
        case ():
            return ""
        case _:
            return str(loc[0])
