"""The table of keys: its bound, what it forgets, and when."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.core.limits import KeyTable

EVER = 1e9


class KeyTableTests(SynchronousTestCase):
    def test_states(self) -> None:
        """What is set is there until it is deleted, a state of 0 too."""
        table = KeyTable(10, 60.0)
        self.assertIsNone(table.get("a"))
        table.set("a", 0.0)
        table.set("b", 1 + 2j)
        table.set("a", 0.0)
        self.assertEqual((table.get("a"), table.get("b"), len(table)), (0.0, 1 + 2j, 2))
        self.assertTrue(table.delete("a"))
        self.assertFalse(table.delete("a"))
        self.assertEqual((table.get("a"), len(table)), (None, 1))

    def test_bound(self) -> None:
        """Never more than the most, and while it is full at least half of it."""
        for most in (1, 2, 3, 10, 1000, 20_000):
            table = KeyTable(most, EVER)
            for i in range(3 * most + 100):
                table.set(f"{i}", 1.0)
                self.assertLessEqual(len(table), most)
                if i >= most:
                    self.assertGreaterEqual(len(table), most // 2)
            self.assertEqual(len(table), len(_kept(table)))

    def test_filled_without_a_loss(self) -> None:
        """While there is room, nothing is forgotten: however its keys fall upon the shards."""
        table = KeyTable(50_000, EVER)
        for i in range(50_000):
            table.set(f"{i}", float(i))
        self.assertEqual(len(table), 50_000)
        self.assertTrue(all(table.get(f"{i}") == float(i) for i in range(50_000)))

    def test_used_are_kept(self) -> None:
        """Who comes often stays, however many others come but once."""
        for most in (8, 100, 1000, 20_000):
            table = KeyTable(most, EVER)
            table.set("often", -1.0)
            for i in range(4 * most):
                table.set(f"{i}", 1.0)
                if i % max(1, most // 8) == 0:
                    self.assertEqual(table.get("often"), -1.0, (most, i))

    def test_last_half(self) -> None:
        """The half of a table of one shard that was used last is never forgotten."""
        table = KeyTable(100, EVER)
        used: list[str] = []
        for i in range(2000):
            key = f"{i * i % 331}"
            table.set(key, float(i))
            used = [key, *(other for other in used if other != key)][:50]
            self.assertLessEqual(set(used[:49]), _kept(table))

    def test_horizon(self) -> None:
        """Within two horizons after its last use, and not within one, a key is gone."""
        table = KeyTable(100, 10.0)
        now = 0.0
        table.tick(now, 100)
        table.set("still", 1.0)
        table.set("used", 1.0)
        gone = None
        for i in range(1, 41):
            now = i / 2
            table.get("used")
            table.tick(now, 100)
            if gone is None and "still" not in _kept(table):
                gone = now
        self.assertIsNotNone(gone)
        self.assertTrue(10.0 <= (gone or 0) <= 20.5, gone)
        self.assertEqual((len(table), table.get("used")), (1, 1.0))
        for i in range(3):
            table.tick(100.0 + 11 * i, 100)
        self.assertEqual(len(table), 0)

    def test_turned_before_its_time(self) -> None:
        """A generation that began because of many keys has its horizon from then on."""
        table = KeyTable(4, 10.0)
        table.tick(0.0, 100)
        for key in "abc":
            table.set(key, 1.0)
        table.tick(10.5, 100)
        self.assertEqual(_kept(table), {"a", "b", "c"})

    def test_budget(self) -> None:
        """A tick forgets what its budget allows, and the next one goes on from there."""
        table = KeyTable(40_000, 10.0)
        for i in range(40_000):
            table.set(f"{i}", 1.0)
        sizes = [len(table)]
        for i in range(60):
            table.tick(i * 1.0, 3000)
            sizes.append(len(table))
        self.assertEqual(sizes[-1], 0)
        steps = [before - after for before, after in pairwise(sizes)]
        self.assertLess(max(steps), 3000 + 1024)
        self.assertEqual(len(table._going), 0)
        self.assertGreater(sum(step > 0 for step in steps), 5)

    def test_few_at_once(self) -> None:
        """No key needs more than some hundred others to be forgotten, and no tick does."""
        table = KeyTable(20_000, 10.0)
        sizes = [0]
        for i in range(60_000):
            table.set(f"{i}", 1.0)
            sizes.append(len(table))
        for i in range(5000):
            going = len(table._going)
            self.assertLess(going, 700)
            table.tick(float(i), 16)
            # The dict of those that are not found any more is emptied by so many.
            self.assertTrue(going <= 16 or going - 16 == len(table._going))
            sizes.append(len(table))
        self.assertEqual((len(table), len(table._going)), (0, 0))
        self.assertLess(max(before - after for before, after in pairwise(sizes)), 700)

    def test_again(self) -> None:
        """What is left of an emptied table serves as a new one."""
        table = KeyTable(3000, 10.0)
        now = 0.0
        for turn in range(4):
            for i in range(3000):
                table.set(f"{turn} {i}", float(i))
            self.assertTrue(all(table.get(f"{turn} {i}") == float(i) for i in range(3000)))
            while len(table):
                now += 1.0
                table.tick(now, 100)
            self.assertEqual(_kept(table), set())

    def test_less_room(self) -> None:
        """Where the most is made less, ticks see to it."""
        table = KeyTable(10_000, EVER)
        for i in range(10_000):
            table.set(f"{i}", 1.0)
        table.most = 100
        for i in range(200):
            table.tick(float(i), 2048)
        self.assertLessEqual(len(table), 100)

    def test_settings(self) -> None:
        for bad in ((0, 1.0), (1, 0.0), (1, float("nan"))):
            self.assertRaises(ValueError, KeyTable, *bad)

    def test_repr(self) -> None:
        table = KeyTable(10_000, 60)
        table.set("secret", 1.0)
        self.assertEqual(repr(table), "<KeyTable 1 of 10000 keys, 60 s, 19 shards>")


class TableMachine(RuleBasedStateMachine):
    """A table against a dict that forgets nothing."""

    keys = st.integers(0, 60).map(str)

    @initialize(most=st.one_of(st.integers(1, 40), st.sampled_from([1200, 3000])))
    def begin(self, most: int) -> None:
        self.most = most
        self.table = KeyTable(most, 10.0)
        self.now = 0.0
        self.model: dict[str, float] = {}
        self.used: dict[str, float] = {}
        self.full = False

    @rule(key=keys, state=st.floats(-5, 5))
    def set(self, key: str, state: float) -> None:
        if len(self.table) == self.most and key not in _kept(self.table):
            self.full = True
        self.table.set(key, state)
        self.model[key] = state
        self.used[key] = self.now

    @rule(key=keys)
    def get(self, key: str) -> None:
        state = self.table.get(key)
        if state is not None:
            assert state == self.model[key]
            self.used[key] = self.now
        elif key in self.model:
            assert self.full or self.now - self.used[key] >= 10.0
            del self.model[key]

    @rule(key=keys)
    def delete(self, key: str) -> None:
        if self.table.delete(key):
            del self.model[key]
        else:
            self.get(key)

    @rule(seconds=st.floats(0, 6), budget=st.integers(0, 5000))
    def tick(self, seconds: float, budget: int) -> None:
        self.now += seconds
        self.table.tick(self.now, budget)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        if hasattr(self, "table"):
            kept = _kept(self.table)
            assert len(kept) == len(self.table) <= self.most
            assert kept <= set(self.model)
            if not self.full:
                live = {key for key in self.model if self.now - self.used[key] < 10.0}
                assert live <= kept


TableMachine.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestTableMachine = TableMachine.TestCase


def _kept(table: KeyTable) -> set[str]:
    generations = [*table.young, *table._old]
    kept = {key for keys in generations for key in keys}
    assert len(kept) == sum(map(len, generations)), "a key is in one place"
    return kept
