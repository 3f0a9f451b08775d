"""Runs verbs in forked children and puts faults into them from outside: no product code knows of
it.

Started as a program, this is a small server: it imports the product once, then forks a child for
each job it reads from stdin, so that a run costs a fork and not a start of Python (20 ms against
300). In the child the functions by which the product changes a disk are wrapped; they are counted
by name, and a plan says at which of them the child is killed, or what error the system is to report
there. `Driver` is the other end.

A *point* is such a call: ``replace#2`` is the second `os.replace` of the run. Syncing is counted
and not carried out: a killed process loses nothing that the kernel has, and tests need not wait for
disks.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import lmdb

from datastore.cli.commands import add, checkout, status, verify  # noqa: F401  (not in each child)
from datastore.cli.main import program
from datastore.errors import ConflictError, DatastoreError
from datastore.repository import Repository
from datastore.trees import files
from datastore.trees.filereader import iter_bytes
from datastore.trees.files import Kind

SOURCE = Path(__file__).parents[2]
PATIENCE = 60.0
"""Seconds after which a child counts as hanging."""

WRAPPED = (
    "open",
    "write",
    "writev",
    "ftruncate",
    "fsync",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
)
NEEDS_SPACE = frozenset(
    {"open", "write", "writev", "fsync", "rename", "replace", "link", "symlink", "mkdir"}
) | {"lmdb-open", "lmdb-table", "lmdb-commit"}
"""Points that a full disk can refuse."""


# -- in the child: counting, killing, refusing ---------------------------------------------------


class Faults:
    """What goes wrong in this process.

    Args:
        plan: ``{"point": "write#3", "kill": "before"|"after"}`` or ``{"point": ..., "errno": 28}``,
            with ``"short": true`` for a write that first gets half of its bytes out and
            ``"lasting": true`` for a disk that refuses everything from there on; nothing for
            counting only.
    """

    def __init__(self, plan: dict) -> None:
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._broken = False
        self.points: list[str] = []

    def call(self, name: str, function, arguments, options):
        """Makes one call of the product, or what the plan has in its place."""
        plan = self._plan
        with self._lock:
            self._counts[name] += 1
            point = f"{name}#{self._counts[name]}"
            self.points.append(point)
        here = plan.get("point") == point
        if here and plan.get("kill") == "before":
            die()
        if "errno" in plan and (here or (self._broken and name in NEEDS_SPACE)):
            self._broken = plan.get("lasting", False)
            if plan.get("short") and name in {"write", "writev"}:
                shortly(name, *arguments)
            raise refusal(name, plan["errno"])
        try:
            return function(*arguments, **options)
        finally:
            if here and plan.get("kill") == "after":
                die()

    def install(self) -> None:
        """Wraps what changes the disk."""
        os.fsync = lambda descriptor: None
        for name in WRAPPED:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        lmdb.open = self._wrap_lmdb(lmdb.open)

    def _wrap(self, name: str, function):
        def wrapped(*arguments, **options):
            if name == "open" and not (arguments[1] & os.O_CREAT):
                return function(*arguments, **options)
            return self.call(name, function, arguments, options)

        return wrapped

    def _wrap_lmdb(self, function):
        def wrapped(*arguments, **options):
            options["sync"] = False
            return Environment(self, self.call("lmdb-open", function, arguments, options))

        return wrapped


class Environment:
    """An LMDB environment whose commits are points."""

    def __init__(self, faults: Faults, env) -> None:
        self._faults = faults
        self._env = env

    def __getattr__(self, name: str):
        return getattr(self._env, name)

    def open_db(self, *arguments):
        return self._faults.call("lmdb-table", self._env.open_db, arguments, {})

    def begin(self, *, write: bool = False, **options):
        transaction = self._env.begin(write=write, **options)
        return Writing(self._faults, transaction) if write else transaction


class Writing:
    """A write transaction; a refused commit leaves nothing, as a real one does."""

    def __init__(self, faults: Faults, transaction) -> None:
        self._faults = faults
        self._transaction = transaction

    def __enter__(self):
        return self._transaction.__enter__()

    def __exit__(self, kind, error, trace):
        if kind is not None:
            return self._transaction.__exit__(kind, error, trace)
        try:
            return self._faults.call(
                "lmdb-commit", self._transaction.__exit__, (kind, error, trace), {}
            )
        except lmdb.Error:
            self._transaction.abort()
            raise


def die() -> None:
    """Ends the process as a power cut would: nothing is closed, flushed or undone."""
    os.kill(os.getpid(), signal.SIGKILL)


def refusal(name: str, number: int) -> Exception:
    if name.startswith("lmdb"):
        kind = lmdb.DiskError if number == errno.ENOSPC else lmdb.Error
        return kind(f"{name}: {os.strerror(number)}")
    return OSError(number, os.strerror(number))


def shortly(name: str, descriptor: int, data) -> None:
    whole = b"".join(data) if name == "writev" else bytes(data)
    real_write(descriptor, whole[: len(whole) // 2])


real_write = os.write


# -- what a child can be asked to do ---------------------------------------------------------------


def do_add(top: Path, *paths: str):
    with Repository.open(top) as repository:
        return [pointer.root for pointer in repository.add(list(paths)).pointers]


def do_checkout(top: Path, rev: str | None = None, *paths: str):
    with Repository.open(top) as repository:
        done = repository.checkout(rev, list(paths))
    return [[each.path, each.written, each.removed, each.kept] for each in done.pointers]


def do_status(top: Path):
    with Repository.open(top) as repository:
        found = repository.status()
    return {each.path: [each.state, each.message] for each in found.pointers}


def do_verify(top: Path, *revs: str):
    with Repository.open(top) as repository:
        found = repository.verify(revs=list(revs) or None)
    return {"ok": found.ok, "damaged": [[d.path, d.rev, d.pack, d.reason] for d in found.damaged]}


def do_rebuild(top: Path):
    with Repository.open(top) as repository:
        return list(repository.rebuild_index().damaged)


def do_read(top: Path, *revs: str):
    """Reads every file of versions; gives a digest of each, and what links and directories are."""
    with Repository.open(top) as repository:
        return {rev: version_contents(repository, rev) for rev in revs}


def do_cli(top: Path, *arguments: str):
    """Runs the program as a user does."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = program.run(["-C", str(top), *arguments], "datastore")
        except SystemExit as end:
            code = end.code
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def version_contents(repository: Repository, rev: str) -> dict[str, str]:
    """Reads a version of every dataset, each file through its digests."""
    workspace = repository._workspace
    found = {}
    for path in workspace.dataset_paths(rev):
        version = workspace.version(path, rev)
        for inner, entry in files.entries(version, workspace.store):
            found[f"{path}/{entry.name or inner}"] = content_of(entry, workspace.store)
    return found


