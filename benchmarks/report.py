"""Turns the rows of a run into Markdown: one table with ratios, the limits, and the bars.

Times are medians over the repetitions; peak memory is the largest seen. Again from saved results::

    python benchmarks/report.py results.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bars
from measure import MB, Row, figure, median, table
from tools import PRODUCT

STEPS = {
    "add1": "add v1",
    "status0": "status, no change",
    "again0": "add, no change",
    "status2": "status of v2",
    "add2": "add v2",
    "checkout1": "checkout v1",
    "checkout2": "checkout v2",
}
LEGEND = """\
A cell is **wall s (CPU s)**: medians; CPU is user and system time of all processes of the step.
"÷ peer" is the product's figure divided by the peer's, wall (CPU) or the single figure of the row:
below 1 the product is better. An empty cell means that the program has no such step.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one cell of the table is made of: a figure, or wall and CPU seconds."""

    values: tuple[float | None, ...]

    def text(self) -> str:
        """Prints the cell."""
        first, *rest = [figure(value) for value in self.values]
        return f"{first} ({rest[0]})" if rest and first else first

    def over(self, other: Measured) -> str:
        """Prints this divided by another."""
        ratios = [
            figure(mine / theirs) if mine is not None and theirs else ""
            for mine, theirs in zip(self.values, other.values, strict=True)
        ]
        first, *rest = ratios
        return f"{first} ({rest[0]})" if rest and first else first


def markdown(result: Row) -> str:
    """Returns the whole report of a run."""
    facts = bars.Facts(result["rows"])
    parts = [
        f"# Benchmark, scale {result['scale']}, {result['repeats']} repetitions",
        head(result),
        LEGEND,
        comparison(facts, sorted_tools(result)),
        "## Limits of the machine",
        limit_table(facts),
    ]
    if PRODUCT in result["tools"]:
        parts += ["## Bars", bars.markdown(facts, full=result["scale"] == "full")]
    if failures := list(facts.rows("failure")):
        parts.append("## Failures")
        parts += [
            f"- {row['case']} #{row['rep']} {row['tool']} after {row['step']}: "
            f"`{' '.join(str(row['message']).split())[-300:]}`"
            for row in failures
        ]
    return "\n\n".join(parts) + "\n"


def head(result: Row) -> str:
    """Describes the machine and the versions of the tools."""
    lines = [f"- {name}: {value}" for name, value in result["machine"].items()]
    lines += [f"- {name}: {version}" for name, version in result["tools"].items()]
    if result["missing"]:
        lines.append(f"- not installed: {', '.join(result['missing'])}")
    shares = [row for row in result["rows"] if row.get("others") is not None]
    if (others := median(shares, "others")) is not None:
        most = max(float(row["others"]) for row in shares)
        lines.append(
            f"- share of the machine that other work took: median {others:.0%}, at most {most:.0%}"
        )
    return "\n".join(lines)


def sorted_tools(result: Row) -> list[str]:
    """Returns the tools that ran, the product first."""
    return sorted(
        result["tools"], key=lambda tool: (tool != PRODUCT, list(result["tools"]).index(tool))
    )


def comparison(facts: bars.Facts, names: Sequence[str]) -> str:
    """Returns the table of all cases, steps and tools."""
    columns = []
    for name in names:
        columns.append(name)
        if name != PRODUCT and PRODUCT in names:
            columns.append(f"÷ {name}")
    rows = []
    for case in facts.cases():
        for title, measured in lines(facts, case, names):
            cells = [f"{case}: {title}"]
            for name in names:
                cells.append(measured[name].text())
                if name != PRODUCT and PRODUCT in names:
                    cells.append(measured[PRODUCT].over(measured[name]))
            rows.append(cells)
    return table(["", *columns], rows)


def lines(
    facts: bars.Facts, case: str, names: Sequence[str]
) -> Iterable[tuple[str, dict[str, Measured]]]:
    """Yields the rows of one case: a title and what each tool measured."""
    for step, title in STEPS.items():
        cells = {
            name: Measured((facts.step(case, name, step), facts.step(case, name, step, "cpu")))
            for name in names
        }
        if any(cell.values[0] is not None for cell in cells.values()):
            yield title, cells
    yield "peak memory MB", {name: Measured((facts.peak(case, name),)) for name in names}
    for moment, title in (("v1", "store of v1"), ("v2", "added by v2")):
        sizes = {name: facts.store(case, name, moment) for name in names}
        for part in ["", *sorted({part for size in sizes.values() for part in size})]:
            if part and not part_counts(sizes, part):
                continue
            label = f"{title}, {part}" if part else title
            yield (
                f"{label} MB",
                {name: Measured((total(size, part, "bytes"),)) for name, size in sizes.items()},
            )
        yield (
            f"{title}, files",
            {name: Measured((total(size, "", "files"),)) for name, size in sizes.items()},
        )


def part_counts(sizes: dict[str, dict[str, tuple[float, float]]], part: str) -> bool:
    """Says whether a part of a store has a line of its own: the product has it, and others."""
    mine = sizes.get(PRODUCT, {})
    return part in mine and len(mine) > 1


def total(size: dict[str, tuple[float, float]], part: str, unit: str) -> float | None:
    """Adds up the parts of a store, or takes one: MB or files."""
    picked = [value for name, value in size.items() if part in ("", name)]
    if not picked:
        return None
    return sum(value[0] / MB if unit == "bytes" else value[1] for value in picked)


def limit_table(facts: bars.Facts) -> str:
    """Returns the table of what the machine needs for the first version of each case."""
    cases = [case for case in facts.cases() if facts.limits(case)]
    names = list(dict.fromkeys(name for case in cases for name in facts.limits(case)))
    rows = []
    for name in names:
        cells = [
            Measured((facts.limit(case, name), facts.limit(case, name, "cpu"))).text()
            for case in cases
        ]
        rows.append([name, *cells])
    packed = [facts.limit(case, "zstd1", "bytes") for case in cases]
    rows.append(["zstd1, MB", *[figure(size / MB) if size else "" for size in packed]])
    return table(["wall s (CPU s)", *cases], rows)


def main() -> None:
    """Prints the report of saved results."""
    parser = argparse.ArgumentParser(description="Print the report of a saved run.")
    parser.add_argument("results", type=Path)
    args = parser.parse_args()
    sys.stdout.write(markdown(json.loads(args.results.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
