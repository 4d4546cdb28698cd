"""What balancing, breakers and the readiness to retry cost a request that has no trouble.

    python bench/bookkeeping.py [--instances 3]

In process, without sockets: connections are always idle and answer at once, so that what is left is
the way through `upstream.service`. Each row is the best of many short runs, because whatever else
the machine does can only make them longer. The first row does the same without any of it: it takes
a connection of the first instance and asks.
"""

import argparse
import gc
import logging
from collections.abc import Callable, Coroutine
from time import monotonic, perf_counter
from typing import Any

from twisted.internet.task import Clock

from rtgateway import config
from rtgateway.core.deadlines import Wheel
from rtgateway.core.retry import RetryPolicy
from rtgateway.net.tasks import Waiter
from rtgateway.upstream.answer import Answer
from rtgateway.upstream.build import ServiceBuilder
from rtgateway.upstream.service import Service
from rtgateway.wire.http1 import HeadLimits, ResponseParser

CALLS = 2_000
RUNS = 60


class Call:
    """A request."""

    method = b"GET"
    to_head = False
    path = b"/"
    client_ip = "127.0.0.1"
    chosen = None
    attempts = 0
    answer_lines = b""
    secure = False
    body = None

    def values(self, key: bytes) -> list[bytes]:
        return []

    def head_for(self, instance: object) -> bytes:
        return b""


class Plan:
    """How it is treated: as by default."""

    connect = first_byte = between_bytes = 5.0
    request = 0.0
    retry = RetryPolicy.from_config(config.Retry())


class Connection:
    """Answers at once, for ever."""

    def __init__(self) -> None:
        parser = ResponseParser(HeadLimits())
        head = parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert head is not None
        self.answer = Answer(self, head)  # type: ignore[arg-type]
        self.answer.complete = True

    def ask(self, call: object, head: bytes, plan: object, now: float) -> Waiter[Answer]:
        waiter: Waiter[Answer] = Waiter()
        waiter.succeed(self.answer)
        return waiter


class Pool:
    """Always has a connection."""

    def __init__(self) -> None:
        self._connection = Connection()

    def take(self) -> Connection:
        return self._connection


def service(count: int, **settings: Any) -> Service:
    """A service of ``count`` instances."""
    urls = [f"http://127.0.0.1:{3001 + number}" for number in range(count)]
    document = {"services": {"main": {"instances": urls, **settings}}}
    settings_ = config.from_dict(document)
    builder = ServiceBuilder(settings_.limits, Clock(), Wheel())
    made = builder.service("main", settings_.services["main"])
    for instance in made.instances:
        instance.pool = Pool()  # type: ignore[assignment]
    return made


def best(run: Callable[[], Coroutine[Any, Any, Any]]) -> float:
    """Microseconds for one, the best of many."""
    quickest = float("inf")
    for _ in range(RUNS):
        began = perf_counter()
        for _ in range(CALLS):
            # suppress() would cost as much as what is measured here.
            try:  # noqa: SIM105
                run().send(None)
            except StopIteration:
                pass
        quickest = min(quickest, perf_counter() - began)
    return quickest / CALLS * 1e6


def bare(service: Service) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Take a connection of the first instance, and ask."""
    call, plan, instance = Call(), Plan(), service.instances[0]

    async def ask() -> Answer:
        now = monotonic()
        connection = instance.pool.take()
        assert connection is not None
        head = call.head_for(instance)
        answer = await connection.ask(call, head, plan, now)  # type: ignore[arg-type]
        instance.answered(monotonic() - now)
        return answer

    return ask


def forward(service: Service) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Ask the way that every request is asked."""
    call, plan = Call(), Plan()
    return lambda: service.forward(call, plan)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--instances", type=int, default=3, help="of the service (3)")
    count = parser.parse_args().instances
    logging.disable()
    gc.disable()
    base = best(bare(service(count)))
    print(f"| {'the way of a request to an instance':<52} | us | more |\n|---|---:|---:|")
    print(f"| {'a connection of the first instance, and its answer':<52} | {base:.2f} | |")
    rows = {
        "one instance: attempt, breaker, retry readiness": service(1),
        f"{count} instances by least load, all of it": service(count),
        f"{count} instances by p2c": service(count, balance="p2c"),
        f"{count} instances by round robin": service(count, balance="round_robin"),
        "and a window of 30 s instead of 100 calls": service(
            count, circuit_breaker={"window_size": "30s"}
        ),
        "and a breaker for the service": service(count, service_breaker=True),
        "and a limit of requests in flight": service(count, concurrency={"limit": 100}),
    }
    for title, made in rows.items():
        took = best(forward(made))
        print(f"| {title:<52} | {took:.2f} | +{took - base:.2f} |")


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Shows the docstring as it is."""


if __name__ == "__main__":
    main()
