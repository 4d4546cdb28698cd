"""What a scenario hands back, and how it is printed: aligned Markdown tables, then the targets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

Mark = Literal["pass", "MISS", "not measured"]


@dataclass(frozen=True)
class Target:
    """One promise: `value` against `bound`. A value of None was not measured."""

    promise: str
    value: float | None
    bound: float
    at_least: bool = True

    @property
    def mark(self) -> Mark:
        if self.value is None:
            return "not measured"
        kept = self.value >= self.bound if self.at_least else self.value <= self.bound
        return "pass" if kept else "MISS"

    def __str__(self) -> str:
        value = "" if self.value is None else f": {self.value:.3g}"
        return f"[{self.mark}] {self.promise}{value}"


@dataclass
class Report:
    """One scenario's findings. `rows` are as printed, `data` is for --json."""

    scenario: str
    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"## {self.scenario}: {self.title}", "", table(self.columns, self.rows)]
        if self.targets:
            parts += ["", *map(str, self.targets)]
        if self.notes:
            parts += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(parts)

    def as_json(self) -> dict[str, object]:
        return {
            "scenario": self.scenario,
            "title": self.title,
            "data": self.data,
            "targets": [{**asdict(target), "mark": target.mark} for target in self.targets],
            "notes": self.notes,
        }


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also readable as it stands: first column left, others right."""
    widths = [max(len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = "|" + "|".join(
        ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    )
    return "\n".join([line(columns), rule + "|", *map(line, rows)])


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def thousands(value: float) -> str:
    return f"{value:,.0f}"
