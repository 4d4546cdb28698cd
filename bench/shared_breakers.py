"""Eight gateways share the circuit of an instance that dies and comes back: do they agree?

    python bench/shared_breakers.py                    8 processes, 6 outages, about a minute
    python bench/shared_breakers.py --gateways 3 --outages 2

Each gateway is a process with its own reactor, its own link to Redis and its own breaker, and calls
one instance all the time. The instance is this program. It answers badly in every other outage, and
is not there at all in the rest; it counts how many probes are with it at once. Processes of one
machine have the same monotonic clock, so that their changes of state can be compared.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

RATE = 100.0  # calls per second of each gateway
SICK = 1.0  # seconds of an outage; the circuit rests for
REST = 0.5
WELL = 1.5
SLOW = 0.03  # seconds that a call takes
CAP = 2


# -- a gateway ------------------------------------------------------------------------------------


def gateway(number: int, redis: str, port: int) -> None:
    """Call the instance whenever the breaker lets it; print each change of state."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import HostnameEndpoint
    from twisted.internet.protocol import Factory, Protocol
    from twisted.internet.task import LoopingCall

    from rtgateway import config
    from rtgateway.core.breaker_settings import BreakerSettings
    from rtgateway.store.breakers import Breakers
    from rtgateway.store.redis.breakers import RedisKeeper
    from rtgateway.store.redis.link import Link

    draw = random.Random(number).random
    link = Link(config.State.model_validate({"url": redis}), reactor, draw)
    link.start()
    breakers = Breakers(RedisKeeper(link), reactor, f"gateway{number}", draw)

    def say(*words):
        print(json.dumps(words), flush=True)

    settings = BreakerSettings(
        timeout=REST, timeout_factor=1.0, half_open_calls=CAP, success_threshold=3
    )
    breaker = breakers.breaker(
        "bench instance", settings, lambda change: say(change.at, change.new, change.reason)
    )

    class Call(Protocol):
        def connectionMade(self):
            self.permit, self.verdict, self.began = self.factory.permit, True, time.monotonic()
            self.transport.write(b"p" if self.permit & 1 else b"c")

        def dataReceived(self, data):
            self.verdict = data != b"good"
            self.transport.loseConnection()

        def connectionLost(self, reason):
            now = time.monotonic()
            breaker.record(self.permit, now, now - self.began, self.verdict)

    def call():
        now = time.monotonic()
        if not breaker.ready(now):
            return
        factory = Factory.forProtocol(Call)
        factory.noisy = False
        factory.permit = breaker.acquire(now)
        connecting = HostnameEndpoint(reactor, "127.0.0.1", port).connect(factory)
        connecting.addErrback(lambda _: breaker.record(factory.permit, time.monotonic(), 0.0, True))

    def joined():
        if not breaker.joined:
            reactor.callLater(0.02, joined)
            return
        say(time.monotonic(), "joined", "")
        LoopingCall(call).start(1 / RATE)

    LoopingCall(lambda: breakers.tick(time.monotonic())).start(0.1)
    joined()
    reactor.run()


# -- the instance ---------------------------------------------------------------------------------


class Instance:
    """Answers after a while, well or badly. Counts the probes that are with it at once."""

    def __init__(self):
        self.sick = False
        self.calls = self.probes = self.most_probes = self.served = self.failed = 0

    async def serve(self, reader, writer):
        kind = await reader.read(1)
        probe = kind == b"p"
        self.probes += probe
        self.most_probes = max(self.most_probes, self.probes)
        try:
            await asyncio.sleep(SLOW * random.uniform(0.5, 1.5))
            self.served += 1
            self.failed += self.sick
            # Before the answer: when the gateway has that, its slot is free.
            self.probes -= probe
            probe = False
            writer.write(b"bad!" if self.sick else b"good")
            await writer.drain()
        finally:
            self.probes -= probe
            writer.close()


# -- the measurement ------------------------------------------------------------------------------


def spread(times):
    return (max(times) - min(times)) * 1000