def content_of(entry, store) -> str:
    if entry.kind is Kind.LINK:
        return "link " + os.fsdecode(entry.target)
    if entry.kind is Kind.DIRECTORY:
        return "dir"
    data = b"".join(iter_bytes(entry.content, store))
    return f"{entry.kind.name.lower()} {hashlib.sha256(data).hexdigest()}"


def disk_contents(top: Path, *datasets: str) -> dict[str, str]:
    """Reads what lies on disk, in the same words as `version_contents`."""
    found = {}
    for dataset in datasets:
        for base, directories, names in os.walk(top / dataset):
            names += [name for name in directories if os.path.islink(os.path.join(base, name))]
            if not names and not directories:
                found[os.path.relpath(base, top)] = "dir"
            for name in names:
                path = os.path.join(base, name)
                found[os.path.relpath(path, top)] = _on_disk(path)
    return found


def _on_disk(path: str) -> str:
    if os.path.islink(path):
        return "link " + os.readlink(path)
    kind = "executable" if os.stat(path).st_mode & 0o100 else "file"
    return f"{kind} {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"


STEPS = {
    "add": do_add,
    "checkout": do_checkout,
    "status": do_status,
    "verify": do_verify,
    "rebuild": do_rebuild,
    "read": do_read,
    "cli": do_cli,
}


