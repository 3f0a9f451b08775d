"""How each program is asked to bring its data to an S3 server and back.

What a program does in a repository of its own is in `tools.py`; here is what it does with remotes,
of which each has one for every network. All are given the same number of transfers at once.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tools
from measure import Command
from network import BUCKET, CREDENTIALS

JOBS = 16


@dataclass(frozen=True, slots=True)
class Remote:
    """A place of one tool on the server, by way of one network.

    Attributes:
        name: What the tool calls it.
        endpoint: Where its requests go.
        prefix: In the bucket.
    """

    name: str
    endpoint: str
    prefix: str


class RemoteTool(tools.Tool):
    """A program that has remotes.

    Attributes:
        per_file: It makes a request or more for every file, so that a large set of small ones is
            measured on a sample.
        push_adds: Its push reads and packs the data too, which others do in `add`.
    """

    per_file: ClassVar[bool] = False
    push_adds: ClassVar[bool] = False

    def environment(self) -> dict[str, str]:
        """See `tools.Tool.environment`."""
        return super().environment() | CREDENTIALS

    def connect(self, remotes: Sequence[Remote]) -> list[Command]:
        """Names the remotes, in a repository that `setup` has made; not measured."""
        raise NotImplementedError

    def push(self, remote: Remote) -> list[Command]:
        """Sends what was added last."""
        raise NotImplementedError

    def elsewhere(self, target: Path) -> Mapping[str, str]:
        """Returns what is different in the environment of another machine, which pulls."""
        return {}

    def pull(self, remote: Remote, target: Path) -> list[Command]:
        """Brings the newest version to ``target/data``; there is no `target` yet."""
        raise NotImplementedError


class Datastore(RemoteTool, tools.Datastore):
    """The product, as it comes."""

    def connect(self, remotes: Sequence[Remote]) -> list[Command]:
        """See `RemoteTool.connect`."""
        adds = [
            [
                *[self.program, "remote", "add", one.name, f"s3://{BUCKET}/{one.prefix}"],
                *["-o", f"endpoint_url={one.endpoint}", "--no-check"],
            ]
            for one in remotes
        ]
        return [*adds, ["git", "add", "-A"], ["git", "commit", "-qm", "remotes"]]

    def push(self, remote: Remote) -> list[Command]:
        """See `RemoteTool.push`."""
        return [[self.program, "push", "--remote", remote.name]]

    def pull(self, remote: Remote, target: Path) -> list[Command]:
        """See `RemoteTool.pull`."""
        return self.pull_paths(remote, target)

    def pull_paths(self, remote: Remote, target: Path, *paths: str) -> list[Command]:
        """Clones the Git repository and brings everything, or some paths."""
        top = str(target)
        return [
            ["git", "clone", "-q", str(self.repo), top],
            ["env", "-C", top, self.program, "pull", "--remote", remote.name, *paths],
        ]


class Dvc(RemoteTool, tools.Dvc):
    """DVC, hard links between workspace and cache."""

    per_file = True

    def connect(self, remotes: Sequence[Remote]) -> list[Command]:
        """See `RemoteTool.connect`."""
        commands = []
        for one in remotes:
            remote = [self.program, "remote"]
            commands += [
                [*remote, "add", one.name, f"s3://{BUCKET}/{one.prefix}"],
                [*remote, "modify", one.name, "endpointurl", one.endpoint],
            ]
        return [*commands, ["git", "add", "-A"], ["git", "commit", "-qm", "remotes"]]

    def push(self, remote: Remote) -> list[Command]:
        """See `RemoteTool.push`."""
        return [[self.program, "push", "-q", "-j", str(JOBS), "-r", remote.name]]

    def elsewhere(self, target: Path) -> Mapping[str, str]:
        """See `RemoteTool.elsewhere`."""
        return {"DVC_SITE_CACHE_DIR": f"{target}-site"}

    def pull(self, remote: Remote, target: Path) -> list[Command]:
        """See `RemoteTool.pull`."""
        pull = [self.program, "pull", "-q", "-j", str(JOBS), "-r", remote.name]
        return [
            ["git", "clone", "-q", str(self.repo), str(target)],
            ["env", "-C", str(target), *pull],
        ]


class Restic(RemoteTool, tools.Restic):
    """restic: `backup`, which is add and push in one, and `restore` with an empty cache."""

    push_adds = True

    def settings(self) -> dict[str, str]:
        """See `tools.Tool.settings`."""
        return {"RESTIC_PASSWORD": "benchmark", "RESTIC_CACHE_DIR": str(self.top / "cache")}

    def setup(self) -> list[Command]:
        """See `tools.Tool.setup`."""
        return []

    def add(self, version: str) -> list[Command]:
        """See `tools.Tool.add`."""
        return []

    def connect(self, remotes: Sequence[Remote]) -> list[Command]:
        """See `RemoteTool.connect`."""
        return [[*self._to(one), "init"] for one in remotes]

    def push(self, remote: Remote) -> list[Command]:
        """See `RemoteTool.push`."""
        return [[*self._to(remote), "backup", "-q", "data"]]

    def elsewhere(self, target: Path) -> Mapping[str, str]:
        """See `RemoteTool.elsewhere`."""
        return {"RESTIC_CACHE_DIR": f"{target}-cache"}

    def pull(self, remote: Remote, target: Path) -> list[Command]:
        """See `RemoteTool.pull`."""
        return [[*self._to(remote), "restore", "-q", "latest", "--target", str(target)]]

    def _to(self, remote: Remote) -> Command:
        place = f"s3:{remote.endpoint}/{BUCKET}/{remote.prefix}"
        return [self.program, "-r", place, "-o", f"s3.connections={JOBS}"]


class Rclone(RemoteTool):
    """rclone: the plain files, an object each; no versions."""

    name = "rclone"
    executable = "rclone"
    variable = "RCLONE"
    per_file = True

    def settings(self) -> dict[str, str]:
        """See `tools.Tool.settings`."""
        return {
            "RCLONE_CONFIG": str(self.top / "rclone.conf"),
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
            "RCLONE_TRANSFERS": str(JOBS),
            "RCLONE_CHECKERS": str(JOBS),
            "RCLONE_FAST_LIST": "true",
            # To compare times it would ask for the head of every object.
            "RCLONE_CHECKSUM": "true",
        }

    def setup(self) -> list[Command]:
        """See `tools.Tool.setup`."""
        return []

    def add(self, version: str) -> list[Command]:
        """See `tools.Tool.add`."""
        return []

    def connect(self, remotes: Sequence[Remote]) -> list[Command]:
        """See `RemoteTool.connect`."""
        return []

    def push(self, remote: Remote) -> list[Command]:
        """See `RemoteTool.push`."""
        return [self._sync(remote, "data", self._place(remote))]

    def pull(self, remote: Remote, target: Path) -> list[Command]:
        """See `RemoteTool.pull`."""
        return [self._sync(remote, self._place(remote), str(target / "data"))]

    def _place(self, remote: Remote) -> str:
        return f":s3:{BUCKET}/{remote.prefix}"

    def _sync(self, remote: Remote, source: str, target: str) -> Command:
        return [self.program, "sync", "--s3-endpoint", remote.endpoint, source, target]


REMOTE_TOOLS: Mapping[str, type[RemoteTool]] = {
    tool.name: tool for tool in (Datastore, Dvc, Restic, Rclone)
}


def find(name: str) -> str | None:
    """Returns the path of a tool's program, or None if it is not installed."""
    tool = REMOTE_TOOLS[name]
    if given := os.environ.get(tool.variable):
        return shutil.which(given)
    beside = os.path.dirname(sys.executable)
    return shutil.which(tool.executable, path=beside) or shutil.which(tool.executable)
