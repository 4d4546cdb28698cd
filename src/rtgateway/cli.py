"""The ``rtgateway`` command: check a configuration, describe it, run a gateway or the demo.

``rtgateway run`` is the gateway in the foreground without twistd's options (user, pid file, log
file, daemon); ``twistd rtgateway`` is the same service with them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from rtgateway import __version__, config
from rtgateway.process import Foreground, configuration, install_reactor, plain_errors

__all__ = ["main"]

LEVELS = {"fatal": LogLevel.critical, "trace": LogLevel.debug}
"""The levels that ``log_level`` calls by other names than Twisted does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for what went wrong, 2 for a wrong command line."""
    arguments = parser().parse_args(argv)
    return int(arguments.command(arguments))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="rtgateway", description="A real-time API gateway.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser("check", help="tell everything that is wrong with a configuration")
    check.add_argument("file", metavar="FILE", help="YAML, or TOML by its extension")
    check.set_defaults(command=check_file)

    schema = commands.add_parser("schema", help="print the JSON Schema of the configuration")
    schema.set_defaults(command=print_schema)

    run = commands.add_parser("run", help="run the gateway in the foreground")
    run.add_argument("-c", "--config", metavar="FILE", help="default: the environment")
    run.add_argument("-p", "--port", type=port_number, help="replaces the TCP port configured")
    run.set_defaults(command=run_gateway)

    demo = commands.add_parser("demo", help="run the gateway in front of small demo services")
    demo.add_argument("--host", default="0.0.0.0", help="where to listen (default: %(default)s)")
    demo.add_argument("-p", "--port", type=port_number, default=8080, help="default: %(default)s")
    demo.set_defaults(command=run_demo)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=print_version)
    return top


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number (0 to 65535)")
    return int(text)


# Commands: each takes the parsed arguments and returns the exit status.


def check_file(arguments: argparse.Namespace) -> int:
    try:
        found = config.load(arguments.file, os.environ)
    except config.ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    services = counted(len(found.services), "service")
    print(f"{arguments.file}: ok ({services}, {counted(len(found.routes), 'route')})")
    return 0


def print_schema(arguments: argparse.Namespace) -> int:
    # `rtgateway schema | head` ends quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    print(json.dumps(config.json_schema(), indent=2))
    return 0


def print_version(arguments: argparse.Namespace) -> int:
    print(f"rtgateway {__version__}")
    return 0


def run_gateway(arguments: argparse.Namespace) -> int:
    settings = configuration(arguments.config)
    if arguments.port is not None:
        settings = with_port(settings, arguments.port)

    def gateway(reactor: Any) -> IService:
        from rtgateway.service import make_service

        return make_service(settings, reactor)

    return serve(gateway, settings.log_level)


def run_demo(arguments: argparse.Namespace) -> int:
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host

    def demo(reactor: Any) -> IService:
        from rtgateway.demo.launch import Demo

        # Flushed at once: the access log goes to the same place past Python's buffer.
        return Demo(reactor, f"{host}:{arguments.port}", say=partial(print, flush=True))

    return serve(demo, "warn")


def serve(make: Callable[[Any], IService], log_level: str) -> int:
    """Run a service until SIGINT or SIGTERM.

    :param make: is given the reactor; it imports what needs one, since none is chosen before.
    """
    begin_log(log_level)
    reactor = install_reactor()
    foreground = Foreground()
    with plain_errors():
        make(reactor).setServiceParent(foreground)
    foreground.privilegedStartService()
    foreground.startService()
    reactor.addSystemEventTrigger("before", "shutdown", foreground.stopService)
    reactor.run()
    return 0


def begin_log(level: str) -> None:
    """Log to standard error, which leaves standard output to the access log."""
    observers = []
    if level != "silent":
        lowest = LEVELS.get(level) or LogLevel.levelWithName(level)
        predicate = LogLevelFilterPredicate(defaultLogLevel=lowest)
        if lowest == LogLevel.info:
            # Twisted tells of every port and factory at this level.
            for namespace in ("twisted", "log_legacy"):
                predicate.setLogLevelForNamespace(namespace, LogLevel.warn)
        observers.append(FilteringLogObserver(textFileLogObserver(sys.stderr), [predicate]))
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False)


def with_port(settings: config.Config, port: int) -> config.Config:
    """`settings` with another port for the first TCP listener; its host and TLS stay.

    :raises SystemExit: when there is no TCP listener.
    """
    listeners = list(settings.listeners)
    for index, listener in enumerate(listeners):
        if listener.tcp is not None:
            host = listener.tcp.rpartition(":")[0]
            listeners[index] = listener.model_copy(update={"tcp": f"{host}:{port}"})
            return settings.model_copy(update={"listeners": tuple(listeners)})
    raise SystemExit("--port needs a TCP listener, and the configuration has none")


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
