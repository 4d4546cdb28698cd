"""Sockets passed by systemd are found by number and by name, and nothing else is taken for one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from rtgateway.net import systemd

PID = 4711


class InheritedSocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.passed = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.passed.close)
        patch = mock.patch.object(systemd, "_FIRST", self.passed.fileno())
        patch.start()
        self.addCleanup(patch.stop)

    def find(self, which: int | str, **environ: str) -> socket.socket:
        variables: Mapping[str, str] = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1"} | environ
        found = systemd.inherited_socket(which, variables, PID)
        self.addCleanup(found.close)
        return found

    def refused(self, which: int | str, **environ: str) -> str:
        with self.assertRaises(LookupError) as caught:
            self.find(which, **environ)
        return str(caught.exception.args[0])

    def test_by_number(self) -> None:
        found = self.find(0)
        self.assertEqual(found.getsockname(), self.passed.getsockname())
        self.assertNotEqual(found.fileno(), self.passed.fileno())

    def test_it_can_be_asked_for_again(self) -> None:
        self.find(0).close()
        self.assertEqual(self.find(0).getsockname(), self.passed.getsockname())

    def test_by_name(self) -> None:
        found = self.find("web", LISTEN_FDNAMES="web")
        self.assertEqual(found.getsockname(), self.passed.getsockname())

    def test_children_do_not_inherit_it_further(self) -> None:
        os.set_inheritable(self.passed.fileno(), True)
        self.assertFalse(self.find(0).get_inheritable())
        self.assertFalse(self.passed.get_inheritable())

    def test_a_number_that_was_not_passed(self) -> None:
        message = self.refused(1)
        self.assertEqual(message, "systemd passed no socket numbered 1 (passed: 1)")

    def test_a_name_that_was_not_passed(self) -> None:
        message = self.refused("api", LISTEN_FDNAMES="web")
        self.assertEqual(message, "systemd passed no socket named 'api' (passed: web)")

    def test_variables_meant_for_another_process_mean_nothing(self) -> None:
        self.assertIn("(passed: 0)", self.refused(0, LISTEN_PID="1"))

    def test_nonsense_means_nothing(self) -> None:
        for count in ("", "-1", "many", "²"):
            self.assertIn("(passed: 0)", self.refused(0, LISTEN_FDS=count))

    def test_a_descriptor_that_is_no_socket(self) -> None:
        with open(os.devnull) as file, mock.patch.object(systemd, "_FIRST", file.fileno()):
            self.assertIn("is no socket", self.refused(0))

    def test_a_socket_that_does_not_listen(self) -> None:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with (
                socket.socket(socket.AF_INET, kind) as other,
                mock.patch.object(systemd, "_FIRST", other.fileno()),
            ):
                self.assertIn("is no listening stream socket", self.refused(0))
