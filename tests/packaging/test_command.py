"""The ``rtgateway`` command and ``twistd rtgateway``, run as a user runs them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from rtgateway import __version__

GOOD = """\
services:
  users:
    instances: ["http://127.0.0.1:4001", "http://127.0.0.1:4002"]
  products: http://127.0.0.1:4003
routes:
  - path: /v1/users
    service: users
"""
BAD = """\
services:
  users: ftp://127.0.0.1:4001
routes:
  - path: /v1/users
    service: uesrs
"""


def rtgateway(
    *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "rtgateway", *arguments, env=env)


def run(
    *command: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on, on every address."""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(BAD)
    return file


def is_one_sentence(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text and len(text) > 20


def test_version() -> None:
    done = rtgateway("version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"rtgateway {__version__}\n", "")


def test_schema_is_a_json_schema_of_the_configuration() -> None:
    done = rtgateway("schema")
    assert done.returncode == 0, done.stderr
    assert {"services", "routes", "listeners"} <= set(json.loads(done.stdout)["properties"])


def test_check_counts_what_it_accepts(good: Path) -> None:
    done = rtgateway("check", good)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{good}: ok (2 services, 1 route)\n"


def test_check_names_every_problem_with_its_line(bad: Path) -> None:
    done = rtgateway("check", bad)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.split(": ")[0] for line in lines] == [f"{bad}:2", f"{bad}:5"]
    assert "services.users" in lines[0]
    assert "routes[0].service" in lines[1]


@pytest.mark.parametrize("command", [("check",), ("run", "--config")])
def test_a_missing_file_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    done = rtgateway(*command, missing)
    assert (done.returncode, done.stdout) == (1, "")
    assert is_one_sentence(done.stderr)
    assert str(missing) in done.stderr


def test_run_refuses_a_configuration_with_problems(bad: Path) -> None:
    done = rtgateway("run", "--config", bad)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{bad}:2", f"{bad}:5"]


def test_run_refuses_an_environment_with_problems() -> None:
    done = rtgateway("run", env={"AUTH_REQUIRED": "true", "UPSTREAMS": "{}"})
    assert done.returncode == 1
    assert "JWT_SECRET is required when AUTH_REQUIRED is true" in done.stderr
    assert "Traceback" not in done.stderr


def test_twistd_refuses_a_configuration_with_problems(bad: Path) -> None:
    twistd = Path(sys.executable).with_name("twistd")
    done = run(twistd, "--nodaemon", "--pidfile=", "rtgateway", "--config", bad)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stderr.splitlines()] == [f"{bad}:2", f"{bad}:5"]


@pytest.mark.parametrize("command", ["run", "demo"])
def test_a_taken_port_is_one_sentence(command: str, taken_port: int) -> None:
    done = rtgateway(command, "--port", str(taken_port), env={"UPSTREAMS": "{}"})
    assert (done.returncode, done.stdout) == (1, "")
    assert is_one_sentence(done.stderr)
    assert str(taken_port) in done.stderr


def test_twistd_tells_of_a_taken_port_without_a_traceback(taken_port: int) -> None:
    twistd = Path(sys.executable).with_name("twistd")
    env = {"UPSTREAMS": "{}", "PORT": str(taken_port)}
    done = run(twistd, "--nodaemon", "--pidfile=", "rtgateway", env=env)
    assert done.returncode == 1
    assert str(taken_port) in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_port_that_is_no_number_is_a_wrong_command_line() -> None:
    done = rtgateway("demo", "--port", "http")
    assert done.returncode == 2
    assert "'http' is not a port number" in done.stderr
