"""Push and pull through an S3 server, beside DVC, restic and rclone.

The server is SeaweedFS on loopback. Every tool does everything over two networks: ``direct``, the
bare loopback, and ``20``, where a proxy holds each answer back for 20 ms and counts requests and
bytes. Of a data set each tool does, in a fresh directory: add version 1 (once); over each network
push, push again with nothing new, and pull into a fresh clone, which is then compared with the
original byte for byte; the change to version 2 and its add (once); over each network push::

    python benchmarks/remotes.py --scale full --repeats 3 --out remotes

`benchmarks/README.md` has the method, `remotes_report.py` makes the tables.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import peers_remote
import remotes_report
from datasets import SCALES
from measure import Row, StepError, machine, save
from network import DIRECT, Network, networks
from peers_remote import JOBS
from remotes_flow import Case, Flow
from run import say
from tools import PRODUCT

MILLION = {"full": 1_000_000, "small": 20_000, "tiny": 1_000}

CASES = {
    case.name: case
    for case in (
        Case("images", many=True),
        Case("tiny", sampled=True, many=True),
        Case("tensors", transport=True),
        Case("million", one_of_many=True, many=True),
    )
}


class Run:
    """One run: the options, the work directory and the rows measured so far."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args = args
        self.work = work
        self.programs = {name: peers_remote.find(name) for name in args.tools}
        self.rows: list[Row] = []
        self.facts: Row = {
            "scale": args.scale,
            "repeats": args.repeats,
            "networks": args.networks,
            "jobs": JOBS,
            "machine": machine(),
            "tools": {},
            "missing": [name for name, program in self.programs.items() if not program],
        }

    def all(self) -> bool:
        """Runs every case, repetition and tool; returns whether everything worked."""
        for case in (CASES[name] for name in self.args.only):
            for repetition in range(1 if case.one_of_many else self.args.repeats):
                server = self.work / f"{case.name}-{repetition}-server"
                with networks(self.args.networks, server) as opened:
                    self.one_round(case, repetition, opened)
                shutil.rmtree(server)
        return not any(row["kind"] == "failure" for row in self.rows)

    def one_round(self, case: Case, repetition: int, opened: Sequence[Network]) -> None:
        """Lets each tool do one case once, with a server that is empty at first."""
        for name, program in self.programs.items():
            if not program or (case.one_of_many and name != PRODUCT):
                continue
            top = self.work / f"{case.name}-{repetition}-{name}"
            tool = peers_remote.REMOTE_TOOLS[name](program, top)
            flow = Flow(self.args, case, repetition, tool, opened)
            try:
                flow.all()
            except StepError as error:
                flow.record("failure", message=str(error))
                say(f"  {name} failed: {error}")
            self.rows += flow.rows
            self.facts["tools"][name] = flow.version
            self.save()
            # `run.py` says why trees of many files stay until the run is over.
            if not case.many and not self.args.keep:
                shutil.rmtree(top)

    def save(self) -> None:
        """Writes what has been measured so far."""
        result = {**self.facts, "rows": self.rows}
        save(self.args.out.with_suffix(".json"), result)
        text = remotes_report.markdown(result)
        self.args.out.with_suffix(".md").write_text(text, encoding="utf-8")


def prepare_data(args: argparse.Namespace) -> None:
    """Generates the data sets that are not there yet, in a process of their own."""
    for name in args.only:
        if CASES[name].one_of_many or (args.data / name / "changes.json").exists():
            continue
        script = Path(__file__).with_name("datasets.py")
        command = [sys.executable, str(script), "--out", str(args.data), "--scale", args.scale]
        subprocess.run([*command, "--only", name], check=True)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    names = list(peers_remote.REMOTE_TOOLS)
    parser = argparse.ArgumentParser(description="Compare push and pull with installed peers.")
    parser.add_argument("--scale", choices=SCALES, default="small")
    parser.add_argument("--data", type=Path, help="data sets (default: WORK/data-SCALE)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "bench")
    parser.add_argument("--out", type=Path, default=Path("remotes"), help="stem of .json and .md")
    parser.add_argument(
        "--only", type=some_of(list(CASES)), default=list(CASES), metavar="CASE,..."
    )
    parser.add_argument("--tools", type=some_of(names), default=names, metavar="TOOL,...")
    parser.add_argument("--networks", nargs="+", default=[DIRECT, "20"], help="direct, or ms")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all tools")
    parser.add_argument("--files", type=int, help="in the dataset of which one is pulled")
    parser.add_argument("--settle", type=float, default=2.0, help="seconds after a change of files")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one command")
    parser.add_argument("--no-v2", action="store_true", help="leave version 2 out")
    parser.add_argument("--keep", action="store_true", help="leave all repositories")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.data = (args.data or args.work / f"data-{args.scale}").resolve()
    args.files = args.files or MILLION[args.scale]
    return args


def some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    """Returns a type of argument: some of these names, with commas between them."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        if unknown := set(words) - set(names):
            given = ", ".join(sorted(unknown))
            raise argparse.ArgumentTypeError(f"{given}: none of {', '.join(names)}")
        return words

    return parse


def main() -> int:
    """Runs what the command line asks; returns 1 if any tool failed."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    prepare_data(args)
    work = Path(tempfile.mkdtemp(prefix="remotes-", dir=args.work))
    one = Run(args, work)
    worked = one.all()
    one.save()
    sys.stdout.write(args.out.with_suffix(".md").read_text(encoding="utf-8"))
    if not args.keep:
        shutil.rmtree(work)
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
