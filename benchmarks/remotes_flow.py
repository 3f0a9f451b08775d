"""What one tool does with one data set, over every network: the steps of `remotes.py`."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import limits
import scale
from datasets import apply_changes
from measure import Command, Cost, Row, StepError, run, warm
from network import BUCKET, CREDENTIALS, Network
from peers_remote import JOBS, Datastore, Remote, RemoteTool
from run import difference, say

SAMPLE = 20
"""Of many small files, a tool that makes requests for each is given one in so many."""

TRANSPORT_JOBS = (JOBS, 4)
"""A push writes as many packs at once, but not more than 128 MiB, which are 4. It is held to the
faster of the two: the server here is slower with 16."""

# Run by the product's own interpreter: its storage adapter and nothing else, plain objects as large
# as packs.
TRANSPORT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from datastore.storage.places import open_storage
path, url, endpoint, jobs = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
piece = 32 * 1024 * 1024
storage = open_storage(url, {"endpoint_url": endpoint}, jobs=jobs)
def write(number):
    with path.open("rb") as file:
        file.seek(number * piece)
        storage.write(f"plain/{number:06d}", file.read(piece))
with ThreadPoolExecutor(jobs) as pool:
    list(pool.map(write, range(-(-path.stat().st_size // piece))))
storage.close()
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A data set as it goes over a network.

    Attributes:
        name: Of the case and of the data set.
        sampled: A tool that makes a request for every file gets a sample, and no second version.
        transport: The bare transport is measured beside the tools.
        one_of_many: Of a million files or so, one is pulled, by the product alone.
        many: It has so many files that deleting them disturbs what follows.
    """

    name: str
    sampled: bool = False
    transport: bool = False
    one_of_many: bool = False
    many: bool = False