async def measure(options, redis_url):
    instance = Instance()
    server = await asyncio.start_server(instance.serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    children, said = [], [[] for _ in range(options.gateways)]
    for number in range(options.gateways):
        command = (sys.executable, __file__, "--be", str(number), redis_url, str(port))
        child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        children.append(child)

        async def listen(child=child, number=number):
            async for line in child.stdout:
                said[number].append(json.loads(line))

        child.listening = asyncio.create_task(listen())
    try:
        while not all(said):
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.0)
        outages = []
        for number in range(options.outages):
            begun = time.monotonic()
            if number % 2:
                server.close()
            else:
                instance.sick = True
            await asyncio.sleep(SICK)
            if number % 2:
                server = await asyncio.start_server(instance.serve, "127.0.0.1", port, backlog=1024)
            instance.sick = False
            recovered = time.monotonic()
            await asyncio.sleep(WELL)
            outages.append((begun, recovered, time.monotonic()))
    finally:
        for child in children:
            child.kill()
        for child in children:
            await child.wait()
            await child.listening
        await asyncio.sleep(4 * SLOW)  # calls under way end
        server.close()
    return instance, said, outages


def report(options, instance, said, outages):
    print(f"{options.gateways} gateways, {RATE:.0f} calls/s each; cap of {CAP} probes; "
          f"sick for {SICK} s, circuit open for {REST} s\n")  # fmt: skip
    print("| outage | first open after ms | all open within ms | opened, of each "
          "| closed after recovery ms | all closed within ms | changes of each |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    worst_open = worst_close = 0.0
    sound = True
    for number, (begun, recovered, over) in enumerate(outages, 1):
        mine = [[x for x in each if begun <= x[0] < over and x[1] != "joined"] for each in said]
        if not all(mine):
            print(f"| {number} | not all have noticed |")
            sound = False
            continue
        opened = [next((at for at, state, _ in each if state == "open"), over) for each in mine]
        closed = [[at for at, state, _ in each if state == "closed"] for each in mine]
        sequences = {tuple(state for _, state, _ in each) for each in mine}
        sound = sound and len(sequences) == 1 and all(len(each) == 1 for each in closed)
        ends = [each[-1] if each else over for each in closed]
        worst_open = max(worst_open, spread(opened))
        worst_close = max(worst_close, spread(ends))
        openings = sorted(sum(state == "open" for _, state, _ in each) for each in mine)
        changes = sorted(map(len, mine))
        print(f"| {number} | {(min(opened) - begun) * 1000:.0f} | {spread(opened):.1f} "
              f"| {openings[0]}-{openings[-1]} | {(min(ends) - recovered) * 1000:.0f} "
              f"| {spread(ends):.1f} | {changes[0]}-{changes[-1]} |")  # fmt: skip
    print(f"\nmost probes at the instance at once: {instance.most_probes}; "
          f"calls: {instance.served}, of them failed: {instance.failed}")  # fmt: skip
    targets = [
        ("all open within 200 ms of the first", f"{worst_open:.1f} ms", worst_open <= 200),
        (f"probes at once at most {CAP}", instance.most_probes, instance.most_probes <= CAP),
        ("closed once for each outage, the same changes everywhere", sound, sound),
        ("all closed within 200 ms of the first", f"{worst_close:.1f} ms", worst_close <= 200),
    ]
    for what, found, met in targets:
        print(f"[{'pass' if met else 'MISS'}] {what}: {found}")
    return all(met for *_, met in targets)


def main():
    if sys.argv[1:2] == ["--be"]:
        gateway(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--outages", type=int, default=6)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from rtgateway.testing.redis import RedisServer

    server = RedisServer().start()
    try:
        findings = asyncio.run(measure(options, server.url))
    finally:
        server.kill()
        server.stop()
    print(f"{os.cpu_count()} cores\n")
    return 0 if report(options, *findings) else 1


if __name__ == "__main__":
    sys.exit(main())
