"""What can be configured: typed models, loading with plain-spoken problems, and the reference."""

from rtgateway.config.auth import Auth, Jwt
from rtgateway.config.bounds import Connections, Limits, Timeouts
from rtgateway.config.environment import from_environment
from rtgateway.config.listeners import Certificate, Listener, Tls
from rtgateway.config.load import from_dict, load, parse
from rtgateway.config.model import Config
from rtgateway.config.operation import AccessLog, Admin, Pressure, Shutdown, Sse, Tracing
from rtgateway.config.problems import ConfigError, Problem
from rtgateway.config.reference import json_schema, reference_markdown
from rtgateway.config.routes import Route, RouteTimeouts
from rtgateway.config.services import Instance, Pool, Service, ServiceTimeouts, UpstreamTls

__all__ = [
    "AccessLog",
    "Admin",
    "Auth",
    "Certificate",
    "Config",
    "ConfigError",
    "Connections",
    "Instance",
    "Jwt",
    "Limits",
    "Listener",
    "Pool",
    "Pressure",
    "Problem",
    "Route",
    "RouteTimeouts",
    "Service",
    "ServiceTimeouts",
    "Shutdown",
    "Sse",
    "Timeouts",
    "Tls",
    "Tracing",
    "UpstreamTls",
    "from_dict",
    "from_environment",
    "json_schema",
    "load",
    "parse",
    "reference_markdown",
]
