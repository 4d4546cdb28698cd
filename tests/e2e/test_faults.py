"""One of three instances fails in every way we know, under load, and clients notice nothing.

Real processes: ``twistd rtgateway``, three instances, a name server. ``docs/faults.md`` tells what
is measured and has the figures of a longer run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.faults.findings import Findings, measure
from tests.e2e.faults.load import GET, POST
from tests.e2e.faults.plays import PLAYS, Play
from tests.e2e.faults.stage import Stage

__all__: list[str] = []

RATES = {"plain": 200.0, "secure": 100.0, "named": 200.0}
"""Requests per second, by service. Handshakes cost: a busy machine must not fall behind."""
SECONDS = 2.5
"""How long a fault lasts at least."""
LOST = {
    "50 % 500s": 10,
    "resets on reuse": 10,
    "latency x100": 0,
    "bad certificate": 0,
    "DNS returns nothing": 0,
    "rolling restart": 0,
}
"""POST requests that may fail until an instance is ejected, and while it is tried again: those
that a circuit has to see (``failure_threshold``, else ``minimum_calls``). Where nothing reaches the
instance, or everything is answered, none may."""
LOST_ELSE = 5


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """All processes, for all faults; what one leaves behind the next one would meet."""
    stage = Stage(tmp_path_factory.mktemp("faults"))
    try:
        asyncio.run(stage.ready())
        yield stage
        stage.gateway.stop()
    finally:
        stage.close()


def missed(findings: Findings) -> Iterator[str]:
    """What holds for every fault."""
    tally, times = findings.tally, findings.times
    if sum(tally.sent.values()) < RATES[findings.play.service] * SECONDS:
        yield "there was too little load"
    if times.recover is None or times.recover >= 5:
        yield "it did not recover in time"
    if findings.play.certain and (times.eject is None or times.eject >= 5):
        yield "it was not ejected in time"
    if findings.amplification > 1.2:
        yield "instances received too many requests"
    if findings.late_truncated:
        yield "answers were truncated after it was ejected"
    if findings.left:
        yield "something is left"


@pytest.mark.parametrize("play", [each for each in PLAYS if each.victims < 3], ids=lambda p: p.name)
def test_a_fault_that_clients_do_not_notice(stage: Stage, play: Play) -> None:
    """No GET fails; a POST only if its instance had it in hand before it was ejected."""
    try:
        findings = asyncio.run(measure(stage, play, RATES[play.service], SECONDS))
    finally:
        asyncio.run(stage.mend())
    tally = findings.tally
    problems = list(missed(findings))
    if tally.errors(GET):
        problems.append("a GET failed")
    if tally.errors(POST) > LOST.get(play.name, LOST_ELSE):
        problems.append("too many POSTs failed")
    if tally.truncated() and play.name != "closes mid-body":
        problems.append("an answer was truncated")
    if play.name in _HARMFUL and not findings.retries + len(tally.troubles):
        problems.append("nobody met the fault")
    assert not problems, f"{'; '.join(problems)}\n{findings}"


_HARMFUL = {play.name for play in PLAYS if play.victims == 1} - {
    "latency x100",
    "rolling restart",
    "bad certificate",  # where little is asked over TLS, a health check may be the first to see it
}


def test_all_down_and_back(stage: Stage) -> None:
    """Every client is told at once, and served again as soon as there is somebody."""
    (play,) = (each for each in PLAYS if each.victims == 3)
    try:
        findings = asyncio.run(measure(stage, play, RATES[play.service], SECONDS))
    finally:
        asyncio.run(stage.mend())
    times, troubles = findings.times, findings.tally.troubles
    problems = list(missed(findings))
    if {each.what for each in troubles} - {"502", "503"} or not troubles:
        problems.append("who can't be served is to be told so")
    if any(each.seconds > 5 for each in troubles):
        problems.append("somebody waited for an error")
    if any(each.at > times.ended + (times.recover or 0) for each in troubles):
        problems.append("errors go on after the instances are back")
    assert not problems, f"{'; '.join(problems)}\n{findings}"
