"""What clients saw when their WebSockets were closed for them, and how that reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.report import table

CRITICAL = 18.48  # of chi square with 7 degrees of freedom, at 1 %
MOST_OFF = 0.20
TICK = 0.1  # seconds, in which the gateway looks at its deadlines
LATE = 1.5  # seconds that an orderly end may take longer than its drain
CLOSE_TIMEOUT = 5.0  # seconds; the default


@dataclass
class Findings:
    """What clients saw of one end. Times are seconds since the order was given."""

    name: str
    told: list[tuple[float, int, str]] = field(default_factory=list)
    untold: int = 0  # connections that ended without a Close frame
    stayed: int = 0  # that were not to go, and did not
    expected: int = 0
    ended: float | None = None  # the process
    exit_code: int | None = None
    last_gone: float = 0.0
    asked: list[float] = field(default_factory=list)  # handshakes at the second gateway
    back: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def times(self) -> list[float]:
        return sorted(at for at, _, _ in self.told)

    def per_second(self, seconds: int) -> list[int]:
        """Close frames in each second; what comes later is in the last.

        They leave the gateway in bundles, tick by tick, and the draining begins somewhat later than
        the order is given: the first bundle is half a tick behind the start, on average.
        """
        times, counts = self.times, [0] * seconds
        begin = times[0] - TICK / 2 if times else 0.0
        for at in times:
            counts[min(max(int(at - begin), 0), seconds - 1)] += 1
        return counts


def peak(times: Sequence[float], width: float) -> int:
    """The most within any window of ``width`` seconds."""
    times, most, low = sorted(times), 0, 0
    for high, at in enumerate(times):
        while at - times[low] > width:
            low += 1
        most = max(most, high - low + 1)
    return most


def chi_square(counts: Sequence[int]) -> float:
    mean = sum(counts) / len(counts)
    return sum((count - mean) ** 2 for count in counts) / mean


# -- what is said of them -----------------------------------------------------------------------


def histogram(findings: Findings, drain: float) -> str:
    """Close frames second by second, beside an even spread."""
    counts = findings.per_second(max(1, round(drain)))
    mean = sum(counts) / len(counts)
    rows = [
        (f"{second}-{second + 1}", f"{count:,}", f"{count / mean - 1:+.1%}")
        for second, count in enumerate(counts)
    ]
    return table(("second", "Close frames", "off an even spread"), rows)


def spread(findings: Findings, drain: float) -> str:
    """How even it was, in one line."""
    counts = findings.per_second(max(1, round(drain)))
    mean = sum(counts) / len(counts)
    off = [abs(count / mean - 1) for count in counts]
    within = sum(each <= MOST_OFF for each in off)
    line = (
        f"{within} of {len(counts)} seconds within {MOST_OFF:.0%} of an even spread; at most"
        f" {max(off):.1%} off"
    )
    if len(counts) == 10:
        # The first and the last have part of a tick less or more than a second.
        line += f"; chi square of the 8 whole ones {chi_square(counts[1:-1]):.1f}"
        line += f" (chance stays below {CRITICAL} in 99 of 100 cases)"
    return line


def summary(findings: Findings) -> tuple[str, ...]:
    times = findings.times or [0.0]
    kinds = Counter((code, reason) for _, code, reason in findings.told)
    words = ", ".join(f"{code} {reason}: {count:,}" for (code, reason), count in kinds.items())
    exited = "-" if findings.ended is None else f"{findings.ended:.2f}"
    return (
        findings.name,
        f"{len(findings.told):,} of {findings.expected:,}",
        words,
        str(findings.untold),
        f"{times[0]:.2f}",
        f"{times[-1]:.2f}",
        f"{peak(times, 1.0):,}",
        f"{findings.last_gone:.2f}",
        exited,
        "-" if findings.exit_code is None else str(findings.exit_code),
    )


SUMMARY = (
    "run", "told", "Close", "not told", "first s", "last s", "most in 1 s", "last gone s",
    "process ended s", "exit",
)  # fmt: skip
STORM = (
    "run", "came back", "failed", "asked: most in 100 ms", "asked: most in 1 s",
    "let in: most in 1 s", "handshake p50 ms", "p99 ms", "longest ms", "all back s",
)  # fmt: skip


def storm_row(findings: Findings) -> tuple[str, ...]:
    took = sorted(findings.took) or [0.0]
    return (
        findings.name,
        f"{len(findings.back):,}",
        str(findings.failed),
        f"{peak(findings.asked, 0.1):,}",
        f"{peak(findings.asked, 1.0):,}",
        f"{peak(findings.back, 1.0):,}",
        f"{took[len(took) // 2] * 1000:.1f}",
        f"{took[int(len(took) * 0.99)] * 1000:.1f}",
        f"{took[-1] * 1000:.1f}",
        f"{max(findings.back, default=0.0):.2f}",
    )


def misses(findings: Findings, drain: float) -> list[str]:
    """What is not as it ought to be, in words."""
    found = []
    if findings.untold or len(findings.told) != findings.expected:
        found.append(f"{findings.expected - len(findings.told)} were not told to go")
    if findings.times and findings.times[-1] > drain + LATE + (not drain):
        found.append(f"the last Close came after {findings.times[-1]:.1f} s")
    if findings.ended is not None and findings.ended > drain + LATE + CLOSE_TIMEOUT:
        found.append(f"the process ended after {findings.ended:.1f} s")
    if findings.failed:
        found.append(f"{findings.failed} did not get back in")
    counts = findings.per_second(max(1, round(drain)))
    mean = sum(counts) / len(counts)
    # What chance does to a few hundred is more than that.
    if drain and mean >= 400 and any(abs(count / mean - 1) > MOST_OFF for count in counts):
        found.append("the spread is uneven")
    return [f"{findings.name}: {each}" for each in found]
