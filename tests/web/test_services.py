"""``/gateway/services``: instances seen, added, weighed, drained, removed."""

from __future__ import annotations

from time import monotonic
from typing import Any

from tests.observe.services import Budget, Check, Discovery, Instance, Pool, Room
from tests.web.gateways import PageTestCase

INSTANCES = "/gateway/services/users/instances"


class ServicePageTests(PageTestCase):
    """What is shown."""

    def instance(self, index: int = 0) -> dict[str, Any]:
        document = self.json("/gateway/services/users")
        return dict(document["instances"][index])

    def test_a_service(self) -> None:
        """What it counts, what it is limited to, where its instances come from."""
        users = self.gateway.users
        users.requests, users.retries, users.hedges = 100, {3: 1, 2: 4}, 2
        users.budget, users.budget_refusals = Budget(29.999), 3
        users.balancer_errors, users.mirrored = {"no_instances": 5}, {"sent": 6}
        users.room, users.limit, users.discovery = Room(7, 8), 50, Discovery()
        users.leaving = (Instance(label="http://c:3001", inflight=1, draining=True),)
        document = self.json("/gateway/services/users")
        self.assertEqual(self.json("/gateway/services"), {"users": document})
        ids = [each["id"] for each in document.pop("instances")]
        leaving = [(each["id"], each["empty"]) for each in document.pop("leaving")]
        self.assertEqual((ids, leaving), (["a:3001", "b:80"], [("c:3001", False)]))
        self.assertEqual(
            document,
            {
                "critical": False,
                "panicking": False,
                "requests": 100,
                "retries": {"2": 4, "3": 1},
                "hedges": 2,
                "retryBudget": 30.0,
                "retryBudgetRefusals": 3,
                "balancerErrors": {"no_instances": 5},
                "concurrencyLimit": 50,
                "waiting": 7,
                "waitingRefusals": 8,
                "mirrored": {"sent": 6},
                "circuit": None,
                "discovery": {"source": "dns users.internal", "ttl": 30},
            },
        )

    def test_an_instance(self) -> None:
        """Everything that decides whether it is asked, and how it does."""
        a = self.gateway.users.instances[0]
        a.pool, a.latency, a.last_latency = Pool(3, ("x",), 1), 0.0125, 0.02
        a.health = Check().passes(1700000000.25)
        a.inflight, a.sockets = 5, 3
        self.assertEqual(
            self.instance(),
            {
                "id": "a:3001",
                "url": "http://a:3001",
                "source": "static",
                "available": True,
                "reason": "",
                "weight": {"configured": 1, "effective": 1.0},
                "backup": False,
                "draining": False,
                "empty": False,
                "inflight": {"http": 1, "sse": 1, "ws": 3},
                "limit": 0,
                "latency": 0.0125,
                "lastLatency": 0.02,
                "lastError": "",
                "circuit": {"state": "closed", "openUntil": None, "probes": 0},
                "health": {
                    "status": "healthy",
                    "lastCheck": "2023-11-14T22:13:20.250Z",
                    "duration": 0.25,
                    "details": "status 200",
                },
                "ejection": {"ejected": False, "until": None, "reason": "", "total": 0},
                "connections": {"open": 3, "idle": 1, "waiting": 1},
            },
        )

    def test_an_instance_nobody_asked_yet(self) -> None:
        """Its latency is unknown, not zero; nothing checks its health."""
        b = self.instance(1)
        self.assertEqual((b["latency"], b["health"], b["empty"]), (None, None, True))

    def test_an_ejected_instance(self) -> None:
        """Until when, and why."""
        a = self.gateway.users.instances[0]
        a.ejection.eject(monotonic(), "5 gateway errors in a row")
        a.ejections = 1
        a.last_error = "connection refused"
        told = self.instance()
        self.assertEqual((told["available"], told["reason"]), (False, "ejected"))
        ejection = told["ejection"]
        self.assertTrue(ejection.pop("until").endswith("Z"))
        self.assertEqual(
            ejection, {"ejected": True, "reason": "5 gateway errors in a row", "total": 1}
        )
        self.assertEqual(told["lastError"], "connection refused")


