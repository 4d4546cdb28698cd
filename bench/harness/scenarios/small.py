"""Small JSON answers: plain, with a token on every request, with 2,048 clients, over TLS."""

from harness.bench import Bench
from harness.credentials import new_secret, token
from harness.gateway import Stages, gateway
from harness.load import Load
from harness.report import Report, Target
from harness.rounds import Entrant
from harness.scenarios.throughput import COLUMNS, entrant, tabulate
from harness.upstream import SMALL_PATH, start_upstream

LOAD = Load(SMALL_PATH)
GATEWAY, GO, NGINX = "rtgateway", "Go ReverseProxy", "nginx"


def small(bench: Bench) -> Report:
    """The gateway's default pipeline beside every peer."""
    report = Report(
        "small",
        "GET of 150 bytes of JSON, 64 keep-alive connections",
        ("proxy", *COLUMNS),
    )
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        running = bench.start_all(rig, [gateway(), *bench.taking_part()], upstream.address)
        rounds = bench.interleave([entrant(bench, proxy, LOAD) for proxy in running.values()])
    for name, proxy in running.items():
        if proxy.proxy.title in rounds.samples:
            bench.known_rates[name] = rounds.rate(proxy.proxy.title)
    report.targets = [
        Target(">= 1.5 x Go ReverseProxy", rounds.ratio(GATEWAY, GO), 1.5),
        Target(">= 2 x fastify", rounds.ratio(GATEWAY, "fastify + http-proxy"), 2),
        Target(">= 8 x twisted.web", rounds.ratio(GATEWAY, "twisted.web"), 8),
        Target(">= 0.35 x nginx", rounds.ratio(GATEWAY, NGINX), 0.35),
    ]
    return tabulate(report, rounds)


def small_jwt(bench: Bench) -> Report:
    """A signed token checked on every request, against peers that check nothing."""
    secret = new_secret()
    bearer = {"Authorization": f"Bearer {token(secret)}"}
    guarded = "rtgateway-jwt"
    report = Report(
        "small-jwt",
        "the same with an HS256 token that the gateway verifies; the peers check nothing",
        ("proxy", *COLUMNS),
    )
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        proxies = [
            gateway(),
            gateway(Stages(secret=secret), guarded),
            *bench.taking_part("nginx", "go"),
        ]
        running = bench.start_all(rig, proxies, upstream.address, headers={guarded: bearer})
        rounds = bench.interleave(
            [
                entrant(bench, proxy, Load(SMALL_PATH, headers=bearer if name == guarded else {}))
                for name, proxy in running.items()
            ]
        )
    report.targets = [
        Target(">= 1.4 x Go without a token", rounds.ratio(guarded, GO), 1.4),
    ]
    return tabulate(report, rounds)


def small_2048(bench: Bench) -> Report:
    """Many clients at once: each row is a proxy and a number of connections."""
    report = Report(
        "small-2048",
        "the same with 2,048 keep-alive connections beside 64; ratios are to 64 connections",
        ("proxy, connections", *COLUMNS),
    )
    entrants: list[Entrant] = []
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        running = bench.start_all(
            rig, [gateway(), *bench.taking_part("nginx", "go")], upstream.address
        )
        for proxy in running.values():
            for connections in (64, 2048):
                label = f"{proxy.proxy.title}, {connections:,}"
                entrants.append(entrant(bench, proxy, Load(SMALL_PATH, connections), label))
        rounds = bench.interleave(entrants)
    kept = rounds.ratio(f"{GATEWAY}, 2,048", f"{GATEWAY}, 64")
    report.targets = [Target("2,048 connections within 20 % of 64", kept, 0.8)]
    return tabulate(report, rounds, nginx=f"{NGINX}, 64", go=f"{GO}, 64")


def tls(bench: Bench) -> Report:
    """The TLS listener of those that have one here."""
    report = Report(
        "tls",
        "the same over TLS (P-256 certificate, keep-alive), plain to the upstream",
        ("proxy", *COLUMNS),
    )
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        running = bench.start_all(
            rig, [gateway(), *bench.taking_part("nginx", "go")], upstream.address
        )
        rounds = bench.interleave(
            [
                entrant(bench, proxy, Load(SMALL_PATH, tls=True))
                for proxy in running.values()
                if proxy.slot.certificate is not None
            ]
        )
    if not rounds.samples and running:
        report.notes.append("openssl is not installed, so there is no certificate to serve")
    report.targets = [
        Target(">= 0.9 x Go ReverseProxy over TLS", rounds.ratio(GATEWAY, GO), 0.9),
    ]
    return tabulate(report, rounds)
