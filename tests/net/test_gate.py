"""Connections are limited in all and by client address."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net.gate import Gate


class Port:
    """Remembers what the gate tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")


class GateTests(SynchronousTestCase):
    def test_all_ports_stop_at_the_last_place_and_go_on_when_one_is_free(self) -> None:
        gate = Gate(2, 10)
        ports = Port(), Port()
        for port in ports:
            gate.add(port)
        first = gate.admit("192.0.2.1")
        self.assertEqual(ports[0].told, [])
        gate.admit("192.0.2.2")
        self.assertTrue(gate.full)
        assert first is not None
        gate.leave(first)
        self.assertFalse(gate.full)
        for port in ports:
            self.assertEqual(port.told, ["pause", "resume"])

    def test_a_closed_port_is_left_alone(self) -> None:
        gate = Gate(1, 1)
        port = Port()
        gate.add(port)
        gate.remove(port)
        gate.remove(port)
        gate.admit("192.0.2.1")
        self.assertEqual(port.told, [])

    def test_one_address_gets_only_so_many_places(self) -> None:
        gate = Gate(10, 2)
        places = [gate.admit("192.0.2.1") for _ in range(3)]
        self.assertEqual(places, ["192.0.2.1", "192.0.2.1", None])
        self.assertIsNotNone(gate.admit("192.0.2.2"))
        self.assertEqual(repr(gate), "<Gate 3 of 10 places taken, 1 refused>")
        gate.leave("192.0.2.1")
        self.assertIsNotNone(gate.admit("192.0.2.1"))

    def test_an_ipv6_site_counts_as_one_client(self) -> None:
        gate = Gate(10, 2)
        self.assertIsNotNone(gate.admit("2001:db8:1:2::1"))
        self.assertIsNotNone(gate.admit("2001:db8:1:2:ffff::9"))
        self.assertIsNone(gate.admit("2001:db8:1:2:3::"))
        self.assertIsNotNone(gate.admit("2001:db8:1:3::1"))
        self.assertIsNotNone(gate.admit("fe80::1%eth0"))

    def test_an_ipv4_client_on_an_ipv6_socket_is_an_ipv4_client(self) -> None:
        gate = Gate(10, 1)
        gate.admit("::ffff:192.0.2.1")
        self.assertIsNone(gate.admit("192.0.2.1"))
        self.assertIsNotNone(gate.admit("::ffff:192.0.2.2"))

    def test_trusted_proxies_and_unix_sockets_are_limited_only_in_all(self) -> None:
        gate = Gate(5, 1, exempt=lambda ip: ip == "10.0.0.1")
        for ip in ("10.0.0.1", "10.0.0.1", "", ""):
            self.assertEqual(gate.admit(ip), "")
        self.assertEqual(gate.taken, 4)
        gate.leave("")
        self.assertEqual(gate.taken, 3)

    def test_nothing_is_kept_of_clients_that_left(self) -> None:
        gate = Gate(5, 5)
        for _ in range(3):
            place = gate.admit("192.0.2.1")
            assert place is not None
            gate.leave(place)
        self.assertEqual(gate._by_ip, {})
        self.assertEqual(gate.taken, 0)
