"""JSON Web Tokens, end to end: who gets through, and what the others are told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from time import time
from typing import Any

import jwt
import pytest
import pytest_twisted

from rtgateway.testing import RawAnswer, RunningGateway, eventually
from tests.e2e.world import World, get, post, with_length

__all__: list[str] = []

SECRET = "correct horse battery staple, and then some more of it to be long enough"
AUTH = {"required": True, "jwt": {"secret": SECRET}}
HS512 = {"required": True, "jwt": {"secret": SECRET, "algorithm": "HS512"}}


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "ann", "exp": time() + 3600, **claims}, secret, algorithm)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': 'ann'})}."


def signed_as_none() -> str:
    """A good signature under a header that says that there is none."""
    signed = f"{part({'alg': 'none'})}.{part({'sub': 'ann'})}"
    digest = hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


async def asked(world: World, gateway: RunningGateway, *lines: str) -> RawAnswer:
    client = await world.client(gateway, get("/api/main/", *lines))
    answer = await client.answer()
    client.close()
    return answer


@pytest_twisted.ensureDeferred
async def test_with_a_token(world: World) -> None:
    """Through, as often as one likes; the instance gets the token too, the log the subject."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, auth=AUTH)
    bearer = token()
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert (await asked(world, gateway, f"Authorization: {scheme} {bearer}")).status == 200
    assert f"\r\nAuthorization: Bearer {bearer}\r\n".encode() in upstream.requests[0]
    lines = await world.logged(gateway, 3)
    assert [line["subject"] for line in lines] == ["ann"] * 3
    assert bearer.encode() not in repr(lines).encode()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("X-Nothing: 1", "missing_token"),
        ("Authorization: Basic YW5uOnNlY3JldA==", "missing_token"),
        ("Authorization: Bearer", "missing_token"),
        ("Authorization: Bearer nonsense", "invalid_token"),
        (f"Authorization: Bearer {unsigned('none')}", "invalid_token"),
        (f"Authorization: Bearer {unsigned('HS256')}", "invalid_token"),
        (f"Authorization: Bearer {signed_as_none()}", "invalid_token"),
        (f"Authorization: Bearer {token(SECRET[::-1])}", "invalid_token"),
        (f"Authorization: Bearer {token(algorithm='HS512')}", "invalid_token"),
        (f"Authorization: Bearer {token(exp=time() - 1)}", "expired_token"),
        (f"Authorization: Bearer {token(nbf=time() + 1800)}", "invalid_token"),
        (f"Authorization: Bearer {token()}\r\nAuthorization: Bearer {token()}", "invalid_token"),
    ],
    ids=[
        "nothing",
        "another scheme",
        "empty",
        "nonsense",
        "alg none",
        "no signature",
        "alg none, signed",
        "another secret",
        "another algorithm",
        "expired",
        "not yet",
        "two",
    ],
)
@pytest_twisted.ensureDeferred
async def test_without_a_good_one(world: World, line: str, code: str) -> None:
    """401 in one wording for all of them; the instance hears nothing."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, auth=AUTH)
    answer = await asked(world, gateway, line)
    assert answer.status == 401
    told = json.loads(answer.body)
    assert (told["statusCode"], told["error"]) == (401, "Unauthorized")
    assert told["message"] == "Invalid or missing token"
    assert (answer.header(b"www-authenticate") or b"").startswith(b"Bearer")
    assert upstream.connections == []
    (logged,) = await world.logged(gateway)
    assert (logged["status"], logged["error"]) == (401, code)


@pytest_twisted.ensureDeferred
async def test_another_algorithm_by_configuration(world: World) -> None:
    """The algorithm is the configured one, not the token's choice."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, auth=HS512)
    for algorithm, status in (("HS512", 200), ("HS256", 401), ("HS384", 401)):
        line = f"Authorization: Bearer {token(SECRET, algorithm)}"
        assert (await asked(world, gateway, line)).status == status


