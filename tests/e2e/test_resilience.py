"""What an operator sees from outside: pages, metrics and traffic say the same."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.error import CannotListenError
from twisted.names import dns, server

from rtgateway.testing import RecordedConnection, RunningGateway, eventually, soon
from rtgateway.testing.waiting import the_reactor
from tests.e2e.world import World, event_stream, with_length

__all__: list[str] = []

BAD = b"HTTP/1.1 500 Bad\r\nContent-Length: 3\r\n\r\nbad"
CHECKS = {"interval": "30ms", "jitter": 0, "rise": 1, "fall": 1}
STRATEGIES = [
    "least_load",
    "round_robin",
    "random",
    "least_connections",
    "p2c",
    "consistent_hash",
    "sticky",
]


def get(path: str, *lines: str) -> bytes:
    """A GET request, as a program on this machine sends it: it may see the pages of operators."""
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


async def ask(world: World, gateway: RunningGateway, path: str = "/api/main/", *lines: str) -> Any:
    """One answer, on a connection of its own."""
    client = await world.client(gateway, get(path, *lines))
    answer = await client.answer()
    client.close()
    return answer


async def page(world: World, gateway: RunningGateway, path: str) -> Any:
    """The JSON of a page."""
    return json.loads((await ask(world, gateway, path)).body)


async def order(world: World, gateway: RunningGateway, path: str, method: str = "POST") -> Any:
    """What the gateway says to an order of its operator."""
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    client = await world.client(gateway, request.encode())
    answer = await client.answer()
    client.close()
    assert answer.status < 300, answer.body
    return json.loads(answer.body)


async def metrics(world: World, gateway: RunningGateway) -> dict[tuple[str, ...], float]:
    """All samples, by name and the values of their labels."""
    text = (await ask(world, gateway, "/metrics")).body.decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def until(world: World, gateway: RunningGateway, path: str, status: int) -> Any:
    """The JSON of a page once it has this status."""
    deadline = monotonic() + 10
    while (answer := await ask(world, gateway, path)).status != status:
        assert monotonic() < deadline, f"{path} never had status {status}: {answer.body!r}"
        await soon(0.01)
    return json.loads(answer.body)


def checked(bad: set[bytes]) -> Any:
    """Answers with the name in its Host; health checks by whether the name is in ``bad``."""

    def answer(connection: RecordedConnection, request: bytes) -> bytes:
        host = request.partition(b"\r\nHost: ")[2].partition(b"\r\n")[0]
        if request.startswith(b"GET /health"):
            return BAD if host in bad else with_length(b"fine")
        return with_length(host)

    return answer


# -- balancing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest_twisted.ensureDeferred
async def test_who_is_out_of_use_gets_nothing(world: World, strategy: str) -> None:
    """Weight 0, drained, a backup that nobody needs: whatever the strategy."""
    names = ("heavy", "light", "zero", "drained", "backup")
    upstreams = {name: await world.upstream(with_length(name.encode())) for name in names}
    special: dict[str, dict[str, Any]] = {
        "heavy": {"weight": 3},
        "zero": {"weight": 0},
        "backup": {"backup": True},
    }
    instances = [{"url": upstreams[name].url, **special.get(name, {})} for name in names]
    balance = {"strategy": strategy, "hash": "header:X-Key"}
    gateway = await world.gateway({"instances": instances, "balance": balance})
    drained = upstreams["drained"].url.removeprefix("http://")
    await order(world, gateway, f"/gateway/services/main/drain?instance={drained}")
    client = await world.client(gateway)
    served: Counter[bytes] = Counter()
    for key in range(40):
        client.send(get("/api/main/", f"X-Key: {key}"))
        served[(await client.answer()).body] += 1
    assert set(served) <= {b"heavy", b"light"}
    if strategy == "round_robin":
        assert served == {b"heavy": 30, b"light": 10}
    service = (await page(world, gateway, "/gateway/services/main"))["instances"]
    assert [each["reason"] for each in service] == ["", "", "weight 0", "draining", ""]
    assert (await metrics(world, gateway))["proxy_instances_available", "main"] == 3
    assert (await page(world, gateway, "/health"))["services"]["main"]["status"] == "ok"


@pytest_twisted.ensureDeferred
async def test_a_stream_is_sticky(world: World) -> None:
    """The cookie comes with the head of an event stream, and leads back to its instance."""

    def events(connection: RecordedConnection, request: bytes) -> bytes:
        if b"/events" in request:
            return event_stream() + b"8\r\ndata: 1\n\r\n"
        return with_length(b"%d" % connection.transport.getHost().port)

    upstreams = [await world.upstream(events) for _ in range(3)]
    gateway = await world.gateway(
        {"instances": [each.url for each in upstreams], "balance": "sticky"}
    )
    stream = await world.client(gateway, get("/sse/main/events"))
    await eventually(lambda: b"data: 1" in stream.received)
    head = stream.received.partition(b"\r\n\r\n")[0].decode()
    cookie = head.partition("Set-Cookie: ")[2].partition(";")[0]
    (port,) = [each.port for each in upstreams if each.requests]
    for _ in range(4):
        again = await ask(world, gateway, "/api/main/", f"Cookie: {cookie}")
        assert (again.body, again.header(b"set-cookie")) == (b"%d" % port, None)
    stream.close()
    await world.at_rest(gateway)


# -- what is shown ---------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_panic_is_shown(world: World) -> None:
    """Too few are well, so that all are asked: pages and metrics say so, and when it is over."""
    bad: set[bytes] = set()
    upstreams = [await world.upstream(checked(bad)) for _ in range(3)]
    ids = [each.url.removeprefix("http://") for each in upstreams]
    gateway = await world.gateway(
        {
            "instances": [each.url for each in upstreams],
            "balance": {"strategy": "round_robin", "panic_threshold": 0.5, "slow_start": 0},
            "health": CHECKS,
        }
    )
    instances = gateway.service.services["main"].instances
    bad.update(each.encode() for each in ids[:2])
    await eventually(lambda: sum(bool(each.obstacle(0)) for each in instances) == 2)
    served = {(await ask(world, gateway)).body for _ in range(3)}
    assert served == {each.encode() for each in ids}
    health = await page(world, gateway, "/health/services")
    service = health["services"]["main"]
    assert (service["status"], service["instances"]) == ("panic", {"total": 3, "available": 1})
    assert [each["reason"] for each in service["details"].values()] == [
        "health check failing: status 500",
        "health check failing: status 500",
        "",
    ]
    samples = await metrics(world, gateway)
    assert samples["gateway_panic", "main"] == 1
    assert samples["gateway_instance_health", "main", upstreams[0].url] == 0
    alerts = (await page(world, gateway, "/gateway/stats"))["alerts"]
    assert "service_panic" in [alert["type"] for alert in alerts]
    bad.clear()
    await eventually(lambda: not any(each.obstacle(0) for each in instances))
    await ask(world, gateway)
    assert (await metrics(world, gateway))["gateway_panic", "main"] == 0


@pytest_twisted.ensureDeferred
async def test_readiness_follows_the_checks(world: World) -> None:
    """A critical service, a critical dependency: 503 with the reason, and 200 again."""
    bad: set[bytes] = set()
    upstream, database = await world.upstream(checked(bad)), await world.upstream(checked(bad))
    gateway = await world.gateway(
        {"instances": [upstream.url], "health": CHECKS, "critical": True},
        health_checks={"db": {"url": f"{database.url}/health", "critical": True, **CHECKS}},
    )
    assert (await until(world, gateway, "/readyz", 200))["ok"] is True
    for culprit, reason in (
        (upstream, "service main is unavailable"),
        (database, "dependency db is down"),
    ):
        bad.add(culprit.url.removeprefix("http://").encode())
        assert (await until(world, gateway, "/readyz", 503))["reasons"] == [reason]
        assert (await until(world, gateway, "/health", 503))["status"] == "unavailable"
        assert (await ask(world, gateway, "/healthz")).status == 200
        bad.clear()
        await until(world, gateway, "/readyz", 200)


@pytest_twisted.ensureDeferred
async def test_an_open_circuit_is_shown(world: World) -> None:
    """The same everywhere: the page of circuits, that of health, metrics, and what clients get."""
    upstream = await world.upstream(BAD)
    gateway = await world.gateway(
        {"instances": [upstream.url], "circuit_breaker": {"failure_threshold": 2, "jitter": 0}}
    )
    id = upstream.url.removeprefix("http://")
    for _ in range(2):
        assert (await ask(world, gateway)).status == 500
    refused = await ask(world, gateway)
    assert (refused.status, refused.header(b"retry-after")) == (503, b"30")
    circuit = (await page(world, gateway, "/gateway/circuit-breakers"))[f"main/{id}"]
    assert circuit["state"] == "open"
    (change,) = circuit["state_changes"]
    assert (change["from"], change["to"]) == ("closed", "open")
    assert change["reason"] == "2 failures in a row"
    health = (await page(world, gateway, "/health/services"))["services"]["main"]["details"][id]
    assert health["reason"].startswith("circuit open for ")
    samples = await metrics(world, gateway)
    assert samples["proxy_circuit_breaker_state", "main", upstream.url] == 1
    assert samples["proxy_instances_available", "main"] == 0
    assert samples["proxy_requests_total", "main", "GET", "500", upstream.url] == 2
    assert samples["proxy_requests_total", "main", "GET", "error", ""] == 1
    assert samples["proxy_load_balancer_errors_total", "main", "no_instances"] == 1
    await order(world, gateway, f"/gateway/circuit-breakers/main/disable?instance={id}")
    assert [(await ask(world, gateway)).status for _ in range(4)] == [500] * 4
    samples = await metrics(world, gateway)
    assert samples["proxy_circuit_breaker_state", "main", upstream.url] == 0


@pytest_twisted.ensureDeferred
async def test_labels_of_the_metrics(world: World) -> None:
    """The names and labels that dashboards ask for, in a text that a parser takes."""
    busy = await world.upstream(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    gateway = await world.gateway({"instances": [busy.url], "retry": {"base_delay": 0}})
    assert (await ask(world, gateway)).status == 503
    text = (await ask(world, gateway, "/metrics")).body.decode()
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert labels["proxy_requests_total"] == {"service", "method", "status", "instance"}
    assert labels["proxy_request_duration_seconds_count"] == {"service", "method", "status"}
    assert labels["proxy_instances_available"] == {"service"}
    assert labels["proxy_circuit_breaker_state"] == {"service", "instance"}
    assert labels["proxy_retry_attempts_total"] == {"service", "attempt"}
    assert labels["proxy_load_balancer_errors_total"] == {"service", "error_type"}


# -- instances that come and go --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_draining_waits_for_a_stream(world: World) -> None:
    """Nothing new, the stream goes on, and the page tells when the instance is empty."""
    upstream = await world.upstream(lambda connection, request: event_stream())
    other = await world.upstream(with_length(b"other"))
    gateway = await world.gateway({"instances": [upstream.url], "balance": "round_robin"})
    stream = await world.client(gateway, get("/sse/main/"))
    connection = await upstream.connection()
    await eventually(lambda: b"\r\n\r\n" in stream.received)
    query = "?instance=" + upstream.url.removeprefix("http://")
    told = await order(world, gateway, f"/gateway/services/main/drain{query}")
    assert (told["inFlight"], told["streams"], told["empty"]) == (1, 1, False)
    body = json.dumps({"url": other.url})
    client = await world.client(
        gateway,
        b"POST /gateway/services/main/instances HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body.encode()),
    )
    assert (await client.answer()).status == 201
    assert [(await ask(world, gateway)).body for _ in range(3)] == [b"other"] * 3
    connection.send(b"8\r\ndata: 1\n\r\n")
    await eventually(lambda: b"data: 1" in stream.received)
    connection.send(b"0\r\n\r\n")
    await world.at_rest(gateway)
    first = (await page(world, gateway, "/gateway/services/main"))["instances"][0]
    assert (first["draining"], first["empty"], first["reason"]) == (True, True, "draining")


@pytest_twisted.ensureDeferred
async def test_a_bad_file_takes_nobody_away(world: World, tmp_path: Path) -> None:
    """It is explained on the page; a good one is in use at once."""
    first, second = [await world.upstream(with_length(name)) for name in (b"first", b"second")]
    file = tmp_path / "instances.yaml"

    def put(text: str) -> None:
        (tmp_path / "new").write_text(text)
        os.replace(tmp_path / "new", file)

    put(f"- {first.url}\n")
    discovery = {"file": {"path": str(file), "interval": "20ms"}}
    gateway = await world.gateway({"discovery": discovery, "balance": "round_robin"})
    service = gateway.service.services["main"]
    assert (await ask(world, gateway)).body == b"first"
    put(f"- {second.url}\n- [half\n")
    assert service.discovery is not None
    source = service.discovery
    await eventually(lambda: source.describe()["last_error"])
    shown = (await page(world, gateway, "/gateway/services/main"))["discovery"]
    assert "line 3" in shown["last_error"]
    assert (await ask(world, gateway)).body == b"first"
    put(f"- {second.url}\n")
    await eventually(lambda: [each.label for each in service.instances] == [second.url])
    assert (await ask(world, gateway)).body == b"second"


class NameServer(server.DNSServerFactory):
    """Knows the addresses of ``main.test``; none at all is SERVFAIL."""

    noisy = False
    addresses: tuple[str, ...] = ()
    asked = 0

    def handleQuery(self, message: Any, protocol: Any, address: Any) -> None:
        self.asked += 1
        known = [
            dns.RRHeader("main.test", dns.A, ttl=0, payload=dns.Record_A(host))
            for host in self.addresses
            if message.queries[0].type == dns.A
        ]
        code = dns.OK if self.addresses else dns.ESERVER
        self.sendReply(protocol, self._responseFromMessage(message, code, known, [], []), address)


@pytest_twisted.async_yield_fixture
async def names() -> AsyncIterator[tuple[NameServer, str]]:
    """A name server, and where it listens."""
    known, reactor = NameServer(), the_reactor()
    while True:
        udp = reactor.listenUDP(0, dns.DNSDatagramProtocol(known), interface="127.0.0.1")
        port = udp.getHost().port
        try:
            tcp = reactor.listenTCP(port, known, interface="127.0.0.1")
            break
        except CannotListenError:
            await udp.stopListening()
    yield known, f"127.0.0.1:{port}"
    await udp.stopListening()
    await tcp.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_name_that_moves(world: World, names: tuple[NameServer, str]) -> None:
    """Requests follow it; while nobody knows it, the instances stay as they were."""
    known, resolver = names
    known.addresses = ("127.0.0.1",)
    upstream = await world.upstream(with_length(b"here"))
    lookup = {"name": "main.test", "port": upstream.port, "resolvers": [resolver]}
    gateway = await world.gateway({"discovery": {"dns": {**lookup, "min_ttl": "50ms"}}})
    service = gateway.service.services["main"]
    await eventually(lambda: service.instances)
    assert (await ask(world, gateway)).body == b"here"
    host = f"\r\nHost: main.test:{upstream.port}\r\n".encode()
    assert host in upstream.requests[0]
    instance = service.instances[0]
    known.addresses = ()
    assert service.discovery is not None
    source = service.discovery
    await eventually(lambda: source.describe()["last_error"])
    assert (await ask(world, gateway)).body == b"here"
    known.addresses = ("127.0.0.1", "127.0.0.9")
    await eventually(lambda: len(service.instances) == 2)
    assert service.instances[0] is instance
    known.addresses = ("127.0.0.9",)
    await eventually(lambda: len(service.instances) == 1)
    (left,) = (await page(world, gateway, "/gateway/services/main"))["instances"]
    assert (left["id"], left["source"]) == (f"127.0.0.9:{upstream.port}", "discovery")


# -- shaping ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_only_the_gateway_marks_copies(world: World) -> None:
    """A client can not make its own request look like one that counts for nothing."""
    main = await world.upstream(with_length(b"main"))
    shadow = await world.upstream(with_length(b"shadow"))
    gateway = await world.gateway(
        main,
        services={"main": main.url, "shadow": shadow.url},
        routes=[{"path": "/shop", "service": "main", "mirror": {"service": "shadow"}}],
    )
    assert (await ask(world, gateway, "/shop", "X-Rtgateway-Mirror: 1")).body == b"main"
    copy = await shadow.request()
    assert b"rtgateway-mirror" not in main.requests[0].lower()
    assert copy.lower().count(b"\r\nx-rtgateway-mirror: 1\r\n") == 1


@pytest.mark.parametrize("line", ["503 Busy", "502 Bad"])
@pytest_twisted.ensureDeferred
async def test_a_backup_for_who_has_been_failed(world: World, line: str) -> None:
    """All others have failed this request: the backup answers it, though they still take part."""
    broken = await world.upstream(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode())
    backup = await world.upstream(with_length(b"backup"))
    instances = [broken.url, {"url": backup.url, "backup": True}]
    gateway = await world.gateway({"instances": instances, "retry": {"base_delay": 0}})
    assert (await ask(world, gateway)).body == b"backup"
    assert (len(broken.requests), len(backup.requests)) == (1, 1)
    service = gateway.service.services["main"]
    assert [each.id for each in service.members.candidates] == [service.instances[0].id]


@pytest_twisted.ensureDeferred
async def test_who_is_drained_causes_no_panic(world: World) -> None:
    """What an operator takes out is not missing; what is ill beside it is still left alone."""
    upstreams = [await world.upstream(with_length(b"ok")) for _ in range(4)]
    gateway = await world.gateway(
        {"instances": [each.url for each in upstreams], "balance": {"panic_threshold": 0.5}}
    )
    ids = [each.id for each in gateway.service.services["main"].instances]
    for id in ids[:2]:
        await order(world, gateway, f"/gateway/services/main/drain?instance={id}")
    await order(world, gateway, f"/gateway/circuit-breakers/main/force_open?instance={ids[2]}")
    assert (await ask(world, gateway)).status == 200
    assert (await metrics(world, gateway))["gateway_panic", "main"] == 0
    assert (await page(world, gateway, "/health"))["services"]["main"]["status"] == "degraded"


@pytest_twisted.ensureDeferred
async def test_all_circuits_open_is_no_reason_to_wait(world: World) -> None:
    """Where no instance is left, circuits are probed every second, however long they would rest."""
    upstreams = [await world.upstream(BAD) for _ in range(2)]
    breaker = {"failure_threshold": 1, "success_threshold": 1, "timeout": "1h", "max_timeout": "1h"}
    gateway = await world.gateway(
        {
            "instances": [each.url for each in upstreams],
            "balance": "round_robin",
            "circuit_breaker": breaker,
        }
    )
    assert [(await ask(world, gateway)).status for _ in range(3)] == [500, 500, 503]
    for each in upstreams:
        each.answering = lambda connection, request: with_length(b"back")
    assert (await until(world, gateway, "/health", 200))["services"]["main"]["status"] != "ok"
    deadline = monotonic() + 10
    while (answer := await ask(world, gateway)).status != 200:
        assert answer.header(b"retry-after") == b"1"
        assert monotonic() < deadline
        await soon(0.05)
    assert answer.body == b"back"
