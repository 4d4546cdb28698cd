"""WebSockets under load: small and large messages, many connections, rules, handshakes."""

from collections.abc import Mapping

from harness.bench import Bench
from harness.gateway import MOST_CONNECTIONS, Stages, gateway
from harness.proxies import AUTOBAHN, NGINX
from harness.report import Report, Target
from harness.rounds import Entrant
from harness.scenarios.bridge import COLUMNS, GATEWAY, bridge, entrant, measure, start, tabulate
from harness.sockets import Traffic

SMALL = Traffic(64, text=True)
LARGE = Traffic(1 << 20, connections=16)
ROOMY = "nginx, 64 kB buffers"
PEERS = ("nginx", "haproxy", "go", "node", "autobahn")
# Everything that looks at traffic, with limits that this traffic does not reach.
RULES: Mapping[str, object] = {
    "messages_per_second": 100_000,
    "bytes_per_second": 1_000_000_000,
    "max_frame": 1 << 20,
    "max_message": 1 << 20,
    "idle_timeout": 300,
    "max_lifetime": 3600,
    "connections": MOST_CONNECTIONS,
    "per_ip": MOST_CONNECTIONS,
    "per_instance": MOST_CONNECTIONS,
}
NO_RULES: Mapping[str, object] = {"ping_interval": 0}


def small(bench: Bench) -> Report:
    report = Report(
        "ws-64b",
        "round trips of a 64-byte text message, 64 connections",
        ("proxy", *COLUMNS),
    )
    rounds = measure(bench, [bridge(), *bench.taking_part(sockets=True)], SMALL)
    report.targets = [
        Target(">= 0.75 x nginx", rounds.ratio(GATEWAY, NGINX), 0.75),
        Target(">= 5 x an Autobahn bridge", rounds.ratio(GATEWAY, AUTOBAHN), 5),
    ]
    return tabulate(report, rounds)


def medium(bench: Bench) -> Report:
    report = Report(
        "ws-4k",
        "round trips of a 4 KiB binary message, 64 connections",
        ("proxy", *COLUMNS),
    )
    proxies = [bridge(), *bench.taking_part(*PEERS, sockets=True)]
    rounds = measure(bench, proxies, Traffic(4096))
    report.targets = [Target(">= 0.75 x nginx", rounds.ratio(GATEWAY, NGINX), 0.75)]
    return tabulate(report, rounds)


def large(bench: Bench) -> Report:
    """nginx twice: as it comes, with a page to hold for each direction, and with 64 kB."""
    report = Report(
        "ws-1m",
        f"round trips of a 1 MiB binary message, {LARGE.connections} connections",
        ("proxy", *COLUMNS, "MB/s each way"),
    )
    with bench.rig() as rig:
        running = start(bench, rig, [bridge(), *bench.taking_part(*PEERS, sockets=True)])
        entrants = [entrant(bench, rig, proxy, LARGE) for proxy in running.values()]
        if "nginx" in running:
            path = f"{LARGE.path}/large"
            traffic = Traffic(LARGE.size, connections=LARGE.connections, path=path)
            entrants.append(entrant(bench, rig, running["nginx"], traffic, ROOMY))
        rounds = bench.interleave(entrants)
    report.targets = [
        Target(">= 0.6 x nginx in bytes/s", rounds.ratio(GATEWAY, NGINX), 0.6),
        Target(">= 0.6 x nginx with 64 kB buffers", rounds.ratio(GATEWAY, ROOMY), 0.6),
    ]
    tabulate(report, rounds)
    report.rows = [(*row, f"{rounds.rate(row[0]) * LARGE.size / 1e6:,.0f}") for row in report.rows]
    return report


def many(bench: Bench) -> Report:
    """Each row is a proxy and a number of connections, all of them busy."""
    report = Report(
        "ws-2000",
        "round trips of 64 bytes on 2,000 connections beside 64; ratios are to 64 connections",
        ("proxy, connections", *COLUMNS),
    )
    entrants: list[Entrant] = []
    with bench.rig() as rig:
        peers = bench.taking_part("nginx", "go", "autobahn", sockets=True)
        for proxy in start(bench, rig, [bridge(), *peers]).values():
            for connections in (64, 2000):
                traffic = Traffic(64, text=True, connections=connections)
                label = f"{proxy.proxy.title}, {connections:,}"
                entrants.append(entrant(bench, rig, proxy, traffic, label))
        rounds = bench.interleave(entrants)
    kept = rounds.ratio(f"{GATEWAY}, 2,000", f"{GATEWAY}, 64")
    report.targets = [Target("2,000 connections within 20 % of 64", kept, 0.8)]
    return tabulate(report, rounds, nginx=f"{NGINX}, 64", autobahn=f"{AUTOBAHN}, 64")


def rules(bench: Bench) -> Report:
    """The gateway twice: nothing to enforce, and everything. Metrics are kept by both."""
    report = Report(
        "ws-rules",
        "round trips of 64 bytes, 64 connections, with and without rules on the route",
        ("proxy", *COLUMNS),
    )
    free, ruled = f"{GATEWAY}-free", f"{GATEWAY}-rules"
    proxies = [
        gateway(Stages(websocket=NO_RULES), free),
        gateway(Stages(websocket=RULES), ruled),
        *bench.taking_part("nginx", sockets=True),
    ]
    rounds = measure(bench, proxies, SMALL)
    report.targets = [
        Target("with rules >= 0.85 x without", rounds.ratio(ruled, free), 0.85),
    ]
    return tabulate(report, rounds)


def handshakes(bench: Bench) -> Report:
    report = Report(
        "ws-handshakes",
        "connections opened and closed again with Close frames, 64 at a time",
        ("proxy", *COLUMNS),
    )
    proxies = [bridge(), *bench.taking_part(sockets=True)]
    rounds = measure(bench, proxies, Traffic(handshakes=True))
    report.targets = [Target(">= 0.3 x nginx", rounds.ratio(GATEWAY, NGINX), 0.3)]
    return tabulate(report, rounds)
