"""Records of how requests came out: found again, bounded, forgotten when their instance is gone."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.observe.durations import count_of
from rtgateway.observe.outcomes import Labels, Outcomes
from rtgateway.observe.statistics import Statistics
from tests.observe.exchanges import Exchange
from tests.observe.services import Instance, Service


class OutcomesTests(SynchronousTestCase):
    """The table of records."""

    def setUp(self) -> None:
        self.a = Instance()
        self.b = Instance(label="http://b:3001")
        self.users = Service(instances=(self.a, self.b))
        self.services = [self.users]
        self.statistics = Statistics()
        self.outcomes = Outcomes(lambda: self.services, self.statistics, max_records=8)

    def count(self, exchange: Exchange) -> None:
        """What `Telemetry` does with a request that took no time."""
        key = (
            exchange.method,
            exchange.label,
            exchange.status,
            exchange.service,
            exchange.chosen,
            exchange.answered,
        )
        outcome = self.outcomes.known.get(key) or self.outcomes.find(key)
        outcome.durations[0] += 1
        if outcome.window is not None:
            outcome.window.record(outcome.failed, 100.0)

    def asked(self, instance: Instance | None, **values: object) -> Exchange:
        exchange = Exchange(service=self.users, chosen=instance)
        for name, value in values.items():
            setattr(exchange, name, value)
        return exchange

    def counts(self) -> dict[Labels, int]:
        return {labels: count_of(each) for labels, each in self.outcomes.histograms()}

    def by_route(self) -> dict[str, int]:
        summed = self.outcomes.summed(lambda labels: labels.route)
        return {route: count_of(each) for route, each in summed.items()}

    def test_a_record_is_found_again(self) -> None:
        """The same method, route, status, service and instance count together."""
        self.count(self.asked(self.a))
        self.count(self.asked(self.a))
        self.count(self.asked(self.b))
        route = "/api/:service/*"
        self.assertEqual(
            self.counts(),
            {
                Labels("GET", route, "200", "users", "200", "http://a:3001"): 2,
                Labels("GET", route, "200", "users", "200", "http://b:3001"): 1,
            },
        )
        self.assertEqual(repr(self.outcomes), "<Outcomes 2 of at most 8 records>")

    def test_answers_of_nobody_are_errors(self) -> None:
        """A 502 of an instance is its 502; one of the gateway's own has no instance."""
        self.count(self.asked(self.a, status=502))
        self.count(self.asked(self.a, status=502, answered=False))
        self.count(self.asked(None, status=413, answered=False))
        told = [(each.outcome, each.instance) for each in self.counts()]
        self.assertEqual(told, [("502", "http://a:3001"), ("error", ""), ("413", "")])

    def test_requests_to_no_service_have_none(self) -> None:
        """Pages, and what no route took."""
        self.count(Exchange(status=404, label="unmatched", service=None, chosen=None))
        self.count(Exchange(status=500, label="/metrics", service=None, chosen=None))
        told = [(each.route, each.service, each.outcome) for each in self.counts()]
        self.assertEqual(told, [("unmatched", "", "404"), ("/metrics", "", "500")])

    def test_invented_methods_share_a_record(self) -> None:
        """Clients make no records by inventing methods; the log tells the method all the same."""
        for number in range(50):
            self.count(self.asked(self.a, method=b"X%d" % number, status=405))
        ((labels, count),) = self.counts().items()
        self.assertEqual((labels.method, count), ("OTHER", 50))
        key = (b"X1", "r", 405, self.users, self.a, True)
        self.assertIn('"method":"X1"', self.outcomes.find(key).text)

    def test_the_number_of_records_is_bounded(self) -> None:
        """Beyond it requests count together, those to services apart; known records go on."""
        for status in range(200, 300):
            self.count(self.asked(self.a, status=status))
            self.count(Exchange(status=status, label="unmatched", service=None, chosen=None))
        self.count(self.asked(self.a, status=200))
        counts = self.counts()
        self.assertLessEqual(len(counts), 8 + 2)
        self.assertEqual(sum(counts.values()), 201)
        self.assertEqual(counts[Labels("OTHER", "other", "other", "other", "other", "other")], 96)
        self.assertEqual(counts[Labels("OTHER", "other", "other", "", "other", "")], 96)
        self.assertEqual(self.statistics.of_service("users", 100.0).requests, 101)

    def test_instances_that_left_make_room(self) -> None:
        """With instances that come and go the table does not fill up for good."""
        for number in range(3 * 256):
            instance = Instance(label=f"http://{number}")
            self.users.instances = (instance,)
            self.count(self.asked(instance))
        self.outcomes.forget_gone()
        newest = Instance(label="http://newest")
        self.users.instances = (newest,)
        self.count(self.asked(newest))
        self.assertIn("http://newest", [each.instance for each in self.counts()])
        self.assertEqual(self.by_route()["/api/:service/*"] + self.by_route()["other"], 769)

    def test_removed_instances_are_forgotten_but_not_their_durations(self) -> None:
        """Histograms of routes and services never shrink; the instance is no label any more."""
        self.count(self.asked(self.a))
        self.count(self.asked(self.a, status=502, answered=False))
        self.count(self.asked(self.b))
        self.users.instances = (self.b,)
        self.outcomes.forget_gone()
        told = {(each.outcome, each.instance): count for each, count in self.counts().items()}
        self.assertEqual(told, {("200", "http://b:3001"): 1, ("200", None): 1, ("error", ""): 1})
        self.assertEqual(self.by_route(), {"/api/:service/*": 3})
        self.assertEqual(self.statistics.of_service("users", 100.0).requests, 3)

    def test_instances_that_are_leaving_stay(self) -> None:
        """They still answer requests."""
        self.count(self.asked(self.a))
        self.users.instances, self.users.leaving = (self.b,), (self.a,)
        self.outcomes.forget_gone()
        self.assertEqual([each.instance for each in self.counts()], ["http://a:3001"])

    def test_an_instance_that_comes_back_counts_on_as_a_new_one(self) -> None:
        """Under the same name, from zero."""
        self.count(self.asked(self.a))
        again = Instance()
        self.users.instances = (again,)
        self.outcomes.forget_gone()
        self.count(self.asked(again))
        told = {each.instance: count for each, count in self.counts().items()}
        self.assertEqual(told, {None: 1, "http://a:3001": 1})

    def test_services_that_are_no_more_leave_only_their_routes(self) -> None:
        """After a reload; also if an instance had left before."""
        self.count(self.asked(self.a))
        self.users.instances = ()
        self.outcomes.forget_gone()
        self.count(self.asked(None, status=503, answered=False))
        self.services = []
        self.outcomes.forget_gone()
        told = {(each.service, each.status, each.outcome) for each in self.counts()}
        self.assertEqual(told, {("", "200", "200"), ("", "503", "503")})
        self.assertEqual(self.by_route(), {"/api/:service/*": 2})
        self.assertEqual(repr(self.statistics), "<Statistics 0 windows>")
