"""The driver of `tests.faults.driver`, for commands that use a remote.

Besides the calls by which the disk is changed every call of a storage is a point: ``s3 write#2`` is
the second object that is written to the remote.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import datastore.storage.s3  # noqa: F401  (not in each child)
from datastore.cli.commands import fetch, pull, push  # noqa: F401
from datastore.repository import Repository
from datastore.storage.counting import Counted
from tests.faults import driver
from tests.faults.driver import SOURCE, STEPS, Driver, Faults

CALLS = ("read", "read_range", "write", "create", "size", "delete")


class RemoteFaults(Faults):
    """What goes wrong in this process, on the disk or with the remote."""

    def install(self) -> None:
        super().install()
        for name in CALLS:
            setattr(Counted, name, self._wrap_call(f"remote-{name}", getattr(Counted, name)))

    def _wrap_call(self, point: str, function):
        def wrapped(*arguments):
            return self.call(point, function, arguments, {})

        return wrapped


def do_push(top: Path, *revs: str):
    with Repository.open(top) as repository:
        done = repository.push(list(revs) or None)
    return {"packs": done.packs, "roots": len(done.roots), "healed": len(done.healed)}


def do_pull(top: Path, *revs: str):
    with Repository.open(top) as repository:
        return repository.pull(*revs).files


def do_fetch(top: Path, *revs: str):
    with Repository.open(top) as repository:
        return repository.fetch(list(revs) or None).versions


class RemoteDriver(Driver):
    """Runs jobs, pushes and pulls among them, in children of a server; a context manager."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )


if __name__ == "__main__":
    STEPS.update({"push": do_push, "pull": do_pull, "fetch": do_fetch})
    driver.Faults = RemoteFaults
    driver.serve()
