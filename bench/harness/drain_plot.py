"""The plot of sockets_drain.py: an SVG, written by hand."""

from collections.abc import Mapping, Sequence

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #57606a }
  .title { font-weight: 600; font-size: 14px; fill: #24292f }
  .grid { stroke: #8b949e; stroke-opacity: .25 }
  .even { stroke: #57606a; stroke-dasharray: 5 4 }
  .band { fill: #8b949e; fill-opacity: .15 }
  .spread { fill: #1a7f37 }
  .rush { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 }
    .title { fill: #e6edf3 }
    .even { stroke: #9198a1 }
    .spread { fill: #3fb950 }
    .rush { fill: #f0883e }
  }
"""
WIDTH, LEFT, RIGHT = 720, 48, 20
HIGH = 170  # of a panel's bars
STEP = 0.1  # seconds of a bar in the second panel
BAND = 0.2


def plot(counts: Sequence[int], asked: Mapping[str, Sequence[float]], drain: float) -> str:
    """Close frames per second; below, the handshakes that follow them.

    :param counts: Close frames in each second.
    :param asked: when handshakes began, in seconds: spread first, then all at once.
    """
    spread, rush = (binned(times, drain) for times in asked.values())
    second = HIGH + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {second + HIGH + 72}"'
        ' role="img" aria-label="Close frames in each second of a drain, and the handshakes that'
        ' follow, spread and all at once">',
        f"<style>{STYLE}</style>",
        *first_panel(counts),
        *second_panel(spread, rush, drain, second),
        "</svg>\n",
    ]
    return "\n".join(parts)


def binned(times: Sequence[float], drain: float) -> list[int]:
    """How many in each tenth of a second."""
    counts = [0] * (round(drain / STEP) + 5)
    for at in times:
        counts[min(int(at / STEP), len(counts) - 1)] += 1
    return counts


def first_panel(counts: Sequence[int]) -> list[str]:
    total, mean = sum(counts), sum(counts) / len(counts)
    top, bottom = 34.0, 34.0 + HIGH
    scale = HIGH / (mean * 1.5)
    pitch = (WIDTH - LEFT - RIGHT) / len(counts)
    band = bottom - mean * (1 + BAND) * scale
    even = bottom - mean * scale
    parts = [
        f'<text class="title" x="0" y="18">SIGTERM, {total:,} WebSockets: Close frames in each'
        f" second ({words(min(counts), max(counts))})</text>",
        *grid(mean * 1.5, scale, bottom),
        f'<rect class="band" x="{LEFT}" y="{band:.1f}" width="{WIDTH - LEFT - RIGHT}"'
        f' height="{2 * BAND * mean * scale:.1f}"/>',
    ]
    for number, count in enumerate(counts):
        x, height = LEFT + pitch * number, count * scale
        middle = x + pitch / 2
        parts.append(
            f'<rect class="spread" x="{x + 3:.1f}" y="{bottom - height:.1f}"'
            f' width="{pitch - 6:.1f}" height="{height:.1f}"/>'
            f'<text x="{middle:.1f}" y="{min(even, bottom - height) - 6:.1f}"'
            f' text-anchor="middle">{count:,}</text>'
        )
    parts += [
        f'<text x="{LEFT + pitch * number:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">'
        f"{number} s</text>"
        for number in range(len(counts) + 1)
    ]
    line = f'<line class="even" x1="{LEFT}" y1="{even:.1f}" x2="{WIDTH - RIGHT}" y2="{even:.1f}"/>'
    note = (
        f'<text x="{LEFT}" y="{top + 4:.1f}">dashed: an even spread; grey: within'
        f" {BAND:.0%} of it</text>"
    )
    return [*parts, line, note]


def second_panel(spread: Sequence[int], rush: Sequence[int], drain: float, top: int) -> list[str]:
    first, bottom = top + 34.0, top + 34.0 + HIGH
    most = max(*rush, *spread)
    scale = HIGH / (most * 1.05)
    pitch = (WIDTH - LEFT - RIGHT) / len(spread)
    parts = [
        f'<text class="title" x="0" y="{top + 18}">Clients that come back at once: handshakes in'
        f" each {STEP * 1000:.0f} ms, at another gateway</text>",
        *grid(most * 1.05, scale, bottom),
    ]
    for kind, counts in (("rush", rush), ("spread", spread)):
        for number, count in enumerate(counts):
            if count:
                # Few of thousands are still to be seen.
                height = max(count * scale, 1.0)
                parts.append(
                    f'<rect class="{kind}" x="{LEFT + pitch * number:.1f}"'
                    f' y="{bottom - height:.1f}" width="{pitch - 1:.1f}" height="{height:.1f}"/>'
                )
    parts += [
        f'<text x="{LEFT + pitch * second / STEP:.1f}" y="{bottom + 16:.1f}"'
        f' text-anchor="middle">{second} s</text>'
        for second in range(0, int(drain) + 1, 2)
    ]
    for number, (kind, said) in enumerate(
        (
            ("rush", f"all told at once: up to {max(rush):,}"),
            ("spread", f"spread over {drain:g} s: up to {max(spread):,}"),
        )
    ):
        y = first + 24 * number + 10
        parts.append(
            f'<rect class="{kind}" x="{WIDTH - 250}" y="{y - 10:.1f}" width="12" height="12"/>'
            f'<text x="{WIDTH - 232}" y="{y:.1f}">{said}</text>'
        )
    return parts


def grid(most: float, scale: float, bottom: float) -> list[str]:
    """Lines at round numbers, about four of them."""
    step = next(
        digit * 10**power
        for power in range(6)
        for digit in (1, 2, 5)
        if most / (digit * 10**power) <= 5
    )
    lines = []
    for value in range(0, int(most) + 1, step):
        y = bottom - value * scale
        lines.append(
            f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'
        )
    return lines


def words(least: int, most: int) -> str:
    return f"{least:,} to {most:,}"
