"""How traffic is divided: shares, names, and what a change of shares moves."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.split import Split
from tests.core.profile import PROPERTY

__all__: list[str] = []


def split(random: Callable[[], float], *shares: float) -> Split[str]:
    """A split between MAIN and A, B, C of these shares."""
    return Split(
        ("main", "MAIN"),
        [(name, name.upper(), share) for name, share in zip("abc", shares, strict=False)],
        random,
    )


class SplitTests(SynchronousTestCase):
    def test_shares(self) -> None:
        """Each gets its share of a hundred evenly spread numbers, and the default the rest."""
        for shares in ((0.1,), (0.25, 0.25), (0.0, 0.5, 0.25), (1.0,), (0.0,), (0.5, 0.5)):
            ways = split(iter([n / 100 for n in range(100)]).__next__, *shares)
            chosen = [ways.choose() for _ in range(100)]
            self.assertEqual(
                [chosen.count(name) for name in "ABC"[: len(shares)]],
                [round(share * 100) for share in shares],
            )
            self.assertEqual(chosen.count("MAIN"), 100 - round(sum(shares) * 100))

    def test_by_chance(self) -> None:
        """With real randomness the shares are met within five standard deviations."""
        ways = split(Random(1).random, 0.05)
        canary = sum(ways.choose() == "A" for _ in range(20_000))
        self.assertLess(abs(canary - 1000), 5 * (20_000 * 0.05 * 0.95) ** 0.5)

    def test_names(self) -> None:
        """All services can be asked for by name, those without a share and the default too."""
        ways = split(lambda: 0.5, 0.0, 0.2)
        self.assertEqual([ways.named(name) for name in (b"main", b"a", b"b")], ["MAIN", "A", "B"])
        for name in (b"", b"c", b"A", b"Main", b"a ", b"\xff"):
            self.assertIsNone(ways.named(name), name)

    @PROPERTY
    @given(st.floats(0, 1, exclude_max=True), st.lists(st.floats(0, 0.3), max_size=3))
    def test_any_number(self, number: float, shares: list[float]) -> None:
        """One is always chosen, and never one that has no share."""
        chosen = split(lambda: number, *shares).choose()
        if chosen != "MAIN":
            self.assertGreater(shares["ABC".index(chosen)], 0)

    def test_nothing_is_left(self) -> None:
        """Three thirds are all: the default gets nothing."""
        ways = split(lambda: 0.999999, *[1 / 3] * 3)
        self.assertEqual(ways.choose(), "C")

    def test_repr(self) -> None:
        self.assertEqual(repr(split(lambda: 0.0, 0.5)), "<Split 2 ways>")
