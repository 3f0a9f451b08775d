"""Runs the product and the installed peers over the data sets and reports ratios.

Every tool does, in a fresh directory: set-up (not measured); add version 1; status and add with
nothing changed; the change to version 2 in place (not measured); status; add version 2; check out
version 1; check out version 2. The tools alternate (A B C, A B C, ...), so that a slow quarter of
an hour falls on all of them, and the limits of the machine are measured between them::

    python benchmarks/run.py --scale full --repeats 3 --out results

`benchmarks/README.md` has the method, `report.py` makes the tables.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import limits
import report
import tools
from datasets import SCALES, apply_changes
from measure import Command, Row, StepError, machine, run, save, stored, warm


@dataclass(frozen=True, slots=True)
class Case:
    """A data set with one of its second versions.

    Attributes:
        name: What the report calls it.
        dataset: Directory name of the data set.
        version: Directory name of the second version.
        short: Only the two adds are measured.
        many: It has so many files that deleting them disturbs what follows.
    """

    name: str
    dataset: str
    version: str = "v2"
    short: bool = False
    many: bool = False


CASES = {
    case.name: case
    for case in (
        Case("images", "images", many=True),
        Case("tensors", "tensors"),
        Case("jsonl", "jsonl"),
        Case("jsonl-clustered", "jsonl", version="v2c", short=True),
        Case("tiny", "tiny", many=True),
    )
}


class Run:
    """One run: the options, the work directory and the rows measured so far."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.programs = {name: tools.find(name) for name in args.tools}
        self.rows: list[Row] = []
        self.facts: Row = {
            "scale": args.scale,
            "repeats": args.repeats,
            "machine": machine(),
            "tools": {},
            "missing": [name for name, program in self.programs.items() if not program],
        }

    def all(self) -> bool:
        """Runs every case, repetition and tool; returns whether everything worked."""
        for name in self.args.cases:
            for repetition in range(self.args.repeats):
                self.one_round(CASES[name], repetition)
        return not any(row["kind"] == "failure" for row in self.rows)

    def one_round(self, case: Case, repetition: int) -> None:
        """Lets the limits and then each tool do one case once."""
        if not case.short and not self.args.no_limits:
            self.limits(case, repetition)
        for tool, program in self.programs.items():
            if not program:
                continue
            top = self.work / f"{case.name}-{repetition}-{tool}"
            flow = Flow(self, case, repetition, tools.TOOLS[tool](program, top))
            try:
                flow.all()
            except StepError as error:
                flow.record("failure", message=str(error))
                say(f"  {tool} failed: {error}")
            self.save()
            # ext4 will not give out an inode freed in the last minutes and looks at each of them
            # again for every new file: after 20,000 deletions a creation costs 20 times as much.
            # So trees of many files stay until the run is over.
            if not case.many and not self.args.keep:
                shutil.rmtree(top)

    def limits(self, case: Case, repetition: int) -> None:
        """Measures what the machine needs for the first version."""
        source = self.args.data / case.dataset / "v1"
        work = self.work / f"{case.name}-{repetition}-limits"
        work.mkdir()
        warm(source)
        for name in limits.LIMITS:
            row = limits.measure(name, source, work)
            self.rows.append({"kind": "limit", "case": case.name, "rep": repetition, **row})
            say(f"{case.name} #{repetition} limit {name}: {row['wall']:.2f} s")
        if not case.many:
            shutil.rmtree(work)

    def save(self) -> None:
        """Writes what has been measured so far."""
        result = {**self.facts, "rows": self.rows}
        save(self.args.out.with_suffix(".json"), result)
        self.args.out.with_suffix(".md").write_text(report.markdown(result), encoding="utf-8")


