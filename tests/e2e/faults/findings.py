"""What came of a play: counts, times and the row of a table."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.faults.load import GET, POST, Load, Tally
from tests.e2e.faults.plays import Play, Times
from tests.e2e.faults.stage import Stage

__all__ = ["COLUMNS", "Findings", "measure"]

_SETTLES = 0.3
"""Seconds of steady load before and after."""

COLUMNS = (
    "fault",
    "GET",
    "errors",
    "POST",
    "errors",
    "truncated",
    "retries",
    "eject s",
    "recover s",
    "amplification",
    "p99 ms",
)


@dataclass(frozen=True)
class Findings:
    """Of one play.

    :ivar retries: tries beyond the first that the gateway made.
    :ivar amplification: requests that instances received for each one that clients sent.
    :ivar left: what was not as before in the end, in words.
    """

    play: Play
    tally: Tally
    times: Times
    retries: int
    amplification: float
    left: list[str]

    @property
    def late_truncated(self) -> int:
        """Truncated answers to requests sent after the instance was ejected."""
        return self.tally.truncated(self.times.ejected or float("inf"))

    def row(self) -> Sequence[str]:
        """For a table with `COLUMNS`."""
        tally, times = self.tally, self.times
        return (
            self.play.name,
            f"{tally.sent[GET]:,}",
            _share(tally.errors(GET), tally.sent[GET]),
            f"{tally.sent[POST]:,}",
            _share(tally.errors(POST), tally.sent[POST]),
            str(tally.truncated()),
            str(self.retries),
            _seconds(times.eject),
            _seconds(times.recover),
            f"{self.amplification:.3f}",
            f"{tally.quantile(0.99) * 1000:.0f}",
        )

    def __str__(self) -> str:
        lines = [" | ".join(self.row()), *self.left]
        lines += [
            f"{each.method} at {each.at - self.times.began:+.3f} s, {each.seconds:.3f} s: "
            f"{each.what} by {each.instance}"
            for each in self.tally.troubles[:40]
        ]
        return "\n".join(lines)


async def measure(
    stage: Stage, play: Play, rate: float, seconds: float, ramp: float = 0.5
) -> Findings:
    """Play it under load: ``rate`` requests a second, the fault lasting for ``seconds``.

    :param ramp: seconds until the load has that rate.
    """
    stage.service = play.service
    received, retries = stage.received, await stage.retries()
    load = Load(stage.gateway.port, f"/api/{play.service}/orders/7", rate, ramp)
    await load.start()
    try:
        await asyncio.sleep(ramp + _SETTLES)
        load.tally.latencies.clear()
        times = await play.run(stage, seconds)
        await asyncio.sleep(_SETTLES)
    finally:
        tally = await load.stop()
    left = await stage.left_over()
    amplification = (stage.received - received) / sum(tally.sent.values())
    return Findings(play, tally, times, await stage.retries() - retries, amplification, left)


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.2%})" if count else "0"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
