"""The ladder: microseconds per request as each stage of the gateway is switched on.

Every step keeps what the steps above it switched on. Counting, identifiers, forwarding headers,
the choice of an instance and metrics have no switch: they are in the first step. Two kinds of
microsecond are shown: elapsed, at full load of its core, and the processor time that the kernel
charged to the gateway, which stays right when something else disturbs the core.
"""

from dataclasses import dataclass

from harness.bench import Bench
from harness.credentials import new_secret, token
from harness.gateway import BARE, MANY_ROUTES, Stages, gateway
from harness.load import Load
from harness.report import Report, thousands
from harness.rounds import Entrant, Rounds, Sample
from harness.scenarios.throughput import entrant
from harness.upstream import SMALL_PATH, start_upstream


@dataclass(frozen=True)
class Step:
    name: str  # of the process
    title: str
    stages: Stages
    tls: bool = False
    aside: bool = False  # compared with the first step, not with the one above


def _steps(secret: str) -> list[Step]:
    resilient = BARE.replace(resilience=True)
    balanced = resilient.replace(instances=3)
    tracing = balanced.replace(tracing=True)
    logging = tracing.replace(access_log=True)
    guarded = logging.replace(secret=secret)
    routed = guarded.replace(routes=MANY_ROUTES)
    return [
        Step("rtgateway-bare", "bare: no log, no trace, no token, no breaker", BARE),
        Step("rtgateway-resilient", "+ breakers, outliers, retries", resilient),
        Step("rtgateway-balanced", "+ three instances to balance", balanced),
        Step("rtgateway-trace", "+ a trace started for each request", tracing),
        Step("rtgateway-log", "+ access log (JSON, to a file)", logging),
        Step("rtgateway-jwt", "+ token verified (HS256)", guarded),
        Step("rtgateway-routes", f"+ {MANY_ROUTES} configured routes", routed),
        Step("rtgateway-routes", "+ TLS to the client", routed, tls=True),
        Step(
            "rtgateway-stock",
            "bare, on Twisted's own epoll reactor",
            BARE.replace(stock_reactor=True),
            aside=True,
        ),
    ]


def ladder(bench: Bench) -> Report:
    secret = new_secret()
    bearer = {"Authorization": f"Bearer {token(secret)}"}
    steps = _steps(secret)
    proxies = {step.name: gateway(step.stages, step.name) for step in steps}
    with bench.rig() as rig:
        upstream = start_upstream(rig, bench.cores)
        running = bench.start_all(
            rig,
            proxies.values(),
            upstream.address,
            headers={step.name: bearer for step in steps if step.stages.secret},
        )
        entrants: list[Entrant] = []
        for step in steps:
            proxy = running.get(step.name)
            if proxy is None or (step.tls and proxy.slot.certificate is None):
                continue
            headers = bearer if step.stages.secret else {}
            load = Load(SMALL_PATH, headers=headers, tls=step.tls)
            entrants.append(entrant(bench, proxy, load, step.title))
        rounds = bench.interleave(entrants)
    return _fill(steps, rounds)


def _fill(steps: list[Step], rounds: Rounds) -> Report:
    report = Report(
        "ladder",
        "us per request as each stage is switched on (64 connections, 150 bytes of JSON)",
        ("stage", "req/s", "us/req", "step", "CPU us/req", "step", "in the kernel"),
        notes=rounds.notes(),
    )
    measured = [step for step in steps if step.title in rounds.samples]
    for index, step in enumerate(measured):
        below = measured[0] if step.aside else measured[max(0, index - 1)]
        elapsed, cpu = _elapsed(rounds, step), _cpu(rounds, step)
        first = index == 0
        report.rows.append(
            (
                step.title,
                thousands(rounds.rate(step.title)),
                f"{elapsed:.1f}",
                "" if first else f"{elapsed - _elapsed(rounds, below):+.1f}",
                f"{cpu:.1f}",
                "" if first else f"{cpu - _cpu(rounds, below):+.1f}",
                f"{rounds.median(step.title, _kernel):.1f}",
            )
        )
        report.data[step.title] = {"micros": elapsed, "cpu_micros": cpu}
    return report


def _elapsed(rounds: Rounds, step: Step) -> float:
    return 1e6 / max(1.0, rounds.rate(step.title))


def _cpu(rounds: Rounds, step: Step) -> float:
    return rounds.median(step.title, lambda sample: sample.micros_per_request)


def _kernel(sample: Sample) -> float:
    return sample.usage.system / max(1, sample.outcome.requests) * 1e6
