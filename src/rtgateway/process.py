"""The gateway as a process: what ``twistd rtgateway`` and the ``rtgateway`` command share.

Everything that can go wrong before the first request ends the process with plain sentences on
standard error and exit status 1; a traceback means a defect.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.application.service import MultiService

from rtgateway import config
from rtgateway.net import reactor as lean_reactor
from rtgateway.net.listen import ListenError
from rtgateway.net.tls import CertificateFileError

__all__ = ["Foreground", "configuration", "install_reactor", "plain_errors"]


@contextmanager
def plain_errors() -> Iterator[None]:
    """Around what makes and starts services: `SystemExit` with a sentence when it can't be done."""
    try:
        yield
    except (CertificateFileError, ListenError, OSError) as error:
        raise SystemExit(f"rtgateway: {error}") from error


def configuration(path: str | None) -> config.Config:
    """The configuration in the file `path`, or the one in the environment when there is none.

    :raises SystemExit: with everything that is wrong with it.
    """
    try:
        return config.load(path) if path else config.from_environment(os.environ)
    except config.ConfigError as error:
        raise SystemExit(str(error)) from error


def install_reactor() -> Any:
    """Install the lean reactor, unless one was chosen already, and return what is installed."""
    lean_reactor.install()
    from twisted.internet import reactor

    return reactor


class Foreground(MultiService):
    """Ends the process with a sentence when a service in it can't start.

    Only for a process with a terminal or a supervisor to tell it to: a daemon reports the
    exception itself to the process that started it.
    """

    def privilegedStartService(self) -> None:
        with plain_errors():
            super().privilegedStartService()

    def startService(self) -> None:
        with plain_errors():
            super().startService()
