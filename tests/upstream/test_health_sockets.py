"""Active checks of real servers: what is sent, what passes, what fails, and what is left."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Any, cast

import pytest
import pytest_twisted
import trustme
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher

from rtgateway import __version__, config
from rtgateway.net.tls import client_tls
from rtgateway.testing import RecordedConnection, RecordingUpstream, eventually
from rtgateway.testing.waiting import the_reactor
from rtgateway.upstream.check_target import CheckTarget
from rtgateway.upstream.health import HealthCheck

__all__: list[str] = []

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BROKEN = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
EARLY_END = "the connection ended before the answer was complete"


class Ward:
    """Checks, what they check, and what they log. In the end nothing is left of any."""

    def __init__(self) -> None:
        self.changes: list[bool] = []
        self.logged: list[str] = []
        self._errors: list[str] = []
        self._checks: list[HealthCheck[Any]] = []
        self._upstreams: list[RecordingUpstream] = []
        self._timers = set(the_reactor().getDelayedCalls())
        globalLogPublisher.addObserver(cast(ILogObserver, self._observe))

    async def upstream(self, answer: Any = OK) -> RecordingUpstream:
        upstream = await RecordingUpstream.listening(answer)
        self._upstreams.append(upstream)
        return upstream

    async def secure_upstream(self, answer: Any, *names: str) -> RecordingUpstream:
        """One that speaks TLS with a certificate for these names."""
        upstream = RecordingUpstream(answer)
        self._upstreams.append(upstream)
        leaf = authority().issue_cert(*names)
        options = CertificateOptions(
            # pyOpenSSL takes cryptography's objects, and deprecates its own that Twisted declares.
            privateKey=cast("Any", load_pem_private_key(leaf.private_key_pem.bytes(), None)),
            certificate=cast("Any", load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())),
            acceptableProtocols=[b"http/1.1"],
        )
        upstream._listening = the_reactor().listenSSL(0, upstream, options, interface="127.0.0.1")
        return upstream

    def check(self, where: RecordingUpstream | CheckTarget, **settings: Any) -> HealthCheck[Any]:
        """A running check with short times; two failures are down, one pass is up again."""
        target = where
        if isinstance(target, RecordingUpstream):
            target = CheckTarget(target.url, target.url[7:].encode(), name="users")
        quick = {"interval": 0.05, "timeout": 5.0, "rise": 1, "fall": 2, **settings}
        check = HealthCheck(
            target,
            config.HealthCheck(**quick),
            the_reactor(),
            random,
            lambda check: self.changes.append(check.health.up),
        )
        self._checks.append(check)
        check.start()
        return check

    async def end(self) -> None:
        for check in self._checks:
            check.stop()
        connections = [each for upstream in self._upstreams for each in upstream.connections]
        await eventually(lambda: all(each.lost is not None for each in connections))
        for upstream in self._upstreams:
            await upstream.stop()
        await eventually(lambda: not set(the_reactor().getDelayedCalls()) - self._timers)
        globalLogPublisher.removeObserver(cast(ILogObserver, self._observe))
        assert not self._errors, "\n".join(self._errors)

    def _observe(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "rtgateway.upstream.health":
            self.logged.append(formatEvent(event))
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failure = event.get("log_failure")
            trace = failure.getTraceback() if failure is not None else ""
            self._errors.append(f"{formatEvent(event)}\n{trace}")


@pytest_twisted.async_yield_fixture
async def ward() -> Any:
    ward = Ward()
    yield ward
    await ward.end()


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(tmp_path: Path) -> Callable[[str], Any]:
    """How to speak TLS with whoever has this name from our authority."""
    ca = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(ca)
    return lambda name: client_tls(config.UpstreamTls(ca=ca), name)


async def checked(check: HealthCheck[Any], times: int = 1) -> HealthCheck[Any]:
    """Wait until it has been checked so many times in a row with the same result."""
    await eventually(lambda: check.health.consecutive >= times)
    return check


async def down(check: HealthCheck[Any]) -> str:
    """Wait until it is down; why."""
    await eventually(lambda: not check.health.up)
    return check.health.reason


# -- what is sent -------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_request(ward: Ward) -> None:
    """Path behind the base, Host of the instance, our name, the operator's own fields."""
    upstream = await ward.upstream()
    target = CheckTarget(upstream.url + "/base", b"users.test:3001")
    check = ward.check(target, path="/health?deep=1", headers={"X-Probe": "yes"})
    await checked(check)
    lines = upstream.requests[0].split(b"\r\n")
    assert lines[0] == b"GET /base/health?deep=1 HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        b"Accept-Encoding: identity",
        b"Connection: close",
        b"Host: users.test:3001",
        b"User-Agent: rtgateway-health/" + __version__.encode(),
        b"X-Probe: yes",
    ]
    assert check.health.up
    assert check.last_detail == "status 200"
    assert check.last_checked is not None
    assert check.last_duration is not None
    assert 0 < check.last_duration < 5


