"""What can be configured: typed models, loading with plain-spoken problems, and the reference."""

from rtgateway.config.auth import Auth, Jwt
from rtgateway.config.balancing import Balance
from rtgateway.config.bounds import Connections, Limits, Timeouts
from rtgateway.config.checks import DependencyCheck, HealthCheck
from rtgateway.config.discovery import Discovery, DnsDiscovery, FileDiscovery
from rtgateway.config.environment import from_environment
from rtgateway.config.ip_lists import IpLists
from rtgateway.config.listeners import Certificate, Listener, Tls
from rtgateway.config.load import from_dict, load, parse
from rtgateway.config.model import Config
from rtgateway.config.operation import AccessLog, Admin, Pressure, Shutdown, Sse, Tracing
from rtgateway.config.penalties import Penalties
from rtgateway.config.problems import ConfigError, Problem
from rtgateway.config.quotas import Numbers, Quota
from rtgateway.config.rate_limits import Adaptive, Cost, Exempt, Per, Plans, RateLimit
from rtgateway.config.redis_tls import RedisTls
from rtgateway.config.reference import reference_markdown
from rtgateway.config.resilience import Budget, CircuitBreaker, Concurrency, Hedge, Outliers, Retry
from rtgateway.config.routes import Route, RouteTimeouts
from rtgateway.config.schema import json_schema
from rtgateway.config.sentinel import Sentinel
from rtgateway.config.services import Instance, Pool, Service, ServiceTimeouts, UpstreamTls
from rtgateway.config.shaping import Faults, Mirror, Split, SplitTo
from rtgateway.config.state import Leases, State
from rtgateway.config.websocket import WebSocket, effective

__all__ = [
    "AccessLog",
    "Adaptive",
    "Admin",
    "Auth",
    "Balance",
    "Budget",
    "Certificate",
    "CircuitBreaker",
    "Concurrency",
    "Config",
    "ConfigError",
    "Connections",
    "Cost",
    "DependencyCheck",
    "Discovery",
    "DnsDiscovery",
    "Exempt",
    "Faults",
    "FileDiscovery",
    "HealthCheck",
    "Hedge",
    "Instance",
    "IpLists",
    "Jwt",
    "Leases",
    "Limits",
    "Listener",
    "Mirror",
    "Numbers",
    "Outliers",
    "Penalties",
    "Per",
    "Plans",
    "Pool",
    "Pressure",
    "Problem",
    "Quota",
    "RateLimit",
    "RedisTls",
    "Retry",
    "Route",
    "RouteTimeouts",
    "Sentinel",
    "Service",
    "ServiceTimeouts",
    "Shutdown",
    "Split",
    "SplitTo",
    "Sse",
    "State",
    "Timeouts",
    "Tls",
    "Tracing",
    "UpstreamTls",
    "WebSocket",
    "effective",
    "from_dict",
    "from_environment",
    "json_schema",
    "load",
    "parse",
    "reference_markdown",
]