@pytest_twisted.ensureDeferred
async def test_a_known_token_expires(world: World) -> None:
    """However often it was good before, also while its connection stays open."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, auth=AUTH)
    expires = time() + 2.5
    line = f"Authorization: Bearer {token(exp=expires)}"
    client = await world.client(gateway)
    for _ in range(3):
        client.send(get("/api/main/", line))
        assert (await client.answer()).status == 200
    await eventually(lambda: time() > expires)
    client.send(get("/api/main/", line))
    answer = await client.answer()
    assert answer.status == 401
    assert time() < expires + 5
    assert len(upstream.requests) == 3


@pytest_twisted.ensureDeferred
async def test_issuer_and_audience(world: World) -> None:
    """Where configured, both have to be right."""
    upstream = await world.upstream(with_length(b"ok"))
    settings = {"secret": SECRET, "issuer": "https://id.example", "audience": "api"}
    gateway = await world.gateway(upstream, auth={"required": True, "jwt": settings})
    right = {"iss": "https://id.example", "aud": "api"}
    for claims, status in (
        (right, 200),
        ({**right, "aud": ["web", "api"]}, 200),
        ({**right, "aud": "web"}, 401),
        ({**right, "iss": "https://id.example/"}, 401),
        ({"iss": "https://id.example"}, 401),
        ({"aud": "api"}, 401),
    ):
        line = f"Authorization: Bearer {token(**claims)}"
        assert (await asked(world, gateway, line)).status == status, claims


@pytest_twisted.ensureDeferred
async def test_routes_decide_for_themselves(world: World) -> None:
    """One may be open although others are not, and the other way round."""
    routes = [
        {"path": "/open", "service": "main", "auth": "none"},
        {"path": "/closed", "service": "main", "auth": "required"},
    ]
    upstream = await world.upstream(with_length(b"ok"))
    closed = await world.gateway(upstream, auth=AUTH, routes=routes)
    opened = await world.gateway(upstream, auth={**AUTH, "required": False}, routes=routes)
    for gateway, path, status in (
        (closed, "/open", 200),
        (closed, "/closed", 401),
        (closed, "/api/main/", 401),
        (closed, "/nowhere", 404),
        (closed, "/healthz", 200),
        (closed, "/admin/stats", 401),
        (opened, "/open", 200),
        (opened, "/closed", 401),
        (opened, "/api/main/", 200),
    ):
        client = await world.client(gateway, get(path))
        assert (await client.answer()).status == status, path


@pytest_twisted.ensureDeferred
async def test_an_upload_without_a_token(world: World) -> None:
    """Refused before it comes; the client gets the answer although it is still sending."""
    upstream = await world.upstream()
    gateway = await world.gateway(upstream, auth=AUTH)
    client = await world.client(
        gateway, b"POST /api/main/ HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000\r\n\r\n"
    )
    client.send(bytes(4_000_000))
    answer = await client.answer()
    assert (answer.status, answer.header(b"connection")) == (401, b"close")
    assert upstream.connections == []


@pytest_twisted.ensureDeferred
async def test_a_small_upload_without_a_token(world: World) -> None:
    """All of it has come: the connection can go on."""
    upstream = await world.upstream(with_length(b"ok"))
    gateway = await world.gateway(upstream, auth=AUTH)
    client = await world.client(gateway, post("/api/main/", b"small"))
    assert (await client.answer()).status == 401
    client.send(post("/api/main/", b"small", f"Authorization: Bearer {token()}"))
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_secrets_stay_secret(world: World) -> None:
    """Neither the configuration nor any part shows one when it is printed."""
    gateway = await world.gateway(await world.upstream(), auth=AUTH)
    service = gateway.service
    shown = [service, service.config, service.config.auth, service.auth, service.site, gateway]
    for thing in shown:
        assert SECRET not in repr(thing)
        assert SECRET not in str(thing)
    assert SECRET not in service.config.model_dump_json()
