"""``twistd rtgateway`` as a process: its start, its signals, its end, and what it says."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import jwt
import pytest

from tests.e2e.process import Instance, Process, dial, head_of, read_answer, until

__all__: list[str] = []

GET = b"GET /api/main/x HTTP/1.1\r\nHost: test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def served(connection: socket.socket) -> None:
    """Answers every request with ok, and one for ``/slow`` after a second."""
    while request := head_of(connection)[0]:
        if b"/slow" in request:
            time.sleep(1.0)
        connection.sendall(OK)


def main(instance: Instance, **settings: Any) -> dict[str, Any]:
    return {"services": {"main": instance.url}, **settings}


# -- starting ---------------------------------------------------------------------------------


def test_from_the_environment(tmp_path: Path) -> None:
    """Without a file: the variables of the Real-Time API Gateway."""
    with Instance(served) as instance:
        env = {"UPSTREAMS": json.dumps({"main": [instance.url]}), "LOG_LEVEL": "warn"}
        with Process(tmp_path, env=env).listening() as gateway:
            with dial(gateway.port) as client:
                client.sendall(GET)
                assert read_answer(client) == (200, b"ok")
                client.sendall(GET.replace(b"main", b"none"))
                status, body = read_answer(client)
            assert status == 404
            assert json.loads(body)["message"] == "No upstream configured for service: none"
            gateway.stop()
            lines = [line for line in gateway.stdout.splitlines() if line.startswith("{")]
            assert [json.loads(line)["status"] for line in lines] == [200, 404]


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"AUTH_REQUIRED": "true"}, ["JWT_SECRET is required when AUTH_REQUIRED is true"]),
        ({"JWT_SECRET": "too short"}, ["JWT_SECRET", "32 characters"]),
        ({"UPSTREAMS": "{", "LOG_LEVEL": "loud"}, ["UPSTREAMS", "LOG_LEVEL"]),
    ],
    ids=["no secret", "short secret", "two mistakes"],
)
def test_a_bad_environment(tmp_path: Path, env: dict[str, str], words: list[str]) -> None:
    """Everything that is wrong, in plain words."""
    with Process(tmp_path, env={"UPSTREAMS": "{}", **env}) as gateway:
        assert gateway.ended() == 1
        assert all(word in gateway.stderr for word in words)
        assert "Traceback" not in gateway.said
        assert "too short" not in gateway.said, "that was meant to be a secret"


def test_a_bad_file(tmp_path: Path) -> None:
    """All problems at once, each with its line."""
    settings = {
        "services": {"main": "ftp://127.0.0.1:1"},
        "routes": [{"path": "/", "service": "mian"}],
        "timeouts": {"conect": "5s", "head": "soon"},
    }
    with Process(tmp_path, settings) as gateway:
        assert gateway.ended() == 1
        lines = gateway.stderr.splitlines()
    assert all(line.startswith(str(tmp_path / "gateway.yaml") + ":") for line in lines)
    for words in ("services.main", "routes[0].service", '"conect"', "timeouts.head"):
        assert any(words in line for line in lines), words
    assert "Traceback" not in gateway.said


def test_a_taken_port(tmp_path: Path) -> None:
    """One sentence that names the port, in the log that twistd keeps."""
    with Instance(served) as instance:
        settings = main(instance, listeners=[{"tcp": f"127.0.0.1:{instance.port}"}])
        with Process(tmp_path, settings) as gateway:
            assert gateway.ended() == 1
            (said,) = [line for line in gateway.said.splitlines() if "taken" in line]
            assert said.endswith(f"rtgateway: port {instance.port} on 127.0.0.1 is taken")
            assert "Traceback" not in gateway.said


def test_a_log_that_can_not_be_written(tmp_path: Path) -> None:
    """One sentence too."""
    (tmp_path / "folder.log").mkdir()
    settings = {"services": {}, "access_log": {"file": str(tmp_path / "folder.log")}}
    with Process(tmp_path, settings) as gateway:
        assert gateway.ended() == 1
        assert "folder.log" in gateway.said
        assert "Traceback" not in gateway.said


def test_sockets_from_systemd(tmp_path: Path) -> None:
    """A Unix socket that was inherited, and one with TCP (sd_listen_fds(3))."""
    path = str(tmp_path / "inherited.sock")
    with socket.socket(socket.AF_UNIX) as unix, Instance(served) as instance:
        unix.bind(path)
        unix.listen()
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            port = tcp.getsockname()[1]
            config = tmp_path / "gateway.yaml"
            config.write_text(
                json.dumps(main(instance, listeners=[{"systemd": "unix"}, {"systemd": "tcp"}]))
            )
            with inheriting([unix, tcp], config) as process:
                try:
                    for client in (socket.socket(socket.AF_UNIX), socket.socket()):
                        with client:
                            client.settimeout(10)
                            client.connect(
                                path if client.family == socket.AF_UNIX else ("127.0.0.1", port)
                            )
                            client.sendall(GET)
                            assert read_answer(client) == (200, b"ok")
                finally:
                    process.terminate()
                    process.wait(10)
        assert process.returncode == -signal.SIGTERM


def inheriting(sockets: list[socket.socket], config: Path) -> subprocess.Popen[bytes]:
    """A gateway that gets ``sockets`` as descriptors 3 and up."""
    starter = (
        "import os, sys\n"
        "numbers = [int(text) for text in sys.argv[1].split(',')]\n"
        "spare = [os.dup2(number, 100 + index) for index, number in enumerate(numbers)]\n"
        "for index, number in enumerate(spare):\n"
        "    os.dup2(number, 3 + index)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(spare)))\n"
        "os.environ['LISTEN_FDNAMES'] = 'unix:tcp'\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    numbers = [each.fileno() for each in sockets]
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            starter,
            ",".join(map(str, numbers)),
            str(Path(sys.executable).with_name("twistd")),
            "-n",
            "--pidfile=",
            "rtgateway",
            f"--config={config}",
        ],
        pass_fds=numbers,
        cwd=config.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


# -- the access log ---------------------------------------------------------------------------


def log_lines(path: Path, number: int) -> list[dict[str, Any]]:
    lines = until(lambda: _complete(path) if len(_complete(path)) >= number else None)
    assert lines is not None
    return [json.loads(line) for line in lines]


def _complete(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


def test_what_the_log_says(tmp_path: Path) -> None:
    """One JSON object for each request, with the values that a client saw, and no secret."""
    secret = "a secret that is long enough to be one"
    token = jwt.encode({"sub": "ann"}, secret)
    auth = {"required": True, "jwt": {"secret": secret}}
    with (
        Instance(served) as instance,
        Process(tmp_path, main(instance, auth=auth, log_level="debug")).listening() as gateway,
    ):
        with dial(gateway.port) as client:
            client.sendall(
                b"GET /api/main/a%20b?token=s3cret HTTP/1.1\r\nHost: test\r\n"
                b'User-Agent: me "and" you\r\nX-Request-Id: abc-1\r\nCookie: session=s3cret\r\n'
                b"Authorization: Bearer " + token.encode() + b"\r\n\r\n"
            )
            assert read_answer(client) == (200, b"ok")
            client.sendall(GET.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer s3.cr.et\r\n\r\n"))
            assert read_answer(client)[0] == 401
            client.sendall(b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n")
            assert read_answer(client)[0] == 404
        first, second, third = log_lines(gateway.log, 3)
        assert first["time"].endswith("Z")
        assert first["duration_us"] >= first["first_byte_us"] > 0
        expected = {
            "request_id": "abc-1",
            "client_ip": "127.0.0.1",
            "method": "GET",
            "path": "/api/main/a%20b",
            "status": 200,
            "route": "/api/:service/*",
            "service": "main",
            "instance": instance.url,
            "bytes_in": 0,
            "bytes_out": 2,
            "user_agent": 'me "and" you',
            "subject": "ann",
        }
        assert {key: first[key] for key in expected} == expected
        assert (second["status"], second["error"]) == (401, "invalid_token")
        assert (third["status"], third["route"]) == (404, "unmatched")
        gateway.stop()
        everything = gateway.log.read_text() + gateway.said
        for word in (secret, token, "s3cret", "s3.cr.et"):
            assert word not in everything


def test_reopening_the_log(tmp_path: Path) -> None:
    """SIGHUP after the file has been renamed: the next line is in a new file."""
    with Instance(served) as instance, Process(tmp_path, main(instance)).listening() as gateway:
        with dial(gateway.port) as client:
            client.sendall(GET)
            read_answer(client)
            log_lines(gateway.log, 1)
            rotated = tmp_path / "access.log.1"
            gateway.log.rename(rotated)
            gateway.signal(signal.SIGHUP)
            until(gateway.log.exists)
            client.sendall(GET)
            read_answer(client)
        assert len(log_lines(gateway.log, 1)) == 1
        assert len(log_lines(rotated, 1)) == 1
        gateway.stop()


# -- ending -----------------------------------------------------------------------------------


def refuses(port: int) -> bool:
    try:
        dial(port).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_draining(tmp_path: Path, number: int) -> None:
    """Nothing new is accepted, idle connections are closed, and what is served is finished."""
    with Instance(served) as instance, Process(tmp_path, main(instance)).listening() as gateway:
        with dial(gateway.port) as idle, dial(gateway.port) as fresh, dial(gateway.port) as slow:
            idle.sendall(GET)
            assert read_answer(idle) == (200, b"ok")
            slow.sendall(GET.replace(b"/x", b"/slow"))
            until(lambda: len(instance.connections) == 2 or len(log_lines(gateway.log, 1)) == 1)
            time.sleep(0.2)
            began = time.monotonic()
            gateway.signal(number)
            assert idle.recv(1) == b"", "closed at once"
            assert fresh.recv(1) == b"", "closed at once"
            assert time.monotonic() - began < 0.7
            until(lambda: refuses(gateway.port))
            head, body = head_of(slow)
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nConnection: close\r\n" in head
            assert body == b"ok"
            assert slow.recv(1) == b""
        gateway.drained(number)
        assert len(log_lines(gateway.log, 2)) == 2
        assert "Traceback" not in gateway.said


def test_the_grace_period(tmp_path: Path) -> None:
    """What is still being served when it is over is cut off and logged, streams too."""

    def stuck(connection: socket.socket) -> None:
        head, _ = head_of(connection)
        if b"/events" in head:
            kind = b"Content-Type: text/event-stream"
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\ndata: 1\n\n")
        connection.recv(1)

    with Instance(stuck) as instance:
        settings = main(instance, shutdown={"grace": "600ms"})
        with (
            Process(tmp_path, settings).listening() as gateway,
            dial(gateway.port) as client,
            dial(gateway.port) as reader,
        ):
            client.sendall(GET)
            reader.sendall(GET.replace(b"/x", b"/events"))
            assert head_of(reader)[0]
            until(lambda: len(instance.connections) == 2)
            time.sleep(0.1)
            began = time.monotonic()
            gateway.stop()
            assert 0.5 < time.monotonic() - began < 3.0
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            lines = log_lines(gateway.log, 2)
            assert [line["status"] for line in lines] == [499, 499]
            assert {line.get("kind") for line in lines} == {None, "sse"}
            assert "the grace period is over" in gateway.said


def test_the_command_ends_with_0(tmp_path: Path) -> None:
    """``rtgateway run`` drains as well; unlike twistd, it does not end by the signal it got."""
    with Instance(served) as instance:
        command = [sys.executable, "-m", "rtgateway", "run"]
        with Process(tmp_path, main(instance), command=command).listening() as gateway:
            with dial(gateway.port) as slow:
                slow.sendall(GET.replace(b"/x", b"/slow"))
                until(lambda: instance.connections)
                time.sleep(0.1)
                gateway.signal(signal.SIGTERM)
                assert read_answer(slow) == (200, b"ok")
            assert gateway.process.wait(5) == 0
        assert len(log_lines(gateway.log, 1)) == 1


# -- instances that die ------------------------------------------------------------------------

DIES = """
import socket, sys, time
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection, _ = listening.accept()
connection.recv(65536)
connection.sendall(sys.argv[1].encode().decode("unicode_escape").encode("latin-1"))
time.sleep(60)
"""


BREAKS = (
    # What an instance sends before it dies, and what a client has seen then.
    (r"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello", b"\r\n\r\nhello"),
    (r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"5\r\nhello\r\n"),
    (r"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello", b"5\r\nhello\r\n"),
)


def test_killed_instances(tmp_path: Path) -> None:
    """``kill -9`` in an answer: the client sees it truncated, never ended. Before one: 502."""
    with contextlib.ExitStack() as stack:
        dying = [
            stack.enter_context(
                subprocess.Popen([sys.executable, "-c", DIES, begun], stdout=subprocess.PIPE)
            )
            for begun in ("", *(begun for begun, _ in BREAKS))
        ]
        for process in dying:
            stack.callback(process.kill)
        services = {
            f"s{number}": f"http://127.0.0.1:{int(cast(IO[bytes], process.stdout).readline())}"
            for number, process in enumerate(dying)
        }
        gateway = stack.enter_context(Process(tmp_path, {"services": services}).listening())
        with dial(gateway.port) as client:
            client.sendall(GET.replace(b"main", b"s0"))
            until(lambda: _established(dying[0].pid))
            dying[0].kill()
            status, body = read_answer(client)
        assert status == 502
        for number, (_, ends) in enumerate(BREAKS, start=1):
            with dial(gateway.port) as client:
                client.sendall(GET.replace(b"main", b"s%d" % number))
                received = b""
                while not received.endswith(ends):
                    received += client.recv(65536)
                dying[number].kill()
                while more := client.recv(65536):
                    received += more
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert received.endswith(ends)
        lines = log_lines(gateway.log, 4)
        assert lines[0]["request_id"] == json.loads(body)["request_id"]
        assert [line["status"] for line in lines] == [502, 200, 200, 200]
        assert {line["error"] for line in lines} == {"upstream_unavailable"}
        with dial(gateway.port) as client:
            client.sendall(GET.replace(b"main", b"s1"))
            assert read_answer(client)[0] == 502, "nobody listens there any more"
        gateway.stop()


def _established(pid: int) -> bool:
    """Whether a process has an open connection: stdio, the listening socket, and one more."""
    return len(os.listdir(f"/proc/{pid}/fd")) >= 5


# -- memory -----------------------------------------------------------------------------------

KIB, MIB = 1024, 1024 * 1024
LARGE = int(os.environ.get("RTGATEWAY_TEST_LARGE_MIB", "256")) * MIB
"""Bytes of a large body; the longer run that the bounds were chosen by had 1 GiB."""


class Watch(threading.Thread):
    """Samples a process's memory until stopped.

    :ivar peak: the largest sample, in bytes.
    """

    def __init__(self, gateway: Process) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.005):
            self.peak = max(self.peak, self._gateway.rss)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self.join()


def source(size: Callable[[bytes], int]) -> Callable[[socket.socket], None]:
    """An instance that answers with as many bytes as the request asks for, as fast as it can."""

    def serve(connection: socket.socket) -> None:
        block = bytes(MIB)
        while request := head_of(connection)[0]:
            left = size(request)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            while left:
                left -= connection.send(block[: min(left, MIB)])

    return serve


def download(gateway: Process, size: int, pause: float) -> None:
    """Read an answer of ``size`` bytes, with a pause behind each MiB."""
    with dial(gateway.port) as client:
        client.sendall(b"GET /api/main/%d HTTP/1.1\r\nHost: test\r\n\r\n" % size)
        head, rest = head_of(client)
        assert head.startswith(b"HTTP/1.1 200 ")
        left = size - len(rest)
        buffer = bytearray(MIB)
        due = MIB
        while left:
            got = client.recv_into(buffer)
            assert got, "cut off"
            left -= got
            due -= got
            if due <= 0:
                time.sleep(pause)
                due += MIB


def test_a_large_answer_to_a_slow_reader(tmp_path: Path) -> None:
    """The gateway holds a few hundred KiB of it, however large it is."""

    def asked(request: bytes) -> int:
        return int(request.split(b" ", 2)[1][1:])

    with (
        Instance(source(asked)) as instance,
        Process(tmp_path, main(instance)).listening() as gateway,
    ):
        download(gateway, 16 * MIB, 0.002)
        before = gateway.rss
        with Watch(gateway) as watch:
            download(gateway, LARGE, 0.004)
        growth = watch.peak - before
        print(f"answer: {before / KIB:.0f} KiB before, {growth / KIB:+.0f} KiB at the peak")
        assert growth < 600 * KIB


def test_a_large_request_to_a_slow_instance(tmp_path: Path) -> None:
    """The same upstream: what the instance does not take stays with the client."""

    def sink(connection: socket.socket) -> None:
        buffer = bytearray(MIB)
        while request := head_of(connection):
            head, rest = request
            if not head:
                return
            left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) - len(rest)
            due = MIB
            while left:
                got = connection.recv_into(buffer)
                left -= got
                due -= got
                if due <= 0:
                    time.sleep(0.004)
                    due += MIB
            connection.sendall(OK)

    def upload(gateway: Process, size: int) -> None:
        with dial(gateway.port) as client:
            client.sendall(
                b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size
            )
            block = bytes(MIB)
            left = size
            while left:
                left -= client.send(block[: min(left, MIB)])
            assert read_answer(client) == (200, b"ok")

    with (
        Instance(sink) as instance,
        Process(tmp_path, main(instance, limits={"body": 0})).listening() as gateway,
    ):
        upload(gateway, 16 * MIB)
        before = gateway.rss
        with Watch(gateway) as watch:
            upload(gateway, LARGE)
        growth = watch.peak - before
        print(f"request: {before / KIB:.0f} KiB before, {growth / KIB:+.0f} KiB at the peak")
        assert growth < 600 * KIB


def test_ten_thousand_requests(tmp_path: Path) -> None:
    """Neither memory nor a descriptor is left of them."""

    def rush(gateway: Process, number: int) -> None:
        with dial(gateway.port) as client:
            batch = GET * 50
            for _ in range(number // 50):
                client.sendall(batch)
                received = b""
                while received.count(b"\r\n\r\nok") < 50:
                    more = client.recv(65536)
                    assert more
                    received += more

    with Instance(served) as instance, Process(tmp_path, main(instance)).listening() as gateway:
        rush(gateway, 3000)
        until(lambda: len(_complete(gateway.log)) == 3000)
        before, descriptors = gateway.rss, gateway.descriptors
        for _ in range(20):
            rush(gateway, 500)
        until(lambda: len(_complete(gateway.log)) == 13_000)
        until(lambda: gateway.descriptors <= descriptors)
        growth = gateway.rss - before
        print(f"10,000 requests: {before / KIB:.0f} KiB before, {growth / KIB:+.0f} KiB after")
        assert growth < 600 * KIB
        assert len(instance.connections) <= 2
        gateway.stop()
