"""Whether Redis answers: counted by a breaker, probed while it does not, and said in the log."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from rtgateway.net.log import Logger
from rtgateway.store.errors import StoreError
from rtgateway.store.redis.calls import Done
from rtgateway.store.redis.local_breaker import LocalBreaker
from rtgateway.store.redis.refusals import about_the_server

__all__ = ["Watch"]

log = Logger()

_MOST_SAID = 20
"""Reasons that are logged until Redis answers again, each once."""
_QUIET = 60.0
"""Seconds in which refusals that come and go are said once."""


class Watch:
    """See the module.

    :param where: for the log, without any password.
    :param probe: asks on a connection that is there whether scripts can write; False if there is
        none.
    :param back: called when Redis answers, and did not before.
    :ivar trouble: why it is not asked, in words for a log.
    """

    __slots__ = (
        "_back",
        "_breaker",
        "_probe",
        "_quiet",
        "_quiet_until",
        "_reactor",
        "_said",
        "_stopped",
        "_timer",
        "_where",
        "trouble",
    )

    def __init__(
        self,
        where: str,
        probe: Callable[[Done], bool],
        back: Callable[[], None],
        reactor: Any,
        random: Callable[[], float],
    ) -> None:
        self._where = where
        self._probe = probe
        self._back = back
        self._reactor = reactor
        self._breaker = LocalBreaker(random, monotonic())
        self._timer: Any = None
        self._stopped = False
        self._said: set[str] = set()
        self._quiet = False
        self._quiet_until = 0.0
        self.trouble = "not connected yet"

    @property
    def up(self) -> bool:
        return self._breaker.up

    @property
    def failing_since(self) -> float:
        """Monotonic seconds; 0.0 while up."""
        return self._breaker.failing_since

    def stop(self) -> None:
        """Nobody is to be asked any more."""
        self._stopped = True
        self._cancel()
        self._breaker.closed(monotonic())
        self.trouble = "stopped"

    # -- what is observed ---------------------------------------------------------------------

    def works(self) -> None:
        """A connection has been opened where there was none, or a probe did what it should."""
        since, now = self.failing_since, monotonic()
        if self._stopped or not self._breaker.succeeded(now):
            return
        self._cancel()
        self.trouble = ""
        self._said.clear()
        if not self._quiet:
            log.info(
                "Redis at {where} answers, after {seconds:.1f} s",
                where=self._where,
                seconds=now - since,
            )
        self._quiet = False
        self._back()

    def answered(self, *, ran: bool) -> None:
        """A call was answered in time; ``ran``: it was a script, and did what it should."""
        self._breaker.answered(ran=ran)

    def failed(self, why: str) -> None:
        """One was not; or a connection was lost, and there are others."""
        if not self._stopped and self._breaker.failed(monotonic()):
            self._gone(why)

    def refused(self, why: str) -> None:
        """A call was, and any other would have been."""
        now = monotonic()
        if not self._stopped and self._breaker.refused(now):
            # With little memory left, say, some calls are refused and some are not.
            self._quiet = now < self._quiet_until
            if not self._quiet:
                self._quiet_until = now + _QUIET
            self._gone(why)

    def lost(self, why: str) -> None:
        """The last connection was lost."""
        if not self._stopped and self._breaker.closed(monotonic()):
            self._gone(why)

    def not_opened(self, why: str) -> None:
        """There is no connection, and one could not be opened; logged when it is news."""
        if self.up:
            return
        self.trouble = why
        if why not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(why)
            log.warn("No connection to Redis at {where}: {why}", where=self._where, why=why)

    def look(self) -> None:
        """Redis may be back, as a reply came late, or a connection more: that is seen at once."""
        if self._timer is not None:
            self._timer.reset(0)

    def _gone(self, why: str) -> None:
        self.trouble = why
        if not self._quiet:
            self._say()
        self._later()

    def _say(self) -> None:
        where, why = self._where, self.trouble
        log.warn("Redis at {where} is not asked any more: {why}", where=where, why=why)

    # -- probes -------------------------------------------------------------------------------

    def _later(self) -> None:
        self._cancel()
        self._timer = self._reactor.callLater(self._breaker.pause(), self._try)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try(self) -> None:
        self._timer = None
        # The first new connection tells by itself that it works.
        if not self._probe(self._probed):
            self._later()

    def _probed(self, reply: Any, error: StoreError | None) -> None:
        if self._stopped or self.up:
            return
        if error is None or (
            error.reason == "refused" and not about_the_server(error.detail, of_script=True)
        ):
            self.works()
            return
        if self._quiet and monotonic() >= self._quiet_until:
            # It came once more, and stays.
            self._quiet = False
            self._say()
        self._later()

    def __repr__(self) -> str:
        return f"<Watch of Redis at {self._where}: {self.trouble or 'up'}>"
