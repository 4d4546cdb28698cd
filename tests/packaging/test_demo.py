"""``rtgateway demo``: everything it tells to try works, and it stops when asked to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import pytest

DEADLINE = 15.0


@contextmanager
def running_demo() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that is ready, and where its gateway listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "rtgateway", "demo", "--host", "127.0.0.1", "-p", str(port))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            while not said.endswith("Ctrl-C stops everything.\n"):
                line = process.stdout.readline()
                assert line, f"the demo ended: {said}"
                said += line
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_demo() as (_, url):
        yield url


def get(url: str, *, method: str = "GET", **fields: str) -> HTTPResponse:
    """The answer, whatever its status."""
    request = urllib.request.Request(url, headers=fields, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=DEADLINE)
    except urllib.error.HTTPError as error:
        return error  # type: ignore[return-value]  # it is an answer as well
    assert isinstance(answer, HTTPResponse)
    return answer


def post(url: str) -> Any:
    """What an order is answered with; it has to succeed."""
    with get(url, method="POST") as answer:
        assert answer.status in (200, 202), answer.read()
        return json.load(answer)


def eventually(done: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it never was"
        time.sleep(0.1)


def users(url: str) -> dict[str, dict[str, Any]]:
    """The instances of users as the gateway sees them, by their ids."""
    with get(f"{url}/health/services") as answer:
        details: dict[str, dict[str, Any]] = json.load(answer)["services"]["users"]["details"]
    return details


def test_requests_are_spread_over_the_instances(url: str) -> None:
    seen = set()
    for _ in range(20):
        with get(f"{url}/users") as answer:
            seen.add(answer.headers["X-Instance"])
    assert seen == {"users-1", "users-2", "users-3"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/users/2", 200),
        ("/products/2", 200),
        ("/api/users/ok", 200),
        ("/api/products/health", 200),
        ("/api/users/slow", 200),
        ("/api/users/fail", 500),
        ("/api/nobody/", 404),
        ("/health", 200),
        ("/metrics", 200),
        ("/admin/stats", 200),
        ("/gateway/circuit-breakers/users", 200),
    ],
)
def test_what_it_tells_to_try_answers(url: str, path: str, status: int) -> None:
    with get(url + path) as answer:
        assert answer.status == status
        assert answer.read()


def test_echo_shows_what_the_gateway_sends_to_the_instance(url: str) -> None:
    with get(f"{url}/api/users/echo?a=1") as answer:
        body = json.load(answer)
    assert body["target"] == "/echo?a=1"
    assert "x-forwarded-for" in {name for name, _ in body["headers"]}


@pytest.mark.parametrize("path", ["/events", "/sse/events/events"])
def test_events_arrive_one_by_one_and_after_the_one_seen_last(url: str, path: str) -> None:
    fields = {"Last-Event-ID": "0"}
    with get(url + path, **fields) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert next(line for line in answer if line.startswith(b"id: ")) == b"id: 1\n"


def test_a_drill_fails_on_purpose_or_not_at_all(url: str) -> None:
    with get(f"{url}/drill/users") as answer:
        fault = answer.headers["X-Fault-Injected"] or ""
        assert answer.status == (503 if "abort" in fault else 200)


def test_nobody_notices_that_an_instance_is_broken_and_it_comes_back(url: str) -> None:
    broken = next(iter(users(url)))
    assert post(f"http://{broken}/break?how=503&seconds=60")["broken"] == "503"
    tries = set()
    reasons = []

    def works() -> str:
        with get(f"{url}/api/users/users") as answer:
            assert answer.status == 200
            tries.add(answer.headers["X-Proxy-Attempts"])
            instance: str = answer.headers["X-Proxy-Instance"]
            return instance

    def is_out() -> bool:
        # Every third meets it, and five failures open its circuit, unless a check is faster.
        assert broken not in {works() for _ in range(15)}
        reasons.append(users(url)[broken]["reason"])
        return bool(reasons[-1])

    eventually(is_out)
    assert "2" in tries
    assert reasons[-1].startswith(("circuit open for", "health check failing: status 503"))
    assert post(f"http://{broken}/mend")["broken"] is None
    eventually(lambda: works() == broken)


def test_an_instance_is_drained_and_taken_back(url: str) -> None:
    drained = list(users(url))[1]
    orders = f"{url}/gateway/services/users"
    post(f"{orders}/drain?instance={drained}")
    assert users(url)[drained]["reason"] == "draining"
    for _ in range(6):
        with get(f"{url}/api/users/users") as answer:
            assert answer.headers["X-Proxy-Instance"] != drained
    post(f"{orders}/undrain?instance={drained}")
    assert users(url)[drained]["available"]


def test_it_ends_with_status_0_on_sigterm() -> None:
    with running_demo() as (process, _):
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, output
        assert "Traceback" not in output