class InstanceChangeTests(PageTestCase):
    """What is changed."""

    def test_an_instance_is_added(self) -> None:
        """201 with its id; it takes requests from then on."""
        body = {"url": "http://c:3001/base", "weight": 3, "backup": True}
        document = self.json(INSTANCES, 201, "POST", body)
        self.assertEqual(document, {"id": "c:3001/base", **body})
        added = self.gateway.users.instances[2]
        self.assertEqual((added.nominal, added.backup), (3, True))
        added = self.gateway.users.find(
            self.json(INSTANCES, 201, "POST", {"url": "http://d"})["id"]
        )
        self.assertEqual((added.nominal, added.backup), (1, False))

    def test_weight_0_may_be_added(self) -> None:
        """To take it into use later."""
        self.json(INSTANCES, 201, "POST", {"url": "http://c", "weight": 0})

    def test_an_instance_is_there_once(self) -> None:
        """409."""
        self.assertEqual(
            self.refused(INSTANCES, 409, "POST", {"url": "http://a:3001/"}), "conflict"
        )
        self.assertEqual(len(self.gateway.users.instances), 2)

    def test_wrong_settings_get_the_words_of_the_configuration(self) -> None:
        """All of them at once, without what surrounds an instance in a file."""
        body = {"url": "ftp://x", "weight": -1, "wieght": 1}
        message = self.json(INSTANCES, 400, "POST", body)["message"]
        self.assertIn('url: found "ftp://x"; allowed: a URL such as http://', message)
        self.assertIn("weight: found -1; allowed: a whole number from 0 to 1000", message)
        self.assertIn('unknown key "wieght"; did you mean "weight"?', message)
        self.assertNotIn("services.", message)
        self.assertIn("url: is missing", self.json(INSTANCES, 400, "POST", {})["message"])
        for wrong in (b"[]", b'"http://c"', b"null", b"3"):
            self.assertEqual(self.refused(INSTANCES, 400, "POST", wrong), "bad_request")
        self.assertEqual(len(self.gateway.users.instances), 2)

    def test_environment_variables_stay_where_they_are(self) -> None:
        """What looks like one in a URL is no place for one here."""
        message = self.json(INSTANCES, 400, "POST", {"url": "http://${HOME}"})["message"]
        self.assertIn("${HOME}", message)

    def test_bodies_are_json(self) -> None:
        """415 for another type or none, also for what forms can send; 400 for what is no JSON."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"):
            shown = self.ask(INSTANCES, "POST", {"url": "http://c"}, kind)
            self.assertEqual((shown.status, shown.json["error"]), (415, "unsupported_media_type"))
        for content in (b"", b"{", b"\xff", b"[" * 100_000):
            self.assertEqual(self.refused(INSTANCES, 400, "POST", content), "bad_request")
        shown = self.ask(INSTANCES, "POST", {"url": "http://c"}, "Application/JSON; charset=utf-8")
        self.assertEqual(shown.status, 201)

    def test_a_weight_is_changed(self) -> None:
        """And 0 takes an instance out of use."""
        path = INSTANCES + "?instance=b:80"
        self.assertEqual(self.json(path, 200, "PATCH", {"weight": 0}), {"id": "b:80", "weight": 0})
        self.assertEqual(self.gateway.users.instances[1].nominal, 0)
        wrong = (b'{"weight":-1}', b'{"weight":"x"}', b"{}", b'{"url":"http://c"}', b"[]")
        for body in (*wrong, b'{"weight":null}', b'{"weight":1,"backup":true}'):
            self.assertEqual(self.refused(path, 400, "PATCH", body), "bad_request")
        self.assertEqual(self.gateway.users.instances[1].nominal, 0)

    def test_draining_and_back(self) -> None:
        """202 with what is still in flight."""
        path = "/gateway/services/users/{}?instance=a:3001"
        document = self.json(path.format("drain"), 202, "POST")
        expected = {"inFlight": 2, "streams": 1, "websockets": 0, "empty": False}
        self.assertEqual(document, {"id": "a:3001", **expected})
        self.assertTrue(self.gateway.users.instances[0].draining)
        self.gateway.users.instances[0].inflight = 0
        self.assertTrue(self.json(path.format("undrain"), 202, "POST")["empty"])
        self.assertFalse(self.gateway.users.instances[0].draining)

    def test_removal(self) -> None:
        """202: it goes when it is empty."""
        document = self.json(INSTANCES + "?instance=a:3001", 202, "DELETE")
        self.assertEqual((document["inFlight"], document["empty"]), (2, False))
        self.assertEqual([each.id for each in self.gateway.users.instances], ["b:80"])

    def test_which_instance_has_to_be_said(self) -> None:
        """400 without an id, 404 for one that no instance has; nothing is changed."""
        drain = "/gateway/services/users/drain"
        for path, method in ((INSTANCES, "DELETE"), (INSTANCES, "PATCH"), (drain, "POST")):
            self.assertEqual(self.refused(path, 400, method, {"weight": 1}), "bad_request")
            self.assertEqual(
                self.refused(path + "?instance=x:1", 404, method, {"weight": 1}), "unknown_instance"
            )
        self.assertFalse(any(each.draining for each in self.gateway.users.instances))