class Flow:
    """One tool doing one case once, over every network.

    Args:
        args: The options of the run.
        case: What to do.
        repetition: Number of the round.
        tool: Who does it.
        opened: The networks.

    Attributes:
        rows: What was measured so far.
        version: What the tool says it is.
        step: The one that is being done.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        case: Case,
        repetition: int,
        tool: RemoteTool,
        opened: Sequence[Network],
    ) -> None:
        self.args = args
        self.rows: list[Row] = []
        self.version = ""
        self.case = case
        self.repetition = repetition
        self.tool = tool
        self.ways = [
            (network, Remote(f"r{network.name}", network.url, f"{tool.name}-{network.name}"))
            for network in opened
        ]
        self.step = "setup"
        self.factor = 1

    def all(self) -> None:
        """Does every step in order.

        Raises:
            StepError: The tool failed; `step` says where.
        """
        if isinstance(self.tool, Datastore) and self.case.one_of_many:
            self.one_of_many(self.tool)
        else:
            self.data_set()

    def data_set(self) -> None:
        """Pushes and pulls a data set, and pushes its second version."""
        tool, case, source = self.tool, self.case, self.args.data / self.case.name
        self.factor = SAMPLE if case.sampled and tool.per_file else 1
        self.prepare()
        copy_tree(source / "v1", tool.data, one_in=self.factor)
        self.settle()
        self.measure("add1", tool.add("v1"))
        for network, remote in self.ways:
            if case.transport and isinstance(tool, Datastore):
                for jobs in TRANSPORT_JOBS:
                    self.transport(network, source / "v1", jobs)
            self.measure("push1", tool.push(remote), network)
            self.measure("again", tool.push(remote), network)
            self.pull(network, remote)
        if self.factor > 1 or self.args.no_v2:
            return
        apply_changes(source, tool.data, "v2")
        self.settle()
        self.measure("add2", tool.add("v2"))
        for network, remote in self.ways:
            self.measure("push2", tool.push(remote), network)

    def one_of_many(self, tool: Datastore) -> None:
        """Pushes a dataset of very many tiny files, and pulls one of them into a fresh clone."""
        self.prepare()
        wanted = scale.generate(tool.data, self.args.files)
        self.settle()
        self.measure("add1", tool.add("v1"))
        path = wanted.relative_to(tool.repo)
        for network, remote in self.ways:
            self.measure("push1", tool.push(remote), network)
            for number in range(self.args.repeats):
                target = tool.top / f"clone-{network.name}-{number}"
                self.measure("one", tool.pull_paths(remote, target, str(path)), network)
                if (target / path).read_bytes() != wanted.read_bytes():
                    raise StepError(f"{path} is not what was pushed")

    def prepare(self) -> None:
        """Makes the repository and names its remotes; not measured."""
        self.tool.prepare()
        said = self.run([[self.tool.program, self.tool.version]], "version.log")
        # The log has the command before its answer, and rclone says much after the first line.
        self.version = said.strip().splitlines()[1]
        remotes = [remote for _, remote in self.ways]
        self.run([*self.tool.setup(), *self.tool.connect(remotes)], "setup.log")

    def settle(self) -> None:
        """Waits until the newest file is older than a clock tick any tool might mistrust."""
        os.sync()
        time.sleep(self.args.settle)

    def run(self, commands: Sequence[Command], log: str) -> str:
        """Runs commands that are not measured; returns what they printed."""
        path = self.tool.top / log
        env = self.tool.environment()
        run(commands, cwd=self.tool.repo, env=env, log=path, timeout=self.args.timeout)
        return path.read_text(encoding="utf-8", errors="replace") if commands else ""

    def pull(self, network: Network, remote: Remote) -> None:
        """Pulls into a fresh clone and compares every file with the original."""
        target = self.tool.top / f"clone-{network.name}"
        env = self.tool.elsewhere(target)
        self.measure("pull1", self.tool.pull(remote, target), network, env=env)
        if wrong := difference(self.tool.data, target / "data"):
            raise StepError(f"after the pull, {wrong}")

    def transport(self, network: Network, source: Path, jobs: int) -> None:
        """Measures what the product's own storage adapter needs for plain objects."""
        (path,) = limits.listed(source)
        beside = os.path.join(os.path.dirname(self.tool.program), "python")
        python = beside if os.path.exists(beside) else sys.executable
        url = f"s3://{BUCKET}/transport-{network.name}-{jobs}"
        command = [python, "-c", TRANSPORT, str(path), url, network.url, str(jobs)]
        self.measure(f"transport{jobs}", [command], network, env=CREDENTIALS)

    def measure(
        self,
        step: str,
        commands: Sequence[Command],
        network: Network | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Runs and records a step, if the tool has it."""
        if not commands:
            return
        self.step = step
        warm(self.tool.data)
        if network is not None:
            network.begin()
        cost = run(
            commands,
            cwd=self.tool.repo,
            env={**self.tool.environment(), **(env or {})},
            log=self.tool.top / "steps.log",
            timeout=self.args.timeout,
        )
        traffic = network.end().row() if network is not None else {}
        row = cost.row() | traffic | {"others": strangers(cost, traffic)}
        name = network.name if network is not None else None
        self.record("step", network=name, factor=self.factor, **row)
        count = traffic.get("requests")
        say(
            f"{self.case.name} #{self.repetition} {self.tool.name} {step} {name or ''}: "
            f"{cost.wall:.2f} s, {cost.cpu:.2f} CPU s, {cost.rss / 1e6:.0f} MB"
            + (f", {count} requests {traffic['kinds']}" if count is not None else "")
        )

    def record(self, kind: str, **values: object) -> None:
        """Appends a row that says which flow it is from."""
        self.rows.append(
            {
                "kind": kind,
                "case": self.case.name,
                "rep": self.repetition,
                "tool": self.tool.name,
                "step": self.step,
                **values,
            }
        )


def strangers(cost: Cost, traffic: Row) -> float | None:
    """Returns the share of the machine that neither the tool took nor the servers."""
    if cost.others is None:
        return None
    servers = float(traffic.get("server_cpu", 0.0)) / (cost.wall * (os.cpu_count() or 1))
    return max(0.0, cost.others - servers)


def copy_tree(source: Path, target: Path, *, one_in: int) -> None:
    """Copies a tree, or one in so many of its files."""
    if one_in == 1:
        shutil.copytree(source, target)
        return
    for path in sorted(limits.listed(source))[::one_in]:
        copy = target / os.path.relpath(path, source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
