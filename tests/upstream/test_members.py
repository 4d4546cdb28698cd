"""Who may be asked: what changes it, when it is looked at again, and who comes and goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.upstream.findings import Found
from rtgateway.upstream.instance import Instance
from rtgateway.upstream.members import Members
from tests.upstream.stage import Stage, found

__all__: list[str] = []

NEVER = float("inf")
BREAKER = {"failure_threshold": 1, "success_threshold": 1, "timeout": 5.0, "jitter": 0.0}
AT_ONCE = {"strategy": "least_load", "slow_start": 0.0}


class MembersCase(SynchronousTestCase):
    """Three instances, no traffic."""

    def setUp(self) -> None:
        self.begin("a", "b", "c")

    def begin(self, *names: str, **settings: Any) -> None:
        settings = {"balance": AT_ONCE, "circuit_breaker": BREAKER, **settings}
        self.stage = Stage(*names, **settings)
        context = self.stage.on()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    @property
    def members(self) -> Members:
        return self.stage.members

    def instance(self, name: str) -> Instance:
        return self.stage.instance(name)

    def candidates(self) -> str:
        """Hosts of the candidates after a look, which is made only if it is due."""
        if self.stage.now >= self.members.look_again:
            self.members.refresh(self.stage.now)
        return _hosts(self.members.candidates)

    def fails(self, name: str, times: int = 1) -> None:
        """Calls to an instance fail."""
        breaker = self.instance(name).breaker
        for _ in range(times):
            breaker.record(breaker.acquire(self.stage.now), self.stage.now, 0.1, True)

    def succeeds(self, name: str, times: int = 1) -> None:
        breaker = self.instance(name).breaker
        for _ in range(times):
            breaker.record(breaker.acquire(self.stage.now), self.stage.now, 0.1, False)

    def is_checked(self, name: str, *, up: bool) -> None:
        """A health check has changed its mind, and says so."""
        instance = self.instance(name)
        assert instance.health is not None
        health = instance.health.health
        assert health.passed(self.stage.now) if up else health.failed(self.stage.now, "no")
        self.members.changed()


class RefreshTests(MembersCase):
    def test_without_trouble_nobody_looks_again(self) -> None:
        """A pick compares one number with the clock, and that is all."""
        self.assertEqual(self.candidates(), "abc")
        self.assertEqual(self.members.look_again, NEVER)
        self.assertEqual(repr(self.members), "<Members 3 of 3 available>")

    def test_an_open_circuit(self) -> None:
        """It is looked at again when its time is over, and is then to be probed."""
        self.candidates()
        self.fails("b")
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(self.members.look_again, self.stage.now + 5)
        self.assertEqual(self.members.probing, ())
        self.stage.now += 5
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(_hosts(self.members.probing), "b")
        self.succeeds("b")
        self.assertEqual(self.candidates(), "abc")
        self.assertEqual(self.members.probing, ())

    def test_a_circuit_forced_open(self) -> None:
        """Time does not change it; its operator does."""
        self.instance("b").breaker.force_open(self.stage.now)
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(self.members.look_again, NEVER)
        self.instance("b").breaker.disable(self.stage.now)
        self.assertEqual(self.candidates(), "abc")
        self.instance("b").breaker.force_open(self.stage.now)
        self.instance("b").breaker.reset(self.stage.now)
        self.assertEqual(self.candidates(), "abc")

    def test_the_first_of_two_times_counts(self) -> None:
        self.fails("b")
        self.stage.now += 1
        self.fails("c")
        self.assertEqual(self.candidates(), "a")
        self.assertEqual(self.members.look_again, self.stage.now + 4)

    def test_an_ejection(self) -> None:
        self.instance("b").ejection.eject(self.stage.now, "it did worse")
        self.members.changed()
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(self.members.look_again, self.stage.now + 30)
        self.stage.now += 30
        self.assertEqual(self.candidates(), "abc")

    def test_an_ejection_that_ends_while_the_circuit_is_open(self) -> None:
        """What is behind one obstacle is seen when that is gone."""
        self.instance("b").ejection.eject(self.stage.now, "it did worse")
        self.stage.now += 28
        self.fails("b")
        self.assertEqual(self.candidates(), "ac")
        self.stage.now += 2
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(self.members.look_again, self.stage.now + 3)

    def test_what_people_do(self) -> None:
        """Draining, weight 0, a health check that fails: until it is undone."""
        service = self.stage.service
        service.drain("a:80")
        service.reweigh("b:80", 0)
        self.is_checked("c", up=False)
        self.assertEqual(self.candidates(), "")
        self.assertEqual(self.members.look_again, NEVER)
        self.assertEqual(
            [each.available(self.stage.now).reason for each in service.instances],
            ["draining", "weight 0", "health check failing: no"],
        )
        service.undrain("a:80")
        service.reweigh("b:80", 5)
        self.is_checked("c", up=True)
        self.assertEqual(self.candidates(), "abc")
        self.assertEqual(self.instance("b").weight, 5.0)
        self.assertEqual(service.available(self.stage.now), list(service.instances))

    def test_unknown_ids(self) -> None:
        service = self.stage.service
        for order in (service.find, service.remove, service.drain, service.undrain):
            self.assertRaises(KeyError, order, "d:80")
        self.assertRaises(KeyError, service.reweigh, "d:80", 1)


class WarmingTests(MembersCase):
    def setUp(self) -> None:
        self.begin("a", "b", balance={"strategy": "least_load", "slow_start": 10.0})

    def weights(self) -> list[float]:
        self.candidates()
        return [round(each.weight, 6) for each in self.stage.service.instances]

    def test_who_is_there_at_the_start(self) -> None:
        """All have their full weight: there is nobody else to take the load."""
        self.assertEqual(self.weights(), [1.0, 1.0])
        self.assertEqual(self.members.look_again, NEVER)

    def test_who_is_discovered_at_the_start(self) -> None:
        """The same."""
        self.begin(discovery={"dns": {"name": "main", "port": 80}})
        self.members.update([found("a"), found("b", 3)], self.stage.now)
        self.assertEqual(self.weights(), [1.0, 3.0])
        self.members.update([found("c"), found("d")], self.stage.now)
        self.assertEqual(self.weights(), [1.0, 1.0])

    def test_a_new_one(self) -> None:
        """It begins with a tenth of its weight, and its weight grows evenly."""
        self.stage.service.add(found("c", 10))
        self.assertEqual(self.weights()[2], 1.0)
        self.assertGreater(self.members.look_again, self.stage.now)
        self.stage.now += 5
        self.assertEqual(self.weights()[2], 5.5)
        self.stage.now += 5
        self.assertEqual(self.weights()[2], 10.0)
        self.assertEqual(self.members.look_again, NEVER)

    def test_after_drain_circuit_and_ejection(self) -> None:
        service = self.stage.service
        service.drain("a:80")
        service.undrain("a:80")
        self.assertEqual(self.weights(), [0.1, 1.0])
        self.stage.now += 10
        self.fails("a")
        self.stage.now += 5
        self.instance("a").latency = 3.0
        self.succeeds("a")
        self.assertEqual(self.weights(), [0.1, 1.0])
        self.assertEqual(self.instance("a").latency, 0.0, "what was slow may be fast")

    def test_undrain_of_one_that_does_not_drain(self) -> None:
        self.stage.service.undrain("a:80")
        self.assertEqual(self.weights(), [1.0, 1.0])


class PanicTests(MembersCase):
    def setUp(self) -> None:
        self.begin("a", "b", "c", "d", balance={**AT_ONCE, "panic_threshold": 0.5})

    def test_too_few(self) -> None:
        """Below the threshold, and not at it, all are asked; with enough of them, it is over."""
        self.fails("a")
        self.is_checked("b", up=False)
        self.assertEqual(self.candidates(), "cd")
        self.assertFalse(self.stage.service.panicking)
        self.instance("c").ejection.eject(self.stage.now, "it did worse")
        self.members.changed()
        self.assertEqual(self.candidates(), "abcd")
        self.assertTrue(self.stage.service.panicking)
        self.is_checked("b", up=True)
        self.assertEqual(self.candidates(), "bd")
        self.assertFalse(self.stage.service.panicking)

    def test_who_is_out_of_use_on_purpose_stays_so(self) -> None:
        """Nobody is asked whom an operator took out."""
        self.stage.service.drain("a:80")
        self.stage.service.reweigh("b:80", 0)
        self.instance("c").breaker.force_open(self.stage.now)
        self.assertEqual(self.candidates(), "d")
        self.assertFalse(self.stage.service.panicking, "nor is it missing")
        self.is_checked("d", up=False)
        self.assertEqual(self.candidates(), "d")
        self.assertTrue(self.stage.service.panicking)

    def test_a_weight_from_before(self) -> None:
        """One that was out of use, and then in trouble, was never weighed: it is asked all the
        same, by the weight that it has."""
        self.stage.service.reweigh("a:80", 0)
        self.candidates()
        self.instance("a").weight = 0.0
        for name in "abc":
            self.is_checked(name, up=False)
        self.stage.service.reweigh("a:80", 7)
        self.assertEqual(self.candidates(), "abcd")
        self.assertEqual(self.instance("a").weight, 7.0)
        self.assertIsNotNone(self.stage.comes().chosen)

    def test_the_end_by_time(self) -> None:
        """It ends when a circuit may be closed again, without anybody asking."""
        for name in "abc":
            self.fails(name)
        self.assertEqual(self.candidates(), "abcd")
        self.stage.now += 5
        for name in "abc":
            self.succeeds(name)
        self.assertEqual(self.candidates(), "abcd")
        self.assertFalse(self.stage.service.panicking)


class BackupTests(MembersCase):
    def setUp(self) -> None:
        self.begin("a", "b", "c")
        self.instance("c").backup = True

    def test_only_when_there_is_no_other(self) -> None:
        self.assertEqual(self.candidates(), "ab")
        self.fails("a")
        self.assertEqual(self.candidates(), "b")
        self.fails("b")
        self.assertEqual(self.candidates(), "c")
        self.stage.now += 5
        self.assertEqual(self.candidates(), "c")
        self.assertEqual(_hosts(self.members.probing), "ab")
        self.succeeds("a")
        self.assertEqual(self.candidates(), "a")

    def test_it_is_not_probed_either(self) -> None:
        """A probe is a client's request, too."""
        self.fails("c")
        self.stage.now += 5
        self.assertEqual(self.candidates(), "ab")
        self.assertEqual(self.members.probing, ())
        self.fails("a")
        self.fails("b")
        self.candidates()
        self.assertEqual(_hosts(self.members.probing), "c")

    def test_it_does_not_count_for_panic(self) -> None:
        self.begin("a", "b", "c", balance={**AT_ONCE, "panic_threshold": 0.6})
        self.instance("c").backup = True
        self.is_checked("c", up=False)
        self.assertEqual(self.candidates(), "ab")
        self.assertFalse(self.members.panicking)


