"""Every fault of the proxy at every request of the commands that use a remote.

A *scenario* is a command at some moment; run once without faults it shows its *operations*: the
requests by method, kind of object and number. A *cell* is one fault at one operation. Of each cell
is asked that the command recovers or stops with an error of ours that names the remote, that
nothing wrong was written, that the command run again completes, and that a fresh clone then gets
all versions byte for byte.

``python -m tests.faults.remote_matrix`` runs all cells and prints how many there were.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore.errors import DatastoreError, NotFoundError
from datastore.repository import Repository
from datastore.storage.places import open_storage
from datastore.sync import catalog, merging, plan
from tests.faults.remote_kit import DATASET, VERSIONS, Scene, Stage, write_all
from tests.servers import answers
from tests.servers.faultproxy import FaultProxy, Rule

SOURCE = Path(__file__).parents[2]
LONGEST = 45.0
"""Seconds after which a command that met a fault counts as hanging."""

_KINDS = r"datastore\.json|packs|index|roots|gc(?:/|%2F)tomb"


# -- scenarios ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A command at some moment.

    Attributes:
        moment: Of the project, see `Stage.scene`.
        remote: Of the remote.
        act: The command.
        pushes: Whether it changes the remote.
        holds: The version that the workspace holds afterwards, if it is to hold one.
        fetched: The versions that are here afterwards.
        before: Done to the scene at first.
        damaged: Whether that leaves a remote that lacks something.
        patches: Limits that are lowered, so that little data meets them.
    """

    moment: str
    remote: str
    act: Callable[[Repository], object]
    pushes: bool = False
    holds: str = ""
    fetched: tuple[str, ...] = ()
    before: Callable[[Scene], None] | None = None
    damaged: bool = False
    patches: tuple[tuple[object, str, object], ...] = ()


def lose_packs(scene: Scene) -> None:
    """Deletes one pack of each kind from a remote."""
    packs = {key: scene.raw.size(key) for key in scene.keys("packs/")}
    for chosen in (min, max):
        scene.raw.delete(chosen(packs, key=lambda key: packs[key]))


def forget(scene: Scene) -> None:
    """Deletes what a store knows of its remotes."""
    shutil.rmtree(scene.project.store / "remotes")


def fetch(repository: Repository) -> None:
    """Fetches both versions; that the remote lacks one is an error for a program, too."""
    done = repository.fetch(["v1", "v2"])
    if done.absent:
        raise NotFoundError(f"{done.remote} lacks {done.absent}")


def read_one(repository: Repository) -> None:
    assert repository.read(f"{DATASET}/edited.txt") == VERSIONS["v2"]["edited.txt"]


RANGES = (
    (plan, "SMALL_PACK", 0),
    (catalog, "WHOLE_SIZE", 0),
    (catalog, "WHOLE_META_SIZE", 0),
    (catalog, "WHOLE_LOOKUPS", 1000),
)
MERGE = ((merging, "MOST_SHARDS", 1),)

SCENARIOS = {
    "push": Scenario("author", "empty", lambda r: r.push(), pushes=True),
    "push more": Scenario("author-v1", "v1", lambda r: r.push(), pushes=True),
    "push merging": Scenario(
        "author-v1", "v1", lambda r: r.push(), pushes=True, patches=MERGE, before=forget
    ),
    "push --verify": Scenario(
        "author-v2",
        "v2",
        lambda r: r.push(verify=True),
        pushes=True,
        before=lose_packs,
        damaged=True,
    ),
    "status --remote": Scenario("author-v2", "v2", lambda r: r.remote_status(), before=forget),
    "fetch": Scenario("clone", "v2", fetch, fetched=("v1", "v2")),
    "pull": Scenario("clone", "v2", lambda r: r.pull(), holds="v2", fetched=("v2",)),
    "pull over": Scenario(
        "clone-v1", "v2", lambda r: r.pull("v2"), holds="v2", fetched=("v1", "v2")
    ),
    "read ranges": Scenario("clone", "v2", read_one, patches=RANGES),
}


