"""``twistd rtgateway``: its options, and the service that twistd runs.

The plugin in ``twisted/plugins`` names this module, and twistd imports it only when the subcommand
is used. A reactor asked for with ``--reactor`` is installed by then; otherwise none is yet.
"""

from __future__ import annotations

from twisted.application.service import IService
from twisted.python import usage

from rtgateway import __version__
from rtgateway.process import Foreground, configuration, install_reactor, plain_errors

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """``twistd rtgateway [--config FILE]``."""

    synopsis = "[--config FILE]"
    longdesc = (
        "Without --config, the configuration is taken from the environment: "
        "UPSTREAMS, HOST, PORT, AUTH_REQUIRED, JWT_SECRET, HTTP_PROXY_TIMEOUT_MS, LOG_LEVEL."
    )
    optParameters = (("config", "c", None, "Configuration file: YAML, or TOML by its extension."),)
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.(yaml|yml|toml)")})

    def opt_version(self) -> None:
        """Show the version of rtgateway and exit."""
        print(f"rtgateway {__version__}")
        raise SystemExit(0)


def makeService(options: Options) -> IService:
    """The gateway as configured.

    :raises SystemExit: with everything that is wrong with the configuration, or what can't be had.
    """
    settings = configuration(options["config"])
    reactor = install_reactor()
    # Importing it only now leaves the choice of the reactor to the line above.
    from rtgateway.service import make_service

    with plain_errors():
        gateway = make_service(settings, reactor)
    if options.parent is not None and not options.parent["nodaemon"]:
        return gateway
    foreground = Foreground()
    gateway.setServiceParent(foreground)
    return foreground
