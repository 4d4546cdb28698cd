"""The variables of the environment dialect, for the reference page."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VARIABLES", "Variable"]


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
    Variable(
        "RATE_LIMIT_MAX",
        "`200`, if the next one is set",
        "Requests of an address in a window: the limiter `rate_limit_max`. Off unless this one or "
        "the next one is set.",
    ),
    Variable(
        "RATE_LIMIT_WINDOW_MS",
        "`60000`, if the one above is set",
        "Length of the window, which begins with its first request.",
    ),
    Variable(
        "RATE_LIMIT_CAPACITY",
        "`100`, if the next one is set",
        "Requests of an address at once: the limiter `rate_limit_capacity`, a token bucket. Off "
        "unless this one or the next one is set.",
    ),
    Variable(
        "RATE_LIMIT_REFILL_RATE",
        "`10`, if the one above is set",
        "Requests per second in the long run.",
    ),
    Variable("REDIS_URL", "", "As `state.url`: limits hold for all gateways with the same Redis."),
    Variable("REDIS_HOST", "", "The same by host, if there is no `REDIS_URL`."),
    Variable("REDIS_PORT", "`6379`", "Port of Redis on `REDIS_HOST`."),
    Variable("REDIS_PASSWORD", "", "As `state.password`, if the URL has none."),
    Variable("REDIS_DB", "`0`", "As `state.db`, if the URL has none."),
    Variable(
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD",
        "`5`",
        "As `circuit_breaker.failure_threshold`, of every service. If this one or one of the next "
        "two is set and there is a Redis, circuits are shared.",
    ),
    Variable(
        "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
        "`30`",
        "As `circuit_breaker.timeout`, of every service.",
    ),
    Variable(
        "CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD",
        "`2`",
        "As `circuit_breaker.success_threshold`, of every service.",
    ),
)
