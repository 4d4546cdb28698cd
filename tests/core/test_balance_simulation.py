"""Strategies against one slow instance, in the simulation that the documentation shows."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

SOURCE = Path(__file__).resolve().parents[2] / "bench" / "simulate_balance.py"


def load() -> Any:
    """The simulation; the bench is no package."""
    spec = spec_from_file_location("simulate_balance", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up by its name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class SlowInstanceTests(SynchronousTestCase):
    bench = load()

    def test_beats_round_robin(self) -> None:
        """One of five instances is ten times slower: p99 is less than half of round robin's."""
        for setting in (self.bench.ROOMY, self.bench.CROWDED):
            outcomes = self.bench.simulate(
                replace(setting, requests=6000), ("round_robin", "least_load", "p2c")
            )
            plain, *others = (each.quantile(0.99) for each in outcomes)
            for outcome, other in zip(outcomes[1:], others, strict=True):
                self.assertLess(other, plain / 2, (setting.title, outcome.strategy))
            for outcome in outcomes[1:]:
                self.assertLess(outcome.to_slow, 0.05)
                self.assertGreater(outcome.to_slow, 0.0)

    def test_everybody_is_answered(self) -> None:
        """Each strategy brings each request to an end; round robin gives each of five a fifth."""
        outcomes = self.bench.simulate(replace(self.bench.ROOMY, requests=1000))
        self.assertEqual({len(each.times) for each in outcomes}, {1000})
        self.assertEqual(outcomes[0].strategy, "round_robin")
        self.assertEqual(outcomes[0].to_slow, 0.2)

    def test_repeatable(self) -> None:
        """The same seed prints the same table and draws the same plot, which is valid XML."""
        setting = replace(self.bench.CROWDED, requests=500)
        one, two = self.bench.simulate(setting), self.bench.simulate(setting)
        self.assertEqual(self.bench.table(one), self.bench.table(two))
        drawn = self.bench.plot([(setting, one)])
        self.assertEqual(drawn, self.bench.plot([(setting, two)]))
        circles = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}circle")
        self.assertEqual(len(list(circles)), 2 * len(one) + 3)