@pytest_twisted.ensureDeferred
async def test_own_fields_replace_ours(ward: Ward) -> None:
    """An operator who gives a Host or a User-Agent knows why."""
    upstream = await ward.upstream()
    await checked(ward.check(upstream, headers={"Host": "a.test", "user-agent": "me"}))
    assert b"\r\nHost: a.test\r\n" in upstream.requests[0]
    assert b"\r\nUser-Agent: me\r\n" in upstream.requests[0]
    assert upstream.requests[0].count(b"Host:") == 1


@pytest_twisted.ensureDeferred
async def test_a_new_connection_for_each_check(ward: Ward) -> None:
    """Each check connects, and closes orderly when it has its answer."""
    upstream = await ward.upstream()
    await checked(ward.check(upstream), 3)
    first = upstream.connections[0]
    assert len(first.requests) == 1
    assert len(upstream.connections) >= 3
    await eventually(lambda: first.lost is not None)
    assert first.lost is not None
    assert first.lost.check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_no_cookies(ward: Ward) -> None:
    """A cookie that an instance sets is not sent back."""
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    upstream = await ward.upstream(cookie)
    await checked(ward.check(upstream), 3)
    assert b"ookie" not in upstream.received


@pytest_twisted.ensureDeferred
async def test_head(ward: Ward) -> None:
    """HEAD is answered without the body whose length is announced."""
    upstream = await ward.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n")
    check = await checked(ward.check(upstream, method="HEAD"), 2)
    assert check.last_detail == "status 200"
    assert upstream.requests[0].startswith(b"HEAD /health HTTP/1.1\r\n")


@pytest_twisted.ensureDeferred
async def test_at_an_address(ward: Ward) -> None:
    """With an address nothing is resolved; the name stays in the Host field."""
    upstream = await ward.upstream()
    url = f"http://no_such_name.invalid:{upstream.port}"
    check = ward.check(CheckTarget(url, b"no_such_name.invalid", "127.0.0.1"))
    await checked(check, 2)
    assert check.health.up
    assert b"\r\nHost: no_such_name.invalid\r\n" in upstream.requests[0]


@pytest_twisted.ensureDeferred
async def test_at_another_port(ward: Ward) -> None:
    """Health may be told at a port of its own."""
    upstream = await ward.upstream()
    target = CheckTarget("http://127.0.0.1:1", b"127.0.0.1:1")
    for settings in ({"port": upstream.port}, {"port": upstream.port, "tcp": True}):
        assert (await checked(ward.check(target, **settings))).last_detail in (
            "status 200",
            "connected",
        )


