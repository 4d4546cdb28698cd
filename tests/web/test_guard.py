"""Who may see which of the gateway's own pages."""

from __future__ import annotations

from time import time
from typing import Any, cast

import jwt
from pydantic import SecretStr
from twisted.trial.unittest import SynchronousTestCase

from rtgateway.config import Admin, Jwt
from rtgateway.core.tokens import TokenVerifier
from rtgateway.errors import GatewayError, Unauthorized
from rtgateway.gateway.auth import JwtAuth
from rtgateway.gateway.exchange import Exchange
from rtgateway.web.guard import Guard
from rtgateway.wire.http1 import HeadLimits, RequestParser

SECRET = "0123456789abcdef0123456789abcdef"


def exchange(
    path: bytes = b"/admin/stats",
    ip: str = "127.0.0.1",
    host: bytes = b"localhost:8080",
    method: bytes = b"GET",
    **headers: bytes,
) -> Exchange:
    """A request for ``path``, a GET unless told otherwise."""
    names = {key: key.replace("_", "-").encode() for key in headers}
    lines = b"".join(b"%b: %b\r\n" % (names[key], headers[key]) for key in headers)
    head = RequestParser(HeadLimits()).feed(b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, lines))
    assert head is not None
    asked = Exchange(cast("Any", None), head, 0.0)
    asked.path = path
    asked.client_ip = ip
    asked.host = host
    return asked