class ComingAndGoingTests(MembersCase):
    def test_identity_outlives_a_look(self) -> None:
        """Counts, connections and circuit of who stays are those it had."""
        self.begin(discovery={"dns": {"name": "main", "port": 80}})
        self.members.update([found("a"), found("b")], self.stage.now)
        stays = self.instance("b")
        stays.inflight, stays.latency = 3, 0.5
        self.fails("b")
        self.members.update([found("b", 9, backup=True), found("c")], self.stage.now)
        self.assertIs(self.instance("b"), stays)
        self.assertEqual((stays.inflight, stays.latency, stays.breaker.state), (3, 0.5, "open"))
        self.assertEqual((stays.nominal, stays.backup), (9, True))
        self.assertEqual(_hosts(self.stage.service.instances), "bc")
        self.assertEqual(_hosts(self.stage.service.leaving), "a")

    def test_what_is_discovered_leaves_the_others_alone(self) -> None:
        """Those of the configuration and of operators are not the business of discovery."""
        self.stage.service.add(found("d", 4))
        self.members.update([found("a", 50), found("d", 50), found("e")], self.stage.now)
        self.assertEqual(_hosts(self.stage.service.instances), "abcde")
        sources = [each.source for each in self.stage.service.instances]
        self.assertEqual(sources, ["static"] * 3 + ["admin", "discovery"])
        self.assertEqual([self.instance("a").nominal, self.instance("d").nominal], [1, 4])
        self.members.update([found("f")], self.stage.now)
        self.assertEqual(_hosts(self.stage.service.instances), "abcdf")

    def test_the_same_address_asked_in_another_way(self) -> None:
        """Another Host field makes it another instance."""
        settings = found("10.0.0.1").settings
        self.members.update([Found(settings, "one.test")], self.stage.now)
        before = self.stage.service.find("10.0.0.1:80")
        self.members.update([Found(settings, "one.test")], self.stage.now)
        self.assertIs(self.stage.service.find("10.0.0.1:80"), before)
        self.members.update([Found(settings, "two.test")], self.stage.now)
        after = self.stage.service.find("10.0.0.1:80")
        self.assertIsNot(after, before)
        self.assertEqual(after.authority, b"two.test")
        self.assertEqual(self.stage.service.leaving, (before,))

    def test_twice_the_same(self) -> None:
        self.assertRaises(ValueError, self.stage.service.add, found("a"))

    def test_no_more_than_a_thousand(self) -> None:
        """An operator is told; of what is discovered the rest is left out."""
        many = [found(f"x{number}") for number in range(1100)]
        self.members.update(many, self.stage.now)
        self.assertEqual(len(self.stage.service.instances), 1024)
        self.assertRaises(ValueError, self.stage.service.add, found("d"))
        self.members.update(many[:1], self.stage.now)
        self.assertEqual(len(self.stage.service.instances), 4)

    def test_removed_while_busy(self) -> None:
        """It finishes what it has, is not asked again, and is forgotten when it is done."""
        clients = [self.stage.comes() for _ in range(3)]
        service, leaver = self.stage.service, self.instance("a")
        pool = self.stage.pool("a")
        service.remove("a:80")
        self.assertEqual(self.candidates(), "bc")
        self.assertEqual(service.leaving, (leaver,))
        service.tick(self.stage.now)
        self.assertEqual((service.leaving, pool.closed), ((leaver,), False))
        self.assertEqual(service.inflight, 3)
        pool.connected().answers()
        self.assertEqual(sum(each.over for each in clients), 1)
        service.tick(self.stage.now)
        self.assertEqual((service.leaving, pool.closed), ((), True))

    def test_removed_and_added_again_while_busy(self) -> None:
        """The new one has nothing of the old one's troubles."""
        self.stage.comes()
        old = next(each for each in self.stage.service.instances if each.inflight)
        self.stage.service.remove(old.id)
        new = self.stage.service.add(found(old.host))
        self.assertIs(self.stage.service.find(old.id), new)
        self.assertEqual((new.inflight, old.inflight), (0, 1))
        self.assertEqual(self.stage.service.leaving, (old,))

    def test_removed_while_it_is_probed(self) -> None:
        """The probe ends where it began; its circuit takes nothing along."""
        self.fails("a")
        self.stage.now += 5
        client = self.stage.comes()
        leaver, pool = self.instance("a"), self.stage.pool("a")
        self.assertIs(client.chosen, leaver)
        self.assertEqual(leaver.breaker.probes, 1)
        self.stage.service.remove("a:80")
        self.assertEqual(self.candidates(), "bc")
        self.assertEqual(self.members.probing, ())
        pool.connected().answers()
        self.assertTrue(client.over)
        self.assertEqual((leaver.breaker.probes, leaver.inflight), (0, 0))
        self.assertEqual(self.candidates(), "bc")