# -- faults ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """One request of a scenario.

    Attributes:
        number: Among those with the same method and kind.
        up: Bytes of its body.
        down: Bytes of the answer's.
    """

    method: str
    kind: str
    number: int
    up: int
    down: int

    @property
    def lists(self) -> bool:
        return self.kind.startswith("list")

    def __str__(self) -> str:
        return f"{self.method} {self.kind}#{self.number}"

    def pattern(self, name: str) -> str:
        """A regular expression for its kind in the scene of that name."""
        kind = self.kind.removeprefix("list ")
        part = rf"{name}(?:/|%2F){re.escape(kind).replace('/', '(?:/|%2F)')}"
        return rf"[?&]prefix=[^&]*{part}" if self.lists else rf"^(?!.*[?&]prefix=).*{part}"


Put = Callable[[FaultProxy, Operation, str], Rule | None]
"""Puts a fault into a proxy, at an operation of the scene of a name; None where it cannot be."""


def _at(action: str, number: float | None = None, *, times: int | None = 1, **more) -> Put:
    def put(proxy: FaultProxy, at: Operation, name: str) -> Rule:
        pattern = at.pattern(name)
        return proxy.add(
            at.method, pattern, action, number, times=times, skip=at.number - 1, **more
        )

    return put


def _within(action: str, share: float, *, up: bool = False) -> Put:
    def put(proxy: FaultProxy, at: Operation, name: str) -> Rule | None:
        size = at.up if up else at.down
        if not size:
            return None
        return _at(action, min(size - 1, int(size * share)))(proxy, at, name)

    return put


def _of_listings(action: str) -> Put:
    def put(proxy: FaultProxy, at: Operation, name: str) -> Rule | None:
        return _at(action)(proxy, at, name) if at.lists else None

    return put


FAULTS: dict[str, Put] = {
    "503 twice": _at("status", 503, times=2),
    "500": _at("status", 500),
    "429, Retry-After": _at("status", 429, retry_after=2),
    "403 from here": _at("status", 403, times=None),
    "404 once": _at("status", 404),
    "expired from here": _at("status", 400, times=None),
    "reset": _at("reset"),
    "reset from here": _at("reset", times=None),
    "answer lost": _at("commit_then_reset"),
    "reset in the body": _within("reset_body", 0.5),
    "body cut short": _within("truncate", 0.7),
    "no answer": _at("stall"),
    "stalled body": _within("stall", 0.5),
    "bit turned": _within("corrupt", 0.85),
    "bit turned, upload": _within("corrupt_up", 0.5, up=True),
    "late": _at("delay", 0.05),
    "empty listing": _of_listings("empty_listing"),
    "stale listing": _of_listings("stale_listing"),
}


# -- cells -------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of cells.

    Attributes:
        operations: By scenario.
        outcomes: How many cells ended how.
        wrong: Cells after which something was wrong, and what.
    """

    operations: dict[str, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def add(self, other: Tally) -> None:
        self.operations |= other.operations
        self.outcomes += other.outcomes
        self.wrong += other.wrong
        self.slowest = max(self.slowest, other.slowest)

    def encode(self) -> str:
        return json.dumps([self.operations, self.outcomes, self.wrong, self.slowest])

    @classmethod
    def decode(cls, text: str) -> Tally:
        operations, outcomes, wrong, slowest = json.loads(text)
        return cls(operations, Counter(outcomes), wrong, slowest)

    def __str__(self) -> str:
        ran = sum(self.outcomes.values()) - self.outcomes["not met"]
        return (
            f"fault matrix: {sum(self.operations.values())} operations of {len(self.operations)} "
            f"commands x {len(FAULTS)} faults = {ran} cells that apply: "
            f"{self.outcomes['recovered']} recovered, {self.outcomes['clean error']} clean errors, "
            f"wrong bytes {self.outcomes['wrong bytes']}, other defects {self.outcomes['defect']}; "
            f"slowest {self.slowest:.1f} s"
        )


class WrongBytesError(AssertionError):
    """Something was written that no version has."""


class Matrix:
    """Runs cells at one place.

    Args:
        stage: Projects and remotes, by way of the proxy.
        proxy: Between both.
        faults: By name.
    """

    def __init__(
        self, stage: Stage, proxy: FaultProxy, faults: dict[str, Put] | None = None
    ) -> None:
        self.stage = stage
        self.proxy = proxy
        self.faults = FAULTS if faults is None else faults

    def operations(self, scenario: Scenario) -> list[Operation]:
        """Lists the requests of a scenario that meets no fault."""
        with self._scene(scenario) as scene:
            self.proxy.clear()
            with scene.open() as repository:
                scenario.act(repository)
            return _operations(self.proxy, scene.name)

    def run(
        self, name: str, choose: Callable[[list[tuple[Operation, str]]], list] | None = None
    ) -> Tally:
        """Runs a scenario with every fault at every operation, or with those that are chosen."""
        scenario = SCENARIOS[name]
        found = self.operations(scenario)
        tally = Tally(operations={name: len(found)})
        cells = [(at, fault) for at in found for fault in self.faults]
        for at, fault in choose(cells) if choose else cells:
            began = time.monotonic()
            try:
                outcome = self.cell(scenario, at, fault)
            except Exception as error:  # noqa: BLE001  (told by the test, with all others)
                outcome = "wrong bytes" if isinstance(error, WrongBytesError) else "defect"
                said = " ".join(str(error).split())[:700]
                tally.wrong.append(f"{name} | {at} | {fault}: {type(error).__name__}: {said}")
            tally.outcomes[outcome] += 1
            tally.slowest = max(tally.slowest, time.monotonic() - began)
        return tally

    def cell(self, scenario: Scenario, at: Operation, fault: str) -> str:
        """Runs one cell; says how it ended.

        Raises:
            WrongBytesError: Something was written that no version has.
            Exception: Something else is not as it should be.
        """
        with self._scene(scenario, stale=fault.startswith("stale")) as scene:
            rule = self.faults[fault](self.proxy, at, scene.name)
            if rule is None:
                return "not met"
            error = _attempt(scenario, scene)
            hits = rule.hits
            self.proxy._rules.clear()
            if not hits and error is None:
                return "not met"
            _check_after(scenario, scene, error)
            with scene.open() as repository:
                scenario.act(repository)
            _check_end(scenario, scene)
            return "recovered" if error is None else "clean error"

    def _scene(self, scenario: Scenario, *, stale: bool = False):
        stack = ExitStack()
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for target, attribute, value in scenario.patches:
            patch.setattr(target, attribute, value)
        patch.setitem(answers._S3_CODES, 400, "ExpiredToken")
        self.proxy.clear()
        scene = stack.enter_context(self.stage.scene(scenario.moment, "empty"))
        objects = self.stage.remotes[scenario.remote]
        if stale:
            self._remember_listings(scene, scenario)
        write_all(scene.raw, objects)
        if scenario.before is not None:
            scenario.before(scene)
        stack.callback(self.proxy.clear)
        return _Entered(stack, scene)

    def _remember_listings(self, scene: Scene, scenario: Scenario) -> None:
        """Lets the proxy see listings of what was there before."""
        if scenario.remote == "v2":
            write_all(scene.raw, self.stage.remotes["v1"])
        storage = open_storage(scene.url, scene.options)
        text = (scene.top / ".datastore/config.yaml").read_text()
        repository = re.search(r"repository: (\w+)", text)
        for prefix in ("index/", "packs/", "gc/tomb/", f"roots/{repository[1]}/"):
            list(storage.list(prefix))
        storage.close()


class _Entered:
    """A scene with all that was put around it."""

    def __init__(self, stack: ExitStack, scene: Scene) -> None:
        self._stack = stack
        self._scene = scene

    def __enter__(self) -> Scene:
        return self._scene

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def _operations(proxy: FaultProxy, name: str) -> list[Operation]:
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for request in proxy.requests:
        match = re.search(rf"{name}(?:/|%2F)({_KINDS})", request.path)
        if match is None:
            continue
        kind = match[1].replace("%2F", "/")
        kind = f"list {kind}" if re.search(r"[?&]prefix=", request.path) else kind
        counts[request.method, kind] += 1
        number = counts[request.method, kind]
        found.append(Operation(request.method, kind, number, request.up, request.down))
    return found


def _attempt(scenario: Scenario, scene: Scene) -> DatastoreError | None:
    """Runs a command that meets a fault."""
    began = time.monotonic()
    try:
        with scene.open() as repository:
            scenario.act(repository)
    except DatastoreError as error:
        took = time.monotonic() - began
        assert took < LONGEST, f"it took {took:.0f} s to give up"
        return error
    return None


def _check_after(scenario: Scenario, scene: Scene, error: DatastoreError | None) -> None:
    """Looks at what a command left behind that met a fault."""
    if error is not None:
        text = error.message
        assert scene.url in text or "origin" in text, f"does not name the remote: {text!r}"
    wrong = scene.wrong_files()
    if wrong:
        raise WrongBytesError(f"{wrong} after {error}")
    if scenario.pushes:
        acknowledged = _acknowledged(scene)
        more = len(acknowledged) > (scenario.remote != "empty")
        if error is not None and more and not scenario.damaged:
            # What has a root is all there.
            scene.check_fresh(*acknowledged)
    elif error is None:
        _check_end(scenario, scene)


def _acknowledged(scene: Scene) -> list[str]:
    keys = scene.keys("roots/")
    found = []
    for rev in VERSIONS:
        root = scene.project.git("show", f"{rev}:{DATASET}.ds").split("root: b3:")[1].split()[0]
        if any(f"/{root}-" in key for key in keys):
            found.append(rev)
    return found


def _check_end(scenario: Scenario, scene: Scene) -> None:
    """Looks at what a command brought about."""
    if scenario.pushes:
        assert _acknowledged(scene) == list(VERSIONS)
        scene.check_fresh()
    if scenario.fetched:
        scene.check_fetched(*scenario.fetched)
    if scenario.holds and not scene.holds(scenario.holds):
        raise WrongBytesError(f"the workspace is not what {scenario.holds} holds")


# -- all of it, printed ------------------------------------------------------------------------


class Collector:
    """A plugin of pytest that adds up what the tests' matrices came to."""

    def __init__(self) -> None:
        self.tally = Tally()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for tally in tallies(report):
            self.tally.add(tally)


def tallies(report: pytest.TestReport) -> Iterator[Tally]:
    """Finds what a test has recorded."""
    if report.when == "call":
        for name, value in report.user_properties:
            if name == "fault matrix":
                yield Tally.decode(value)


def main() -> int:
    """Runs the whole matrix and prints its size and result."""
    collector = Collector()
    test = SOURCE / "tests/faults/test_remote_matrix.py"
    code = pytest.main(
        ["-q", "-n", "2", "-k", "every_fault", "--no-header", str(test)], [collector]
    )
    for line in collector.tally.wrong:
        print(line)
    print(collector.tally)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
