"""The bars the product is held to, each computed from one run beside its peer or limit.

A bar with a factor is a ratio within the run and holds at any scale, though overheads weigh more at
small ones; a bar in MB is about the full data sets only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from measure import MB, Row, figure, median, table
from tools import PRODUCT


class Facts:
    """Looks up medians in the rows of a run."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def rows(self, kind: str, **wanted: object) -> Iterator[Row]:
        """Yields the rows of a kind with the given fields."""
        for row in self._rows:
            if row["kind"] == kind and all(
                row.get(name) == value for name, value in wanted.items()
            ):
                yield row

    def cases(self) -> list[str]:
        """Returns the cases in the order they ran."""
        return list(dict.fromkeys(str(row["case"]) for row in self._rows))

    def step(self, case: str, tool: str, step: str, field: str = "wall") -> float | None:
        """Returns the median of a step in seconds."""
        return median(self.rows("step", case=case, tool=tool, step=step), field)

    def peak(self, case: str, tool: str) -> float | None:
        """Returns the largest process of any step, in MB."""
        found = [float(row["rss"]) for row in self.rows("step", case=case, tool=tool)]
        return max(found) / MB if found else None

    def store(self, case: str, tool: str, moment: str) -> dict[str, tuple[float, float]]:
        """Returns bytes and files of each part of a store; for v2, of what v2 added."""
        now = self._store(case, tool, moment)
        if moment == "v1":
            return now
        before = self._store(case, tool, "v1")
        return {
            part: (size - before[part][0], files - before[part][1])
            for part, (size, files) in now.items()
        }

    def _store(self, case: str, tool: str, moment: str) -> dict[str, tuple[float, float]]:
        found = list(self.rows("store", case=case, tool=tool, moment=moment))
        answer = {}
        for part in dict.fromkeys(row["part"] for row in found):
            mine = [row for row in found if row["part"] == part]
            answer[part] = (median(mine, "bytes") or 0.0, median(mine, "files") or 0.0)
        return answer

    def stored(self, case: str, moment: str, tool: str = PRODUCT, part: str = "") -> float | None:
        """Returns the MB of a store, or of a part of it."""
        sizes = self.store(case, tool, moment)
        picked = [size for name, (size, _) in sizes.items() if part in ("", name)]
        return sum(picked) / MB if picked else None

    def limits(self, case: str) -> list[str]:
        """Returns the names of the limits measured for a case."""
        return list(dict.fromkeys(row["limit"] for row in self.rows("limit", case=case)))

    def limit(self, case: str, name: str, field: str = "wall") -> float | None:
        """Returns the median of a limit."""
        return median(self.rows("limit", case=case, limit=name), field)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table of bars."""

    bar: str
    measured: str
    met: str


def judge(
    bar: str, wall: float | None, cpu: float | None, *, met: Sequence[bool | None]
) -> Verdict:
    """Says of a bar about time whether it is met by the clock, by CPU time, or by both."""
    if wall is None or cpu is None:
        return Verdict(bar, "", "not measured")
    by = [name for name, good in zip(("wall", "CPU"), met, strict=True) if good]
    words = {2: "met", 1: f"only by {''.join(by)}", 0: "missed"}[len(by)]
    return Verdict(bar, f"wall {figure(wall)}, CPU {figure(cpu)}", words)


def faster(facts: Facts, case: str, peer: str, factor: float) -> Verdict:
    """A bar of how many times faster `add` of version 1 is than a peer's."""
    ratios: list[float | None] = []
    for field in ("wall", "cpu"):
        mine = facts.step(case, PRODUCT, "add1", field)
        theirs = facts.step(case, peer, "add1", field)
        ratios.append(theirs / mine if mine and theirs else None)
    text = f"{case}: add at least {factor:g} times as fast as {peer}"
    met = [None if ratio is None else ratio >= factor for ratio in ratios]
    return judge(text, ratios[0], ratios[1], met=met)


def within(facts: Facts, case: str, step: str, limit: str, factor: float, plus: float) -> Verdict:
    """A bar of a step against a multiple of a limit and some seconds; measured as the multiple."""
    ratios: list[float | None] = []
    for field in ("wall", "cpu"):
        mine = facts.step(case, PRODUCT, step, field)
        floor = facts.limit(case, limit, field)
        ratios.append((mine - plus) / floor if mine is not None and floor else None)
    extra = f" and {plus * 1000:.0f} ms" if plus else ""
    text = f"{case}: {step} at most {factor:g} times `{limit}`{extra}"
    met = [None if ratio is None else ratio <= factor for ratio in ratios]
    return judge(text, ratios[0], ratios[1], met=met)


def at_most(bar: str, value: float | None, bound: float, unit: str) -> Verdict:
    """A bar of one figure."""
    if value is None:
        return Verdict(bar, "", "not measured")
    return Verdict(bar, f"{figure(value)} {unit}".strip(), "met" if value <= bound else "missed")


def sizes(facts: Facts) -> Iterator[Verdict]:
    """Yields the bars in MB and files, which hold for the full data sets.

    The packs are what travels to a remote and what peers' stores are compared with; the index is a
    cache. Both are judged: a bar met without the index only is said to be.
    """
    bounds = [
        ("tiny", "v1", 40.0),
        ("tensors", "v1", 1150.0),
        ("tensors", "v2", 17.0),
        ("jsonl-clustered", "v2", 5.0),
    ]
    for case, moment, bound in bounds:
        yield packed(facts, case, moment, bound, f"{bound:,.0f} MB")
    files = [count for _, count in facts.store("tiny", PRODUCT, "v1").values()]
    yield at_most("tiny: fewer than 20 files", sum(files) if files else None, 19, "files")


def packed(facts: Facts, case: str, moment: str, bound: float, words: str) -> Verdict:
    """A bar of stored bytes, judged with and without the index."""
    title = "store of v1" if moment == "v1" else "added by v2"
    packs = facts.stored(case, moment, part="packs")
    whole = facts.stored(case, moment)
    bar = f"{case}: {title} at most {words}"
    if packs is None or whole is None:
        return Verdict(bar, "", "not measured")
    met = "met" if whole <= bound else "only without the index" if packs <= bound else "missed"
    return Verdict(bar, f"packs {figure(packs)} MB, with index {figure(whole)} MB", met)


def verdicts(facts: Facts, *, full: bool) -> Iterator[Verdict]:
    """Yields every bar that a run can judge."""
    yield faster(facts, "images", "dvc", 4)
    yield faster(facts, "images", "restic", 3.5)
    yield faster(facts, "tiny", "dvc", 10)
    yield faster(facts, "tiny", "restic", 5)
    yield within(facts, "tiny", "add1", "read", 3, 0)
    yield faster(facts, "tensors", "restic", 3)
    yield faster(facts, "tensors", "dvc", 1)
    for step in ("status0", "again0"):
        yield within(facts, "tiny", step, "walk", 2, 0.150)
    if (restic := facts.stored("jsonl", "v1", "restic")) is not None:
        yield packed(
            facts, "jsonl", "v1", 1.15 * restic, f"1.15 times restic's {figure(restic)} MB"
        )
    if full:
        yield from sizes(facts)
    for case in facts.cases():
        yield at_most(f"{case}: peak memory under 300 MB", facts.peak(case, PRODUCT), 300, "MB")


def markdown(facts: Facts, *, full: bool) -> str:
    """Returns the table of bars."""
    rows = [(verdict.bar, verdict.measured, verdict.met) for verdict in verdicts(facts, full=full)]
    return table(["bar", "measured", "verdict"], rows)