class OutlierTests(MembersCase):
    def begin(self, *names: str, **settings: Any) -> None:
        outliers = {"consecutive_errors": 3, "minimum_calls": 10, "base_ejection": 20.0}
        super().begin(
            *names, **{"outliers": outliers, "circuit_breaker": {"enabled": False}, **settings}
        )

    def ejected(self) -> str:
        return _hosts(
            each for each in self.stage.service.instances if each.ejection.active(self.stage.now)
        )

    def test_errors_in_a_row(self) -> None:
        """Looked at once a second; the instance warms up when it is back."""
        self.instance("b").failing = 2
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "")
        self.instance("b").failing = 3
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "b")
        self.assertEqual(self.candidates(), "ac")
        self.assertEqual(self.instance("b").ejections, 1)
        self.stage.pass_time(20)
        self.assertEqual(self.candidates(), "abc")

    def test_calls_that_had_begun_before(self) -> None:
        """That they fail as well is no reason to eject it again when it is back."""
        instance = self.instance("b")
        instance.failing = 3
        self.stage.pass_time(1)
        instance.failing = 8
        self.stage.pass_time(25)
        self.assertEqual(self.candidates(), "abc")
        self.assertEqual(instance.ejections, 1)

    def test_half_of_them_at_most(self) -> None:
        """But one of two; and the only one never."""
        for name in "abc":
            self.instance(name).failing = 3
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "a")
        self.begin("a", "b")
        for name in "ab":
            self.instance(name).failing = 3
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "a")
        self.begin("a")
        self.instance("a").failing = 3
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "")

    def test_who_does_worse_than_the_others(self) -> None:
        """By its share of failures within the interval, and not by those before."""
        for name, failures in (("a", 1), ("b", 8), ("c", 0)):
            self.fails(name, failures)
            self.succeeds(name, 20 - failures)
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "b")
        self.assertIn("0.60", self.instance("b").ejection.reason)
        self.stage.pass_time(21)
        self.assertEqual(self.ejected(), "")
        for name in "abc":
            self.succeeds(name, 20)
        self.stage.pass_time(10)
        self.assertEqual(self.ejected(), "")

    def test_all_of_them_do_badly(self) -> None:
        """Then it is not the instances."""
        for name in "abc":
            self.fails(name, 15)
            self.succeeds(name, 5)
        self.stage.pass_time(11)
        self.assertEqual(self.ejected(), "")

    def test_who_is_out_of_use_already(self) -> None:
        """An open circuit, an operator: what put it there takes it back."""
        self.begin("a", "b", "c", circuit_breaker=BREAKER)
        self.fails("a")
        self.stage.service.drain("b:80")
        for name in "ab":
            self.instance(name).failing = 9
        self.stage.pass_time(1)
        self.assertEqual(self.ejected(), "")

    def test_off(self) -> None:
        self.begin("a", "b", outliers="off")
        self.instance("a").failing = 100
        self.fails("a", 100)
        self.stage.pass_time(11)
        self.assertEqual(self.ejected(), "")


class AgingTests(MembersCase):
    def test_a_latency_that_nobody_measured_lately_fades(self) -> None:
        """One that was slow is tried again; one that answers keeps what it has."""
        slow, busy = self.instance("a"), self.instance("b")
        slow.answered(4.0)
        self.stage.pass_time(1)
        self.assertEqual(slow.latency, 4.0)
        for _ in range(5):
            busy.answered(2.0)
            self.stage.pass_time(1)
        self.assertAlmostEqual(slow.latency, 2.0)
        self.assertAlmostEqual(busy.latency, 2.0)
        self.assertEqual(slow.last_latency, 4.0)
        self.stage.pass_time(120)
        self.assertEqual(slow.latency, 0.0)


def _hosts(instances: Iterable[Instance]) -> str:
    return "".join(each.host for each in instances)
