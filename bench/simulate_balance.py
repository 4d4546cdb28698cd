"""The strategies of `rtgateway.core.balance` against one slow instance, in simulated time.

    .venv/bin/python bench/simulate_balance.py                # tables, and the plot of the docs
    .venv/bin/python bench/simulate_balance.py --plot none    # tables only

Requests arrive at random (Poisson), instances serve them first come, first served with a fixed
number of workers, and service times are exponential: `instances` M/M/c queues behind one balancer.
One instance takes ten times as long as the others. Everything is drawn from one seed, so that two
runs print the same and all strategies see the same arrivals.
"""

import argparse
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from rtgateway.core.balance import aged, latency_average, make_balancer

STRATEGIES = (
    "round_robin",
    "random",
    "consistent_hash",
    "least_connections",
    "least_load",
    "p2c",
)
PLOT = Path(__file__).resolve().parent.parent / "docs" / "images" / "balance.svg"


@dataclass(frozen=True)
class Setting:
    """One experiment.

    :ivar load: share of the workers of a fast instance that are busy if all get the same rate.
    :ivar service_time: seconds, the mean of a fast instance.
    :ivar slowness: factor by which the slow instance takes longer.
    :ivar slow_workers: how many requests the slow one serves at a time; `slowness` times the
        others' workers make it as able to bear its share as they are, only slower.
    :ivar clients: number of different keys, for consistent hashing.
    """

    title: str
    instances: int = 5
    workers: int = 8
    slow_workers: int = 80
    slowness: float = 10.0
    service_time: float = 0.010
    load: float = 0.65
    requests: int = 20_000
    clients: int = 1_000
    bound: float = 1.25
    seed: int = 2026

    @property
    def rate(self) -> float:
        """Requests per second, at all instances together."""
        return self.load * self.instances * self.workers / self.service_time


ROOMY = Setting("slow, with room: 10 times the time, 10 times the workers")
CROWDED = Setting("slow, and overloaded: 10 times the time, no more workers", slow_workers=8)


@dataclass
class Outcome:
    """What one strategy did.

    :ivar times: seconds from arrival to answer, sorted.
    :ivar to_slow: share of the requests that went to the slow instance.
    """

    strategy: str
    times: list[float]
    to_slow: float

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the requests was answered."""
        return self.times[math.ceil(share * len(self.times)) - 1]


@dataclass(eq=False)
class Instance:
    """A queue with workers: a `rtgateway.core.balance.Candidate`."""

    id: str
    workers: int
    service_time: float
    weight: float = 1.0
    inflight: int = 0
    latency: float = 0.0
    turn: float = 0.0
    answered: bool = False
    waiting: deque[tuple[float, float]] = field(default_factory=deque)


class Simulation:
    """A balancer, its instances, and a clock that jumps from event to event."""

    def __init__(self, setting: Setting, strategy: str) -> None:
        self._setting = setting
        self._strategy = strategy
        # What arrives does not depend on the strategy; what the strategy draws is its own.
        self._arrivals = Random(setting.seed)
        self._balancer = make_balancer(strategy, Random(setting.seed + 1).random, setting.bound)
        self._average = latency_average(strategy)
        # A number orders events of the same time, which heaps would compare by their functions.
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._times: list[float] = []
        self._to_slow = 0
        fast = setting.instances - 1
        self.instances = [
            Instance(f"10.0.0.{number + 1}:8080", setting.workers, setting.service_time)
            for number in range(fast)
        ]
        self.slow = Instance(
            f"10.0.0.{fast + 1}:8080",
            setting.slow_workers,
            setting.service_time * setting.slowness,
        )
        self.instances.append(self.slow)

    def run(self) -> Outcome:
        """All requests, to the last answer."""
        now = 0.0
        for _ in range(self._setting.requests):
            now += self._arrivals.expovariate(self._setting.rate)
            self._at(now, self._arrive)
        next_aging = 1.0
        while self._events:
            now, _, happen = heapq.heappop(self._events)
            while next_aging <= now:
                self._age()
                next_aging += 1.0
            happen(now)
        total = len(self._times)
        return Outcome(self._strategy, sorted(self._times), self._to_slow / total)

    def _at(self, when: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happen))

    def _arrive(self, now: float) -> None:
        client = self._arrivals.randrange(self._setting.clients)
        effort = self._arrivals.expovariate(1.0)
        instance = self._balancer.pick(self.instances, b"client %d" % client)
        instance.inflight += 1
        self._to_slow += instance is self.slow
        if instance.inflight <= instance.workers:
            self._begin(instance, now, effort, now)
        else:
            instance.waiting.append((now, effort))

    def _begin(self, instance: Instance, arrived: float, effort: float, now: float) -> None:
        def end(now: float) -> None:
            self._end(instance, arrived, now)

        self._at(now + effort * instance.service_time, end)

    def _end(self, instance: Instance, arrived: float, now: float) -> None:
        took = now - arrived
        self._times.append(took)
        instance.inflight -= 1
        instance.latency = self._average(instance.latency, took)
        instance.answered = True
        if instance.waiting:
            then, effort = instance.waiting.popleft()
            self._begin(instance, then, effort, now)

    def _age(self) -> None:
        for instance in self.instances:
            if not instance.answered:
                instance.latency = aged(instance.latency)
            instance.answered = False


def simulate(setting: Setting, strategies: Iterable[str] = STRATEGIES) -> list[Outcome]:
    """One outcome per strategy, under the same arrivals."""
    return [Simulation(setting, strategy).run() for strategy in strategies]


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table; the ratio is to round robin, which must be among the outcomes."""
    plain = next(each for each in outcomes if each.strategy == "round_robin")
    lines = [
        "| strategy          |   p50 ms |   p99 ms | p99, x round robin | to the slow one |",
        "|-------------------|---------:|---------:|-------------------:|----------------:|",
    ]
    for each in outcomes:
        ratio = each.quantile(0.99) / plain.quantile(0.99)
        lines.append(
            f"| {each.strategy:<17} | {each.quantile(0.5) * 1000:8.1f} |"
            f" {each.quantile(0.99) * 1000:8.1f} | {ratio:18.2g} | {each.to_slow:15.1%} |"
        )
    return "\n".join(lines)