# -- what fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(BROKEN, "status 500", id="status"),
        pytest.param(
            b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
            "status 302",
            id="redirect",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
            'status 200, but its body has no "ok"',
            id="body",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"20\r\n" + gzip.compress(b"ok" * 2000)[:32] + b"\r\n0\r\n\r\n",
            'status 200, but its body has no "ok"',
            id="compressed",
        ),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n", "the answer is not valid HTTP", id="other"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the answer is not valid HTTP",
            id="chunks",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_wrong_answers(ward: Ward, answer: bytes, reason: str) -> None:
    """Each is told in words, and takes it down."""
    upstream = await ward.upstream(answer)
    assert await down(ward.check(upstream, body="ok")) == reason
    assert {request.split(b" ")[1] for request in upstream.requests} == {b"/health"}


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK[:-1]])
@pytest_twisted.ensureDeferred
async def test_cut_off(ward: Ward, answer: bytes) -> None:
    """Closing before the answer, inside its head or inside its body is a failure."""

    def closing(connection: RecordedConnection, request: bytes) -> None:
        connection.send(answer)
        connection.close()

    assert await down(ward.check(await ward.upstream(closing))) == EARLY_END


@pytest_twisted.ensureDeferred
async def test_reset(ward: Ward) -> None:
    """So is a reset, and nothing is asked a second time because of it."""
    upstream = await ward.upstream(lambda connection, request: connection.abort())
    check = ward.check(upstream)
    check._on_change = HealthCheck.stop
    assert await down(check) == EARLY_END
    assert len(upstream.requests) == check.health.consecutive == 2


@pytest.mark.parametrize("tcp", [False, True])
@pytest_twisted.ensureDeferred
async def test_refused(ward: Ward, tcp: bool) -> None:
    """Nobody listens."""
    upstream = await ward.upstream()
    target = CheckTarget(upstream.url, b"a")
    await upstream.stop()
    assert await down(ward.check(target, tcp=tcp)) == (
        f"127.0.0.1:{target.url.rpartition(':')[2]}: Connection refused"
    )


@pytest_twisted.ensureDeferred
async def test_no_such_name(ward: Ward) -> None:
    """A name that leads nowhere."""
    check = ward.check(CheckTarget("http://nowhere.invalid:80", b"a"))
    assert await down(check) == "nowhere.invalid: no such name"


@pytest_twisted.ensureDeferred
async def test_hanging(ward: Ward) -> None:
    """No answer at all: the timeout is a failure, and the connection is given up."""
    upstream = await ward.upstream(None)
    check = ward.check(upstream, timeout=0.1)
    await down(check)
    # On a busy machine even connecting may take so long, now and then.
    await eventually(lambda: check.health.reason == "no complete answer within 0.1 s")
    await eventually(lambda: upstream.connections[0].lost is not None)


@pytest_twisted.ensureDeferred
async def test_dripping(ward: Ward) -> None:
    """An answer that comes a byte at a time does not get more time for it."""

    def drip(connection: RecordedConnection, request: bytes) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        feed(connection)

    def feed(connection: RecordedConnection) -> None:
        if connection.lost is None:
            connection.send(b".")
            the_reactor().callLater(0.01, feed, connection)

    check = ward.check(await ward.upstream(drip), timeout=0.2)
    await down(check)
    await eventually(lambda: check.health.reason == "no complete answer within 0.2 s")


# -- more than is read --------------------------------------------------------------------------


def endless(beginning: bytes, piece: bytes) -> Callable[[RecordedConnection, bytes], None]:
    """Answers that never end; ``connection.upstream`` keeps how much was taken of them."""

    class Spring:
        def __init__(self, connection: RecordedConnection) -> None:
            self.connection = connection

        def resumeProducing(self) -> None:
            self.connection.send(piece)

        def stopProducing(self) -> None:
            pass

    def answer(connection: RecordedConnection, request: bytes) -> None:
        connection.send(beginning)
        connection.transport.registerProducer(Spring(connection), False)

    return answer


@pytest_twisted.ensureDeferred
async def test_an_endless_body(ward: Ward) -> None:
    """The beginning is judged, and the rest cut off."""
    head = b"HTTP/1.1 200 OK\r\n\r\nok"
    upstream = await ward.upstream(endless(head, b"." * 4096))
    check = await checked(ward.check(upstream, body="ok"), 2)
    assert check.health.up
    assert check.last_detail == "status 200"
    await eventually(lambda: upstream.connections[0].lost is not None)
    assert not cast(Any, upstream.connections[0].lost).check(ConnectionDone)


