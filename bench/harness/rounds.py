"""Interleaved rounds: A B C, A B C, ... so that a machine that drifts drifts for everybody.

Ratios are taken within a round and their median is reported; so are medians of everything else.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from harness.load import Outcome
from harness.machine import Cores, CoreTime
from harness.processes import BenchError, Usage
from harness.proxies import Running

NOTHING_USED = Usage(0.0, 0.0)
NOISE = 0.05  # share of a core above which a reader is warned


@dataclass(frozen=True)
class Entrant:
    """One row of the table. `running` is None for load that goes straight to the upstream.

    `prepare`, which takes the same seconds, and `finish` come before and after each measurement and
    are not part of it.
    """

    label: str
    running: Running | None
    measure: Callable[[float], Outcome]  # takes seconds
    prepare: Callable[[float], None] = lambda seconds: None
    finish: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Sample:
    """One measurement of one entrant, with what the two cores did meanwhile."""

    outcome: Outcome
    elapsed: float  # seconds, warm-up of the load included
    usage: Usage  # the proxy's own processor seconds; interrupts are charged to nobody
    proxy_core: CoreTime
    load_core: CoreTime

    @property
    def proxy_share(self) -> float:
        """How busy the proxy's core was, 0 to 1."""
        return self.proxy_core.busy / self.elapsed

    @property
    def load_share(self) -> float:
        return self.load_core.busy / self.elapsed

    @property
    def foreign_share(self) -> float:
        """What programs other than the proxy took of its core."""
        return max(0.0, self.proxy_core.programs - self.usage.total) / self.elapsed

    @property
    def stolen_share(self) -> float:
        return (self.proxy_core.stolen + self.load_core.stolen) / 2 / self.elapsed

    @property
    def micros_per_request(self) -> float:
        return self.usage.total / max(1, self.outcome.requests) * 1e6


@dataclass
class Rounds:
    """All samples by label, and the entrants that broke on the way with the reason."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def median(self, label: str, value: Callable[[Sample], float]) -> float:
        return statistics.median(value(sample) for sample in self.samples[label])

    def rate(self, label: str) -> float:
        return self.median(label, lambda sample: sample.outcome.rate)

    def ratio(
        self,
        label: str,
        other: str,
        value: Callable[[Sample], float] = lambda sample: sample.outcome.rate,
    ) -> float | None:
        """Median over the rounds of label's value to other's; None when either is not there."""
        mine, theirs = self.samples.get(label), self.samples.get(other)
        if not mine or not theirs:
            return None
        pairs = [(value(a), value(b)) for a, b in zip(mine, theirs, strict=True)]
        if any(b <= 0 for _a, b in pairs):
            return None
        return statistics.median(a / b for a, b in pairs)

    def notes(self) -> list[str]:
        """What a reader must know before believing the numbers."""
        notes = [f"{label} broke and was left out: {why}" for label, why in self.broken.items()]
        for what, share in (
            ("other programs", lambda sample: sample.foreign_share),
            ("the host of this virtual machine", lambda sample: sample.stolen_share),
        ):
            worst = max((self.median(label, share) for label in self.samples), default=0.0)
            if worst > NOISE:
                notes.append(f"{what} took up to {worst:.0%} of the proxy's core: repeat")
        return notes


def interleave(
    entrants: Sequence[Entrant],
    *,
    rounds: int,
    seconds: float,
    cores: Cores,
    progress: Callable[[str], None],
    warm_up: float = 1.0,
) -> Rounds:
    """Measure every entrant `rounds` times in turn. One that breaks is dropped with its samples."""
    result = Rounds(samples={entrant.label: [] for entrant in entrants})
    for number in range(rounds + (1 if warm_up else 0)):
        warming = bool(warm_up) and number == 0
        progress("warming up" if warming else f"round {number + (not warm_up)} of {rounds}")
        for entrant in _still_whole(entrants, result):
            try:
                sample = _sample(entrant, warm_up if warming else seconds, cores)
            except BenchError as error:
                result.broken[entrant.label] = str(error)
                del result.samples[entrant.label]
            else:
                if not warming:
                    result.samples[entrant.label].append(sample)
    return result


def _still_whole(entrants: Iterable[Entrant], result: Rounds) -> list[Entrant]:
    return [entrant for entrant in entrants if entrant.label not in result.broken]


def _sample(entrant: Entrant, seconds: float, cores: Cores) -> Sample:
    entrant.prepare(seconds)
    child = entrant.running.child if entrant.running else None
    usage = child.usage() if child else NOTHING_USED
    cores_before = CoreTime.now(cores.proxy), CoreTime.now(cores.load)
    started = time.monotonic()
    outcome = entrant.measure(seconds)
    elapsed = time.monotonic() - started
    proxy_core = CoreTime.now(cores.proxy) - cores_before[0]
    load_core = CoreTime.now(cores.load) - cores_before[1]
    if child is not None:
        child.check()
        usage = child.usage() - usage
    entrant.finish()
    if entrant.running is not None:
        entrant.running.empty_logs()
    return Sample(outcome, elapsed, usage, proxy_core, load_core)