# -- the plot ---------------------------------------------------------------------------------

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 14px; fill: #24292f }
  .name { fill: #24292f; font-family: ui-monospace, monospace }
  .grid { stroke: #8b949e; stroke-opacity: .25 }
  .span { stroke: #8b949e; stroke-opacity: .6; stroke-width: 4; stroke-linecap: round }
  .p50 { fill: #8b949e }
  .p99 { fill: #bc4c00 }
  .good .p99 { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    .title, .name { fill: #e6edf3 }
    .p99 { fill: #f0883e }
    .good .p99 { fill: #3fb950 }
  }
"""
_LEFT, _WIDTH, _ROW, _HEAD, _FOOT = 150, 720, 26, 34, 34


def plot(panels: Sequence[tuple[Setting, Sequence[Outcome]]]) -> str:
    """An SVG: a panel per setting, a row per strategy, p50 and p99 on a logarithmic axis."""
    height = sum(_HEAD + _ROW * len(outcomes) + _FOOT for _, outcomes in panels) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' aria-label="Median and 99th percentile of the response time for each strategy">',
        f"<style>{_STYLE}</style>",
    ]
    top = 0
    for setting, outcomes in panels:
        parts += _panel(setting.title, outcomes, top)
        top += _HEAD + _ROW * len(outcomes) + _FOOT
    parts += [
        f'<circle class="p50" cx="{_LEFT + 6}" cy="{top + 8}" r="5"/>'
        f'<text x="{_LEFT + 18}" y="{top + 12}">p50</text>',
        f'<circle class="p99" cx="{_LEFT + 66}" cy="{top + 8}" r="6"/>'
        f'<text x="{_LEFT + 78}" y="{top + 12}">p99</text>',
        f'<g class="good"><circle class="p99" cx="{_LEFT + 126}" cy="{top + 8}" r="6"/></g>'
        f'<text x="{_LEFT + 138}" y="{top + 12}">p99, less than half of round_robin</text>',
        "</svg>\n",
    ]
    return "\n".join(parts)


def _panel(title: str, outcomes: Sequence[Outcome], top: int) -> list[str]:
    times = [each.quantile(share) * 1000 for each in outcomes for share in (0.5, 0.99)]
    ticks = _ticks(min(times), max(times))
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def x(milliseconds: float) -> float:
        share = (math.log(milliseconds) - low) / (high - low)
        return round(_LEFT + share * (_WIDTH - _LEFT - 70), 1)

    first = top + _HEAD
    bottom = first + _ROW * len(outcomes)
    parts = [f'<text class="title" x="0" y="{top + 18}">{title}</text>']
    parts += [
        f'<line class="grid" x1="{x(tick)}" y1="{first - 4}" x2="{x(tick)}" y2="{bottom}"/>'
        f'<text x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">{_spoken(tick)}</text>'
        for tick in ticks
    ]
    plain = next(each for each in outcomes if each.strategy == "round_robin").quantile(0.99)
    for row, each in enumerate(outcomes):
        y = first + _ROW * row + _ROW // 2
        half, most = each.quantile(0.5) * 1000, each.quantile(0.99) * 1000
        group = '<g class="good">' if most < plain * 500 else "<g>"
        parts.append(
            f"{group}"
            f'<text class="name" x="0" y="{y + 4}">{each.strategy}</text>'
            f'<line class="span" x1="{x(half)}" y1="{y}" x2="{x(most)}" y2="{y}"/>'
            f'<circle class="p50" cx="{x(half)}" cy="{y}" r="5"/>'
            f'<circle class="p99" cx="{x(most)}" cy="{y}" r="6"/>'
            f'<text x="{x(most) + 12}" y="{y + 4}">{_spoken(most)}</text></g>'
        )
    return parts


def _ticks(low: float, high: float) -> list[int]:
    """1, 2, 5, 10, ... ms, or only powers of ten, so that all values are between them."""
    leading = (1, 2, 5) if high < 100 * low else (1,)
    steps = [digit * 10**power for power in range(7) for digit in leading]
    begin = max((at for at, step in enumerate(steps) if step <= low), default=0)
    return steps[begin : next(at for at, step in enumerate(steps) if step >= high) + 1]


def _spoken(milliseconds: float) -> str:
    if milliseconds < 1000:
        return f"{milliseconds:.3g} ms"
    return f"{milliseconds / 1000:.3g} s"


def main() -> None:
    """Simulate, print, plot."""
    parser = argparse.ArgumentParser(description="Strategies against one slow instance.")
    parser.add_argument("--plot", default=str(PLOT), help="where the SVG goes, or 'none'")
    arguments = parser.parse_args()
    panels = [(setting, simulate(setting)) for setting in (ROOMY, CROWDED)]
    for setting, outcomes in panels:
        print(f"{setting.title}; {setting.requests} requests at {setting.rate:.0f}/s\n")
        print(table(outcomes), end="\n\n")
    if arguments.plot != "none":
        path = Path(arguments.plot)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(plot(panels))


if __name__ == "__main__":
    main()