class Flow:
    """One tool doing one case once."""

    def __init__(self, owner: Run, case: Case, repetition: int, tool: tools.Tool) -> None:
        self.owner = owner
        self.case = case
        self.repetition = repetition
        self.tool = tool
        self.args = owner.args
        self.source = owner.args.data / case.dataset
        self.step = "setup"

    def all(self) -> None:
        """Does every step in order.

        Raises:
            StepError: The tool failed; `step` says where.
        """
        tool, case = self.tool, self.case
        self.prepare()
        self.measure("add1", tool.add("v1"))
        self.store("v1")
        if not case.short:
            for _ in range(self.args.noop):
                self.measure("status0", tool.status())
                self.measure("again0", tool.again())
        apply_changes(self.source, tool.data, case.version)
        self.settle()
        if not case.short:
            self.measure("status2", tool.status())
        self.measure("add2", tool.add("v2"))
        self.store("v2")
        if not case.short and not self.args.no_checkout:
            self.checkout("checkout1", "v1", "v1")
            self.checkout("checkout2", "v2", case.version)

    def prepare(self) -> None:
        """Makes the repository and copies version 1 into it; not measured."""
        self.tool.prepare()
        version = self.run([[self.tool.program, self.tool.version]], "version.log")
        self.owner.facts["tools"][self.tool.name] = version.strip().splitlines()[-1]
        self.run(self.tool.setup(), "setup.log")
        shutil.copytree(self.source / "v1", self.tool.data)
        self.settle()

    def settle(self) -> None:
        """Waits until the newest file is older than a clock tick any tool might mistrust."""
        os.sync()
        time.sleep(self.args.settle)

    def run(self, commands: Sequence[Command], log: str) -> str:
        """Runs commands that are not measured; returns what they printed."""
        path = self.tool.top / log
        env = self.tool.environment()
        run(commands, cwd=self.tool.repo, env=env, log=path, timeout=self.args.timeout)
        return path.read_text(encoding="utf-8", errors="replace")

    def measure(self, step: str, commands: Sequence[Command]) -> None:
        """Runs and records a step, if the tool has it."""
        if not commands:
            return
        self.step = step
        warm(self.tool.data)
        cost = run(
            commands,
            cwd=self.tool.repo,
            env=self.tool.environment(),
            log=self.tool.top / "steps.log",
            timeout=self.args.timeout,
        )
        self.record("step", **cost.row())
        say(
            f"{self.case.name} #{self.repetition} {self.tool.name} {step}: {cost.wall:.2f} s, "
            f"{cost.cpu:.2f} CPU s, {cost.rss / 1e6:.0f} MB"
        )

    def checkout(self, step: str, version: str, expected: str) -> None:
        """Checks a version out and compares every file with the original, byte for byte."""
        commands = self.tool.checkout(version)
        self.measure(step, commands)
        if commands and (wrong := difference(self.source / expected, self.tool.data)):
            raise StepError(f"after the checkout of {version}, {wrong}")

    def store(self, moment: str) -> None:
        """Records the size of each part of the tool's store."""
        for part, folders in self.tool.store().items():
            size = stored(folders)
            self.record("store", moment=moment, part=part, bytes=size.bytes, files=size.files)

    def record(self, kind: str, **values: object) -> None:
        """Appends a row that says which flow it is from."""
        self.owner.rows.append(
            {
                "kind": kind,
                "case": self.case.name,
                "rep": self.repetition,
                "tool": self.tool.name,
                "step": self.step,
                **values,
            }
        )


def difference(expected: Path, actual: Path) -> str | None:
    """Returns the first difference of two trees in names or bytes, or None."""
    names = [
        sorted(os.path.relpath(path, top) for path in limits.listed(top))
        for top in (expected, actual)
    ]
    if names[0] != names[1]:
        return f"the names differ: {sorted(set(names[0]) ^ set(names[1]))[:3]}"
    _, mismatch, errors = filecmp.cmpfiles(expected, actual, names[0], shallow=False)
    return f"these files differ: {(mismatch + errors)[:3]}" if mismatch or errors else None


def say(line: str) -> None:
    """Prints a line of progress."""
    sys.stderr.write(line + "\n")


def prepare_data(args: argparse.Namespace) -> None:
    """Generates the data sets that are not there yet, in a process of their own."""
    for name in dict.fromkeys(CASES[case].dataset for case in args.cases):
        if (args.data / name / "changes.json").exists():
            continue
        script = Path(__file__).with_name("datasets.py")
        command = [sys.executable, str(script), "--out", str(args.data), "--scale", args.scale]
        subprocess.run([*command, "--only", name], check=True)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Compare the product with its installed peers.")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--data", type=Path, help="data sets (default: WORK/data-SCALE)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "bench")
    parser.add_argument("--out", type=Path, default=Path("results"), help="stem of .json and .md")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tools", nargs="+", choices=tools.TOOLS, default=list(tools.TOOLS))
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all tools")
    parser.add_argument("--noop", type=int, default=3, help="no-change steps in a round")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds after a change of files")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one command")
    parser.add_argument("--no-limits", action="store_true")
    parser.add_argument("--no-checkout", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave all repositories")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.data = (args.data or args.work / f"data-{args.scale}").resolve()
    return args


def main() -> int:
    """Runs what the command line asks; returns 1 if any tool failed."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    prepare_data(args)
    work = Path(tempfile.mkdtemp(prefix="run-", dir=args.work))
    one = Run(args, work)
    worked = one.all()
    one.save()
    sys.stdout.write(args.out.with_suffix(".md").read_text(encoding="utf-8"))
    if not args.keep:
        shutil.rmtree(work)
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