class GuardTests(SynchronousTestCase):
    """`Guard.admit`."""

    def refused(self, guard: Guard, asked: Exchange) -> int:
        """The status that ``asked`` is refused with."""
        error = cast("GatewayError", self.assertRaises(GatewayError, guard.admit, asked))
        return error.status

    def admitted(self, guard: Guard, asked: Exchange) -> bool:
        guard.admit(asked)
        return True

    def test_health_and_metrics_are_open(self) -> None:
        """Whoever asks, with or without authentication."""
        stranger = {"ip": "203.0.113.9", "host": b"gateway.example"}
        auth = JwtAuth(TokenVerifier(Jwt(secret=SecretStr(SECRET))))
        for path in (
            b"/healthz",
            b"/readyz",
            b"/health",
            b"/_pressure",
            b"/metrics",
            b"/ws/health",
            b"/adminx",
            b"/gatewayx",
        ):
            for guard in (Guard(Admin(), None), Guard(Admin(), auth)):
                self.assertTrue(self.admitted(guard, exchange(path, **cast("Any", stranger))))

    def test_without_authentication_the_machine_itself_is_admitted(self) -> None:
        """By address or name, over IPv4 and IPv6."""
        guard = Guard(Admin(), None)
        for ip in ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"):
            for host in (b"localhost:8080", b"LOCALHOST", b"127.0.0.1:8080", b"[::1]:8080"):
                self.assertTrue(self.admitted(guard, exchange(ip=ip, host=host)))

    def test_without_authentication_others_are_refused(self) -> None:
        """Neighbours, strangers, what came over a Unix socket, and what has no address."""
        guard = Guard(Admin(), None)
        for ip in ("10.0.0.1", "203.0.113.9", "::ffff:10.0.0.1", "2001:db8::1", "", "unknown"):
            self.assertEqual(self.refused(guard, exchange(ip=ip)), 403)

    def test_a_proxy_on_this_machine_is_not_the_machine_itself(self) -> None:
        """It asks for somebody else, whom it was not configured to be believed about."""
        guard = Guard(Admin(), None)
        for name in ("x_forwarded_for", "forwarded", "x_real_ip", "via"):
            asked = exchange(**cast("Any", {name: b"203.0.113.9"}))
            self.assertEqual(self.refused(guard, asked), 403)

    def test_other_names_for_this_machine_are_refused(self) -> None:
        """A web page whose name was made to resolve to 127.0.0.1 learns nothing (DNS rebinding)."""
        guard = Guard(Admin(), None)
        for host in (b"evil.example:8080", b"localhost.evil.example", b"10.0.0.1", b""):
            self.assertEqual(self.refused(guard, exchange(host=host)), 403)

    def test_spelling_the_path_otherwise_does_not_help(self) -> None:
        """Pages are found by the decoded path, and guarded by it."""
        guard = Guard(Admin(), None)
        for path in (
            b"/admin",
            b"/admin/",
            b"/%61dmin/stats",
            b"/admin%2fstats",
            b"/admin/x",
            b"/gateway",
            b"/gateway/stats",
            b"/gateway/websockets",
            b"/gateway/websockets/ws-1",
            b"/g%61teway/services",
        ):
            self.assertEqual(self.refused(guard, exchange(path, ip="10.0.0.1")), 403)

    def test_changes_from_other_web_pages_are_refused(self) -> None:
        """A browser that is made to send a POST says whose page wants it (CSRF); for reading too
        it does, and may: it will not show the answer to that page."""
        page = b"/gateway/circuit-breakers/reset"
        evil = (b"http://evil.example", b"null", b"http://localhost", b"http://localhost:8081", b"")
        for guard in (Guard(Admin(), None), Guard(Admin(open=True), None)):
            for method in (b"POST", b"PATCH", b"DELETE", b"PUT"):
                for origin in evil:
                    asked = exchange(page, method=method, origin=origin)
                    self.assertEqual(self.refused(guard, asked), 403, origin)
            self.assertTrue(self.admitted(guard, exchange(page, origin=evil[0])))

    def test_changes_from_our_own_pages_and_from_programs(self) -> None:
        """Programs send no Origin; a page of ours sends the host it was asked for."""
        guard = Guard(Admin(), None)
        page = b"/gateway/circuit-breakers/reset"
        self.assertTrue(self.admitted(guard, exchange(page, method=b"POST")))
        for host, origin in (
            (b"localhost:8080", b"http://LOCALHOST:8080"),
            (b"localhost", b"http://localhost"),
            (b"localhost:80", b"http://localhost"),
            (b"localhost", b"https://localhost:443"),
            (b"[::1]:8080", b"http://[::1]:8080"),
        ):
            asked = exchange(page, host=host, method=b"POST", origin=origin)
            self.assertTrue(self.admitted(guard, asked), origin)

    def test_other_pages_take_no_notice_of_origins(self) -> None:
        """They change nothing; what they answer to a POST is not the guard's business."""
        asked = exchange(b"/health", method=b"POST", origin=b"http://evil.example")
        self.assertTrue(self.admitted(Guard(Admin(), None), asked))

    def test_whom_open_pages_tell_more(self) -> None:
        """The same as those who may see admin pages, whatever they ask for."""
        auth = JwtAuth(TokenVerifier(Jwt(secret=SecretStr(SECRET))))
        local = exchange(b"/health/services")
        stranger = exchange(b"/health/services", ip="203.0.113.9")
        answers = [
            (guard.trusts(local), guard.trusts(stranger))
            for guard in (
                Guard(Admin(), None),
                Guard(Admin(), auth),
                Guard(Admin(open=True), auth),
            )
        ]
        self.assertEqual(answers, [(True, False), (False, False), (True, True)])

    def test_opened_for_everybody(self) -> None:
        """As configured, also where authentication is on."""
        auth = JwtAuth(TokenVerifier(Jwt(secret=SecretStr(SECRET))))
        for guard in (Guard(Admin(open=True), None), Guard(Admin(open=True), auth)):
            self.assertTrue(self.admitted(guard, exchange(ip="203.0.113.9")))
            self.assertEqual(repr(guard), "<Guard everybody>")

    def test_with_authentication_a_token_is_needed(self) -> None:
        """From this machine too; who came is known afterwards."""
        guard = Guard(Admin(), JwtAuth(TokenVerifier(Jwt(secret=SecretStr(SECRET)))))
        now = int(time())
        token = jwt.encode({"sub": "alice", "exp": now + 60}, SECRET, "HS256").encode()
        asked = exchange(ip="203.0.113.9", authorization=b"Bearer " + token)
        guard.admit(asked)
        assert asked.identity is not None
        self.assertEqual(asked.identity.subject, "alice")
        expired = jwt.encode({"sub": "alice", "exp": now - 60}, SECRET, "HS256").encode()
        for headers in ({}, {"authorization": b"Bearer " + expired}, {"authorization": b"Basic x"}):
            asked = exchange(**cast("Any", headers))
            self.assertRaises(Unauthorized, guard.admit, asked)
        self.assertEqual(repr(guard), "<Guard tokens>")