def run_child(job: dict, answer: int) -> None:
    """Does a job and writes what came of it; never returns."""
    found: dict = {"points": [], "values": []}
    try:
        if "user" in job:
            # Nobody can read root's own Git settings.
            os.environ.update(GIT_CONFIG_GLOBAL=os.devnull, HOME="/", XDG_CONFIG_HOME="/")
            os.setgid(job["user"])
            os.setuid(job["user"])
        if "file_size" in job:
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], job["file_size"]))
        faults = Faults(job.get("fault") or {})
        faults.install()
        found["points"] = faults.points
        top = Path(job["top"])
        for name, *arguments in job["steps"]:
            found["values"].append(STEPS[name](top, *arguments))
    except DatastoreError as error:
        found["error"] = {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "where": error.where,
            "paths": list(error.paths) if isinstance(error, ConflictError) else [],
        }
    except BaseException as error:  # noqa: BLE001  (told to the test, which fails with it)
        found["error"] = {"kind": type(error).__name__, "message": traceback.format_exc()}
    finally:
        data = json.dumps(found).encode("utf-8", "surrogatepass")
        while data:
            data = data[real_write(answer, data) :]
        os._exit(0)


# -- the server ----------------------------------------------------------------------------------


def serve() -> None:
    """Reads jobs, a line each, and answers with a line each."""
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(run_job(json.loads(line))) + "\n")
        sys.stdout.flush()


def run_job(job: dict) -> dict:
    """Forks a child for a job, kills it when its time is up, and collects what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        run_child(job, writing)
    os.close(writing)
    limit = job.get("seconds", PATIENCE)
    data, ended = collect(reading, time.monotonic() + limit)
    os.close(reading)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, state = os.waitpid(child, 0)
    found = json.loads(data) if data and ended else {"points": [], "values": []}
    found["signal"] = os.WTERMSIG(state) if os.WIFSIGNALED(state) else 0
    found["hung"] = not ended and "seconds" not in job
    return found


def collect(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """Reads until the other end closes; False when time is up before."""
    pieces = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
    return b"", False


# -- the other end -------------------------------------------------------------------------------


class Driver:
    """Runs jobs in the server; a context manager."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait()

    def run(
        self,
        top: Path,
        *steps: tuple[str, ...],
        fault: dict | None = None,
        seconds: float | None = None,
        file_size: int | None = None,
        user: int | None = None,
    ) -> SimpleNamespace:
        """Runs steps in one child.

        Args:
            top: The worktree.
            steps: Name and arguments of each.
            fault: A plan, see `Faults`.
            seconds: The child is killed after so long, if it still runs.
            file_size: No file may become larger, in bytes.
            user: The child runs as this user; for root only.

        Returns:
            `values` of the steps, `error` or None, `points`, the `signal` that ended it or 0.
        """
        job = {"top": str(top), "steps": steps, "fault": fault}
        if seconds is not None:
            job["seconds"] = seconds
        if file_size is not None:
            job["file_size"] = file_size
        if user is not None:
            job["user"] = user
        self._server.stdin.write(json.dumps(job).encode() + b"\n")
        self._server.stdin.flush()
        found = json.loads(self._server.stdout.readline())
        assert not found["hung"], f"{steps} with {fault} hangs"
        error = found.get("error")
        return SimpleNamespace(
            values=found["values"],
            error=SimpleNamespace(**error) if error else None,
            points=found["points"],
            signal=found["signal"],
        )

    def do(self, top: Path, *steps: tuple[str, ...]) -> list:
        """Runs steps that must succeed; gives what each returned."""
        found = self.run(top, *steps)
        assert found.error is None, f"{steps}: {found.error}"
        assert found.signal == 0
        return found.values


def spread(items: list, count: int) -> list:
    """Picks about `count` items, evenly, first and last among them."""
    if len(items) <= count:
        return items
    steps = {round(at * (len(items) - 1) / (count - 1)) for at in range(count)}
    return [items[at] for at in sorted(steps)]


def kills(points: list[str]) -> list[dict]:
    """Lists the plans that kill at each point, before and after."""
    return [
        {"point": point, "kill": when}
        for point, when in itertools.product(points, ("before", "after"))
    ]


if __name__ == "__main__":
    serve()