@pytest_twisted.ensureDeferred
async def test_an_endless_body_without_the_text(ward: Ward) -> None:
    """What would come behind the first 64 KiB does not count."""
    chunks = b"1000\r\n" + b"." * 4096 + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    reason = await down(ward.check(await ward.upstream(endless(head, chunks)), body="ok"))
    assert reason == 'status 200, but its body has no "ok"'


@pytest_twisted.ensureDeferred
async def test_an_endless_head(ward: Ward) -> None:
    """A head gets no more room than a body."""
    upstream = await ward.upstream(endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100))
    assert await down(ward.check(upstream)) == "a head of more than 65536 bytes"


# -- TCP and TLS --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_only_connecting(ward: Ward) -> None:
    """Nothing is sent; the connection is closed orderly."""
    upstream = await ward.upstream()
    check = await checked(ward.check(upstream, tcp=True), 3)
    assert check.last_detail == "connected"
    first = upstream.connections[0]
    await eventually(lambda: first.lost is not None)
    assert first.lost is not None
    assert first.lost.check(ConnectionDone)
    assert upstream.received == b""


@pytest.mark.parametrize("tcp", [False, True])
@pytest_twisted.ensureDeferred
async def test_tls(ward: Ward, trusting: Callable[[str], Any], tcp: bool) -> None:
    """Certificates are verified by the name of the instance, wherever it is."""
    upstream = await ward.secure_upstream(OK, "users.test")
    url = f"https://users.test:{upstream.port}"
    target = CheckTarget(url, b"users.test", "127.0.0.1", trusting("users.test"))
    check = await checked(ward.check(target, tcp=tcp), 3)
    assert check.health.up
    assert check.last_detail == ("connected" if tcp else "status 200")
    assert bool(upstream.requests) is not tcp
    first = upstream.connections[0]
    await eventually(lambda: first.lost is not None)
    assert first.lost is not None
    assert first.lost.check(ConnectionDone)


