"""The demo's configuration, and the text that tells what to try."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway import config
from rtgateway.demo.launch import INSTANCES, gateway_settings, instructions

ADDRESS = "0.0.0.0:8080"
URLS = {
    service: [f"http://127.0.0.1:{40_000 + 100 * row + number}" for number in range(count)]
    for row, (service, count) in enumerate(INSTANCES.items())
}


class SettingsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.settings = config.from_dict(gateway_settings(ADDRESS, URLS))

    def test_one_instance_of_users_can_fail_and_two_are_left(self) -> None:
        users = self.settings.services["users"]
        self.assertEqual(len(users.instances), 3)
        assert users.health is not None
        self.assertEqual(users.health.path, "/health")
        self.assertTrue(self.settings.proxy_headers)

    def test_no_circuit_stays_open_for_more_than_five_seconds(self) -> None:
        """However often somebody asks for ``/fail``."""
        for name, service in self.settings.services.items():
            breaker = service.circuit_breaker
            self.assertEqual((breaker.timeout, breaker.timeout_factor), (5.0, 1.0), name)

    def test_the_drill_is_at_the_users_service(self) -> None:
        drill = next(route for route in self.settings.routes if route.name == "drill")
        self.assertEqual((drill.path, drill.service, drill.strip_prefix), ("/drill", "users", True))
        assert drill.faults is not None
        self.assertEqual((drill.faults.delay, drill.faults.delay_share), (1.0, 0.3))
        self.assertEqual((drill.faults.abort, drill.faults.abort_share), (503, 0.2))


class InstructionsTests(SynchronousTestCase):
    def test_they_fit_on_one_screen(self) -> None:
        lines = instructions(ADDRESS, URLS)
        self.assertLessEqual(len(lines), 30)
        self.assertLessEqual(max(map(len, lines)), 100)

    def test_they_name_every_instance_by_its_own_port(self) -> None:
        text = "\n".join(instructions(ADDRESS, URLS))
        for urls in URLS.values():
            for url in urls:
                self.assertIn(url, text)

    def test_what_is_broken_and_what_is_drained_are_instances_of_users(self) -> None:
        text = "\n".join(instructions(ADDRESS, URLS))
        self.assertIn(f"'{URLS['users'][0]}/break?how=503&seconds=30'", text)
        self.assertIn("/services/users/drain?instance=127.0.0.1:40001'", text)
