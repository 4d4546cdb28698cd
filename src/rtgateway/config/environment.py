"""The environment dialect: the variables of the Real-Time API Gateway, its defaults, its failures.

Those of the Resilient API Gateway for limits, circuits and Redis work besides.

Used when no configuration file is given. A variable that is set but empty counts as not set, as
compose files and ``.env`` templates leave them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from rtgateway.config.document import MAX_BYTES, Document, Loc
from rtgateway.config.explain import validated
from rtgateway.config.listeners import split_address
from rtgateway.config.model import Config, Environment, LogLevel
from rtgateway.config.problems import key_path, show
from rtgateway.config.redis_urls import MAX_DATABASE, REDIS_PORT, split_redis_url
from rtgateway.config.resilience import CircuitBreaker
from rtgateway.config.section import Allowed
from rtgateway.config.services import Instance
from rtgateway.config.state import MEMORY
from rtgateway.config.units import MAX_SIZE
from rtgateway.config.urls import split_host_port
from rtgateway.config.websocket import SMALLEST_BUFFER

__all__ = ["from_environment"]

NAME = "environment"
"""What problems call it in place of a file name."""

_TRUE = ("true", "1", "yes", "y", "on")
_FALSE = ("false", "0", "no", "n", "off")
_BODY_LIMIT = 1 << 20
MAX_LIMITER = "rate_limit_max"
CAPACITY_LIMITER = "rate_limit_capacity"
_MOST_REQUESTS = 1_000_000_000
_FASTEST = 1_000_000
_CIRCUIT = "CIRCUIT_BREAKER_"
_MAX_MILLISECONDS = 86_400_000
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)

_PLACES = {
    ("state", "url"): "REDIS_URL",
    ("state", "password"): "REDIS_PASSWORD",
    ("state", "db"): "REDIS_DB",
    ("rate_limits", MAX_LIMITER): "RATE_LIMIT_MAX",
    ("rate_limits", CAPACITY_LIMITER): "RATE_LIMIT_CAPACITY",
}
"""Which variable sets what the models may refuse."""


def from_environment(env: Mapping[str, str]) -> Config:
    """The configuration in ``env``.

    :raises ConfigError: for everything that is wrong with it, all at once; the problems' keys are
        names of variables (``UPSTREAMS.users[0]``).
    """
    variables = _Variables(env)
    environment = variables.choice("NODE_ENV", get_args(Environment), "development")
    timeout = variables.whole("HTTP_PROXY_TIMEOUT_MS", 30_000, 1, _MAX_MILLISECONDS) / 1000
    state = variables.state()
    delay = variables.whole("UNDER_PRESSURE_MAX_EVENT_LOOP_DELAY_MS", 1000, 0, 3_600_000) / 1000
    variables.document.data = {
        "listeners": [{"tcp": variables.address()}],
        "services": variables.services(variables.circuit_breaker(bool(state))),
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
        "state": state,
        "rate_limits": variables.rate_limits(),
        "environment": environment,
    }
    return validated(variables.document, {}, Config)


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

    def number(self, name: str, default: float, highest: float) -> float:
        """A number above 0, whole or not."""
        text = self._text(name)
        if not text:
            return default
        if _NUMBER.fullmatch(text) and 0 < float(text) <= highest:
            return float(text)
        self._refuse(name, f"a number above 0, at most {highest:.0f}")
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

    def state(self) -> dict[str, Any]:
        """REDIS_URL, or else REDIS_HOST, with what belongs to it; empty without either."""
        url = self._text("REDIS_URL") or self._redis_at_host()
        password = self.env.get("REDIS_PASSWORD", "")
        db = self.whole("REDIS_DB", 0, 0, MAX_DATABASE)
        if url == MEMORY:
            return {}
        if not url:
            given = ("REDIS_PORT", "REDIS_PASSWORD", "REDIS_DB")
            for name in filter(self._text, () if self._text("REDIS_HOST") else given):
                self.document.report((name,), "no Redis at all", allowed="REDIS_HOST or REDIS_URL")
            return {}
        try:
            parts = split_redis_url(url)
        except ValueError:
            return {"url": url}  # refused by the model, in its words
        state: dict[str, Any] = {"url": url}
        if password and not parts.password.get_secret_value():
            state["password"] = password
        if db and parts.db is None:
            state["db"] = db
        return state

    def _redis_at_host(self) -> str:
        host = self._text("REDIS_HOST")
        port = self.whole("REDIS_PORT", REDIS_PORT, 1, 65535)
        if not host:
            return ""
        bracketed = f"[{host}]" if ":" in host and "[" not in host else host
        if split_host_port(f"{bracketed}:{port}") is None:
            self._refuse("REDIS_HOST", "a host name or an address such as redis or 10.0.0.7")
            return ""
        return f"redis://{bracketed}:{port}"

    def rate_limits(self) -> dict[str, Any]:
        """A limiter for either pair of variables of which one is set."""
        limiters: dict[str, Any] = {}
        most = self.whole("RATE_LIMIT_MAX", 200, 1, _MOST_REQUESTS)
        window = self.whole("RATE_LIMIT_WINDOW_MS", 60_000, 1, _MAX_MILLISECONDS) / 1000
        if self._text("RATE_LIMIT_MAX") or self._text("RATE_LIMIT_WINDOW_MS"):
            limiters[MAX_LIMITER] = {"algorithm": "fixed_window", "limit": most, "window": window}
        capacity = self.whole("RATE_LIMIT_CAPACITY", 100, 1, _MOST_REQUESTS)
        rate = self.number("RATE_LIMIT_REFILL_RATE", 10.0, _FASTEST)
        if self._text("RATE_LIMIT_CAPACITY") or self._text("RATE_LIMIT_REFILL_RATE"):
            limiters[CAPACITY_LIMITER] = {"capacity": capacity, "refill_rate": rate}
        return limiters

    def circuit_breaker(self, shared: bool) -> dict[str, Any]:
        """CIRCUIT_BREAKER_*; empty when none of them is set."""
        names = ("FAILURE_THRESHOLD", "RESET_TIMEOUT_SECONDS", "HALF_OPEN_SUCCESS_THRESHOLD")
        settings: dict[str, Any] = {
            "failure_threshold": self.whole(_CIRCUIT + names[0], 5, 1, 1_000_000),
            "timeout": (timeout := self.number(_CIRCUIT + names[1], 30.0, 86400.0)),
            "success_threshold": self.whole(_CIRCUIT + names[2], 2, 1, 1_000_000),
            "shared": shared,
            "max_timeout": max(timeout, CircuitBreaker.model_fields["max_timeout"].default),
        }
        return settings if any(self._text(_CIRCUIT + name) for name in names) else {}

    def services(self, circuit_breaker: Mapping[str, Any]) -> dict[str, Any]:
        """UPSTREAMS, the one variable with a structure; ``circuit_breaker`` is for all of them."""
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
        services = {name: self._instances(name, urls) for name, urls in upstreams.items()}
        if circuit_breaker:
            services = {
                name: settings | {"circuit_breaker": circuit_breaker}
                for name, settings in services.items()
            }
        return services

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
        case (str(section), str(name), *_) if (section, name) in _PLACES:
            return _PLACES[section, name]
        case ():
            return ""
        case _:
            return str(loc[0])