@pytest.mark.parametrize("tcp", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_certificate_for_another_name(
    ward: Ward, trusting: Callable[[str], Any], tcp: bool
) -> None:
    """An instance that can't be used does not pass, not even when it is only connected to."""
    upstream = await ward.secure_upstream(OK, "other.test")
    url = f"https://users.test:{upstream.port}"
    target = CheckTarget(url, b"users.test", "127.0.0.1", trusting("users.test"))
    reason = await down(ward.check(target, tcp=tcp))
    assert reason == f"127.0.0.1:{upstream.port}: the certificate is not for this name"
    assert upstream.received == b""


@pytest.mark.parametrize("tcp", [False, True])
@pytest_twisted.ensureDeferred
async def test_no_handshake(ward: Ward, trusting: Callable[[str], Any], tcp: bool) -> None:
    """Accepting is not enough where TLS is spoken."""
    upstream = await ward.upstream(None)
    target = CheckTarget(upstream.url, b"users.test", None, trusting("users.test"))
    reason = await down(ward.check(target, tcp=tcp, timeout=0.1))
    assert reason == "no connection within 0.1 s"


# -- over time ----------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_down_and_up_again(ward: Ward) -> None:
    """Both changes are told and logged, each once."""
    answers = {"now": BROKEN}
    upstream = await ward.upstream(lambda connection, request: answers["now"])
    check = ward.check(upstream, fall=3, rise=2)
    assert await down(check) == "status 500"
    answers["now"] = OK
    await eventually(lambda: check.health.up)
    await checked(check, 4)
    assert ward.changes == [False, True]
    assert ward.logged == [
        f"Health check of users {upstream.url}: down: status 500 (3 in a row)",
        f"Health check of users {upstream.url}: up: status 200 (2 in a row)",
    ]


@pytest_twisted.ensureDeferred
async def test_flapping(ward: Ward) -> None:
    """What fails every other time is not down by its checks; nobody is told anything."""
    answers = [OK, BROKEN]
    upstream = await ward.upstream(
        lambda connection, request: answers[len(connection.upstream.requests) % 2]
    )
    check = ward.check(upstream)
    await eventually(lambda: len(upstream.requests) >= 6)
    assert check.health.up
    assert ward.changes == []
    assert ward.logged == []


@pytest_twisted.ensureDeferred
async def test_slow_answers_do_not_overlap(ward: Ward) -> None:
    """An instance slower than the interval has one check at a time to answer."""
    most = 0

    def slowly(connection: RecordedConnection, request: bytes) -> None:
        nonlocal most
        most = max(most, sum(not each.lost for each in connection.upstream.connections))
        the_reactor().callLater(0.15, connection.send, OK)

    upstream = await ward.upstream(slowly)
    check = await checked(ward.check(upstream), 3)
    assert check.health.up
    # The end of a connection is seen on this side a moment later than on the other.
    assert most <= 2


@pytest_twisted.ensureDeferred
async def test_stop_in_the_middle(ward: Ward) -> None:
    """The check in flight is ended with its connection; it counts for nothing."""
    upstream = await ward.upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    check = ward.check(upstream, fall=1)
    await upstream.request()
    check.stop()
    await eventually(lambda: upstream.connections[0].lost is not None)
    assert check.health.checked_at is None
    assert ward.changes == []


@pytest_twisted.ensureDeferred
async def test_stop_while_connecting(ward: Ward, trusting: Callable[[str], Any]) -> None:
    """A handshake that nobody answers is given up at once."""
    upstream = await ward.upstream(None)
    target = CheckTarget(upstream.url, b"a", None, trusting("a.test"))
    check = ward.check(target, fall=1)
    connection = await upstream.connection()
    check.stop()
    await eventually(lambda: connection.lost is not None)
    assert check.health.checked_at is None


# -- dependencies -------------------------------------------------------------------------------


def dependency(target: CheckTarget, **settings: Any) -> HealthCheck[Any]:
    quick = {"interval": 0.05, "timeout": 5.0, "rise": 1, "fall": 1, **settings}
    return HealthCheck(
        target, config.DependencyCheck(**quick), the_reactor(), random, lambda check: None
    )


@pytest_twisted.ensureDeferred
async def test_a_dependency_by_url(ward: Ward) -> None:
    """It is asked for exactly the URL that is configured; the log gets it without the query."""
    upstream = await ward.upstream()
    url = f"{upstream.url}/status?token=secret"
    check = dependency(CheckTarget.of_url(url, "mail"), url=url)
    ward._checks.append(check)
    check.start()
    await checked(check)
    assert upstream.requests[0].startswith(b"GET /status?token=secret HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{upstream.port}\r\n".encode() in upstream.requests[0]
    assert check.target.label == f"mail {upstream.url}/status"


@pytest_twisted.ensureDeferred
async def test_a_dependency_by_port(ward: Ward) -> None:
    """It is connected to, and down when that fails."""
    upstream = await ward.upstream()
    where = f"127.0.0.1:{upstream.port}"
    check = dependency(CheckTarget.of_tcp("127.0.0.1", upstream.port, "queue"), tcp=where)
    ward._checks.append(check)
    check.start()
    await checked(check)
    assert check.last_detail == "connected"
    await upstream.stop()
    assert await down(check) == f"{where}: Connection refused"


def test_targets_of_dependencies() -> None:
    """https is verified; IPv6 keeps its brackets; no secret is shown."""
    assert CheckTarget.of_url("https://a.test/x").tls is not None
    assert CheckTarget.of_url("http://me:secret@a.test/x", "mail").label == "mail http://a.test/x"
    assert CheckTarget.of_url("http://[::1]:8080/x").authority == b"[::1]:8080"
    assert CheckTarget.of_tcp("::1", 5432).url == "tcp://[::1]:5432"
