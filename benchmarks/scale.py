"""A million files: what a change of one of them costs, and what no change costs.

Measured with the product alone, beside a bare walk of the same files in the same run:

- ``add`` of all files: time and peak memory;
- ``status`` and ``add`` with nothing changed, beside ``scandir`` and ``stat`` of every file;
- one file changed: what the new version adds to packs and to the index;
- ``diff`` of the two versions: the command, and the call in a process where it ran before;
- start-up: ``datastore --version``, and ``status`` in a repository of three files.

::

    python benchmarks/scale.py --files 1000000 --work DIR
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import limits
import tools
from bars import Verdict, at_most, judge
from measure import MB, Command, Cost, Row, machine, median, run, save, stored, table

FOLDERS = 1000
SETTLE = 2.0

# Run by the product's own interpreter, in the repository: the call, without starting a program.
DIFF_CALL = """
import json, sys, time
from datastore import Repository
with Repository.open(".") as repository:
    for _ in range(int(sys.argv[1]) + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        found = repository.diff("v1", "v2")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert found.files.modified == 1, found
        print(json.dumps([wall, cpu]))
"""


def text(number: int) -> str:
    """Makes the content of a file: short, and different from every other."""
    return f"{number % 80} " + " ".join(
        f"0.{(number * prime) % 999_983:06d}" for prime in (7_919, 104_729, 1_299_709, 15_485_863)
    )


def generate(top: Path, files: int) -> Path:
    """Writes the files over 1,000 directories; returns the one that is changed later."""
    folders = min(FOLDERS, files)
    for folder in range(folders):
        (top / f"part{folder:04d}").mkdir(parents=True)
        for number in range(folder, files, folders):
            path = f"{top}/part{folder:04d}/{number:08d}.txt"
            with open(path, "w", encoding="ascii") as file:
                file.write(text(number) + "\n")
    middle = folders // 2
    return top / f"part{middle:04d}" / f"{middle:08d}.txt"


class Bench:
    """A repository of the product and the rows measured in it."""

    def __init__(self, program: str, top: Path, repeats: int) -> None:
        self.tool = tools.Datastore(program, top)
        self.repeats = repeats
        self.rows: list[Row] = []
        self.tool.prepare()
        self._run(self.tool.setup())

    def measure(self, title: str, commands: Sequence[Command], repeats: int = 1) -> None:
        """Runs a step and records what it cost."""
        for _ in range(repeats):
            cost = self._run(commands)
            self.rows.append({"measure": title, **cost.row()})
            sys.stderr.write(f"{title}: {cost.wall:.3f} s, {cost.cpu:.3f} CPU s\n")

    def walk(self) -> None:
        """Measures the bare walk of the same files."""
        row = limits.measure("walk", self.tool.data, self.tool.top)
        self.rows.append({"measure": "scandir and stat", **row})

    def no_change(self) -> None:
        """Measures a walk, `status` and `add` in turn, with nothing changed."""
        for _ in range(self.repeats):
            self.walk()
            self.measure("status, no change", self.tool.status())
            self.measure("add, no change", self.tool.again())

    def size(self, title: str) -> None:
        """Records the size of every part of the store."""
        for part, folders in self.tool.store().items():
            self.rows.append({"measure": title, "part": part, "size": stored(folders).bytes})

    def diff(self, python: str) -> None:
        """Measures the diff of the two versions, as a command and as a call."""
        command = [self.tool.program, "diff", "v1..v2"]
        self.measure("diff, command", [command], self.repeats + 1)
        answer = subprocess.run(
            [python, "-c", DIFF_CALL, str(self.repeats)],
            cwd=self.tool.repo,
            env=self.tool.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            sys.stderr.write(f"diff, call: {answer.stderr}\n")
            return
        for line in answer.stdout.split("\n")[1:-1]:
            wall, cpu = (float(word) for word in line.strip("[]").split(","))
            self.rows.append({"measure": "diff, call", "wall": wall, "cpu": cpu})

    def value(self, title: str, field: str = "wall", part: str | None = None) -> float | None:
        """Returns the median of a measure."""
        rows = [row for row in self.rows if row["measure"] == title and row.get("part") == part]
        return median(rows, field)

    def _run(self, commands: Sequence[Command]) -> Cost:
        return run(
            commands,
            cwd=self.tool.repo,
            env=self.tool.environment(),
            log=self.tool.top / "steps.log",
        )


def million(bench: Bench, files: int, python: str) -> None:
    """Measures everything about one large dataset."""
    changed = generate(bench.tool.data, files)
    run([["sleep", str(SETTLE)]], cwd=bench.tool.repo, env={}, log=bench.tool.top / "steps.log")
    bench.walk()
    bench.measure("add", bench.tool.add("v1"))
    bench.size("store of v1")
    bench.no_change()
    changed.unlink()
    changed.write_text("changed\n", encoding="ascii")
    run([["sleep", str(SETTLE)]], cwd=bench.tool.repo, env={}, log=bench.tool.top / "steps.log")
    bench.measure("status, one changed", bench.tool.status())
    bench.measure("add, one changed", bench.tool.add("v2"))
    bench.size("store of v2")
    bench.diff(python)


def startup(bench: Bench, python: str) -> None:
    """Measures how long the program takes to do nearly nothing."""
    bench.tool.data.mkdir()
    for number in range(3):
        (bench.tool.data / f"{number}.txt").write_text(text(number), encoding="ascii")
    bench.measure("add, three files", bench.tool.add("v1"))
    repeats = 3 * bench.repeats
    for _ in range(repeats):
        bench.measure("python -c pass", [[python, "-c", "pass"]])
        bench.measure("datastore --version", [[bench.tool.program, "--version"]])
        bench.measure("status, three files", bench.tool.status())


def grown(bench: Bench, part: str) -> float | None:
    """Returns how many KB the second version added to a part of the store."""
    before = bench.value("store of v1", "size", part)
    after = bench.value("store of v2", "size", part)
    return None if before is None or after is None else (after - before) / 1000


def verdicts(large: Bench, small: Bench) -> list[Verdict]:
    """Judges the bars."""
    found = [
        at_most("one file changed: < 400 KB added to packs", grown(large, "packs"), 400, "KB"),
        at_most("... to the index, a cache (no bar)", grown(large, "index"), float("inf"), "KB"),
    ]
    for title in ("diff, call", "diff, command"):
        wall = large.value(title)
        found.append(at_most(f"{title}: < 200 ms warm", wall and wall * 1000, 200, "ms"))
    rss = large.value("add", "rss")
    found.append(at_most("add: peak memory < 500 MB", rss and rss / MB, 500, "MB"))
    for title in ("status, no change", "add, no change"):
        ratios = []
        for field in ("wall", "cpu"):
            mine, floor = large.value(title, field), large.value("scandir and stat", field)
            ratios.append((mine - 0.150) / floor if mine is not None and floor else None)
        met = [ratio is not None and ratio <= 2 for ratio in ratios]
        found.append(judge(f"{title}: at most 2 walks and 150 ms", *ratios, met=met))
    for title, bound in (("datastore --version", 100), ("status, three files", 200)):
        cpu = small.value(title, "cpu")
        found.append(at_most(f"{title}: < {bound} ms CPU", cpu and cpu * 1000, bound, "ms"))
    return found


def report(large: Bench, small: Bench) -> str:
    """Returns the table of measures and the table of bars."""
    lines = []
    for bench in (large, small):
        for title in dict.fromkeys(row["measure"] for row in bench.rows if "wall" in row):
            rss = bench.value(title, "rss")
            wall, cpu = bench.value(title), bench.value(title, "cpu")
            lines.append([title, wall, cpu, rss and rss / MB])
    sizes = [
        [title, part, (large.value(title, "size", part) or 0) / MB]
        for title in ("store of v1", "store of v2")
        for part in large.tool.store()
    ]
    parts = [
        table(["", "wall s", "CPU s", "peak MB"], lines),
        table(["", "part", "MB"], sizes),
        table(
            ["bar", "measured", "verdict"],
            [(one.bar, one.measured, one.met) for one in verdicts(large, small)],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Measures as the command line asks."""
    parser = argparse.ArgumentParser(description="Measure one dataset of very many files.")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where to write (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="write the measurements here as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the repositories")
    args = parser.parse_args()
    program = tools.find(tools.PRODUCT)
    if program is None:
        sys.stderr.write("datastore is not on PATH; name it with DATASTORE=/path/to/datastore\n")
        return 1
    # The interpreter that the program was installed for has the package.
    beside = os.path.join(os.path.dirname(program), "python")
    python = beside if os.path.exists(beside) else sys.executable
    top = Path(tempfile.mkdtemp(prefix="scale-", dir=args.work))
    small = Bench(program, top / "small", args.repeats)
    startup(small, python)
    large = Bench(program, top / "large", args.repeats)
    million(large, args.files, python)
    sys.stdout.write(f"{args.files:,} files\n\n{report(large, small)}")
    if args.out:
        rows = {"large": large.rows, "small": small.rows}
        save(args.out, {"machine": machine(), "files": args.files, **rows})
    if not args.keep:
        shutil.rmtree(top)
    return 0


if __name__ == "__main__":
    sys.exit(main())
