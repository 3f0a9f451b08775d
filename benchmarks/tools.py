"""The programs that are compared, and how each is asked for the same work.

A program is looked for on PATH and beside the running Python; an environment variable (`DVC`,
`RESTIC`, ...) names another one. One that is not found is left out of the run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from measure import Command

GITCONFIG = """\
[user]
	name = Benchmark
	email = benchmark@example.org
[init]
	defaultBranch = main
[gc]
	autoDetach = false
[advice]
	detachedHead = false
[filter "lfs"]
	clean = git-lfs clean -- %f
	smudge = git-lfs smudge -- %f
	process = git-lfs filter-process
	required = true
"""


class Tool:
    """One program in a directory of its own: ``top/repo/data`` is the user's data.

    A method returns the commands of a step, to be run in ``top/repo``; an empty list means that the
    program has no such step.

    Args:
        program: Path of the executable.
        top: Directory for everything the program writes.
    """

    name: ClassVar[str]
    executable: ClassVar[str]
    variable: ClassVar[str]
    version: ClassVar[str] = "--version"

    def __init__(self, program: str, top: Path) -> None:
        self.program = program
        self.top = top
        self.repo = top / "repo"
        self.data = self.repo / "data"

    def environment(self) -> dict[str, str]:
        """Returns an environment in which nothing of the user's settings or caches is seen."""
        folder = os.path.dirname(os.path.abspath(self.program))
        return {
            "PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)]),
            "HOME": str(self.top / "home"),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": str(self.top / "gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
        } | self.settings()

    def settings(self) -> dict[str, str]:
        """Returns the program's own part of the environment."""
        return {}

    def prepare(self) -> None:
        """Makes the directories and the Git configuration."""
        for folder in (self.repo, self.top / "home"):
            folder.mkdir(parents=True)
        (self.top / "gitconfig").write_text(GITCONFIG, encoding="utf-8")

    def setup(self) -> list[Command]:
        """Makes an empty repository or store; not measured."""
        raise NotImplementedError

    def add(self, version: str) -> list[Command]:
        """Stores ``data`` as a version that can be named later."""
        raise NotImplementedError

    def again(self) -> list[Command]:
        """Stores ``data`` when nothing in it has changed."""
        raise NotImplementedError

    def status(self) -> list[Command]:
        """Says what has changed in ``data``."""
        return []

    def checkout(self, version: str) -> list[Command]:
        """Makes ``data`` what it was in a version."""
        return []

    def store(self) -> Mapping[str, list[Path]]:
        """Returns the directories of the store, by the part of it they are."""
        raise NotImplementedError


def commit(version: str) -> list[Command]:
    """Returns the commands that put a version into Git under its name."""
    return [["git", "add", "-A"], ["git", "commit", "-qm", version], ["git", "tag", version]]


class Datastore(Tool):
    """The product."""

    name = "datastore"
    executable = "datastore"
    variable = "DATASTORE"

    def setup(self) -> list[Command]:
        """See `Tool.setup`."""
        return [
            ["git", "init", "-q"],
            [self.program, "init"],
            ["git", "add", "-A"],
            ["git", "commit", "-q", "--allow-empty", "-m", "init"],
        ]

    def add(self, version: str) -> list[Command]:
        """See `Tool.add`."""
        return [[self.program, "add", "data"], *commit(version)]

    def again(self) -> list[Command]:
        """See `Tool.again`."""
        return [[self.program, "add", "data"]]

    def status(self) -> list[Command]:
        """See `Tool.status`."""
        return [[self.program, "status"]]

    def checkout(self, version: str) -> list[Command]:
        """See `Tool.checkout`."""
        return [["git", "checkout", "-q", version], [self.program, "checkout"]]

    def store(self) -> Mapping[str, list[Path]]:
        """See `Tool.store`."""
        top = self.repo / ".git" / "datastore"
        return {"packs": [top / "packs"], "index": [top / "index"]}


class Dvc(Tool):
    """DVC with hard links between workspace and cache: its fastest way without reflinks."""

    name = "dvc"
    executable = "dvc"
    variable = "DVC"

    def settings(self) -> dict[str, str]:
        """Keeps its state database apart, and its usage report and update check off."""
        return {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.top / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.top / "global"),
        }

    def setup(self) -> list[Command]:
        """See `Tool.setup`."""
        config = [self.program, "config"]
        return [
            ["git", "init", "-q"],
            [self.program, "init", "-q"],
            [*config, "core.analytics", "false"],
            [*config, "core.check_update", "false"],
            [*config, "cache.type", "hardlink,symlink"],
            ["git", "add", "-A"],
            ["git", "commit", "-qm", "init"],
        ]

    def add(self, version: str) -> list[Command]:
        """See `Tool.add`."""
        return [[self.program, "add", "data"], *commit(version)]

    def again(self) -> list[Command]:
        """See `Tool.again`."""
        return [[self.program, "add", "data"]]

    def status(self) -> list[Command]:
        """See `Tool.status`."""
        return [[self.program, "status"]]

    def checkout(self, version: str) -> list[Command]:
        """See `Tool.checkout`."""
        return [["git", "checkout", "-q", version], [self.program, "checkout"]]

    def store(self) -> Mapping[str, list[Path]]:
        """See `Tool.store`."""
        return {"cache": [self.repo / ".dvc" / "cache"]}


class GitLfs(Tool):
    """Git with the Large File Storage filter for all of ``data``."""

    name = "git-lfs"
    executable = "git-lfs"
    variable = "GIT_LFS"

    def prepare(self) -> None:
        """Names the files that go through the filter."""
        super().prepare()
        rule = "data/** filter=lfs diff=lfs merge=lfs -text\n"
        (self.repo / ".gitattributes").write_text(rule, encoding="utf-8")

    def setup(self) -> list[Command]:
        """See `Tool.setup`."""
        return [["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "init"]]

    def add(self, version: str) -> list[Command]:
        """See `Tool.add`."""
        return commit(version)

    def again(self) -> list[Command]:
        """See `Tool.again`."""
        return [["git", "add", "-A"]]

    def status(self) -> list[Command]:
        """See `Tool.status`."""
        return [["git", "status", "--short"]]

    def checkout(self, version: str) -> list[Command]:
        """See `Tool.checkout`."""
        return [["git", "checkout", "-q", version]]

    def store(self) -> Mapping[str, list[Path]]:
        """See `Tool.store`."""
        git = self.repo / ".git"
        return {"lfs": [git / "lfs" / "objects"], "git": [git / "objects"]}


class Restic(Tool):
    """The backup program restic, which deduplicates, packs and encrypts."""

    name = "restic"
    executable = "restic"
    variable = "RESTIC"
    version = "version"

    def settings(self) -> dict[str, str]:
        """Names its repository."""
        return {
            "RESTIC_REPOSITORY": str(self.top / "remote"),
            "RESTIC_PASSWORD": "benchmark",
            "RESTIC_CACHE_DIR": str(self.top / "cache"),
        }

    def setup(self) -> list[Command]:
        """See `Tool.setup`."""
        return [[self.program, "init"]]

    def add(self, version: str) -> list[Command]:
        """See `Tool.add`."""
        return [[self.program, "backup", "--tag", version, "data"]]

    def again(self) -> list[Command]:
        """See `Tool.again`."""
        return [[self.program, "backup", "data"]]

    def store(self) -> Mapping[str, list[Path]]:
        """See `Tool.store`."""
        return {"packs": [self.top / "remote" / "data"], "index": [self.top / "remote" / "index"]}


class Borg(Tool):
    """The backup program Borg, without encryption, with its default chunks and compression."""

    name = "borg"
    executable = "borg"
    variable = "BORG"

    def settings(self) -> dict[str, str]:
        """Names its repository and answers its questions."""
        return {
            "BORG_REPO": str(self.top / "remote"),
            "BORG_BASE_DIR": str(self.top / "base"),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }

    def setup(self) -> list[Command]:
        """See `Tool.setup`."""
        return [[self.program, "init", "--encryption", "none"]]

    def add(self, version: str) -> list[Command]:
        """See `Tool.add`."""
        return [[self.program, "create", f"::{version}", "data"]]

    def again(self) -> list[Command]:
        """See `Tool.again`; an archive needs a name of its own."""
        return [[self.program, "create", "::again-{now:%Y%m%d%H%M%S%f}", "data"]]

    def store(self) -> Mapping[str, list[Path]]:
        """See `Tool.store`."""
        return {"data": [self.top / "remote" / "data"]}


TOOLS: Mapping[str, type[Tool]] = {
    tool.name: tool for tool in (Datastore, Dvc, GitLfs, Restic, Borg)
}
PRODUCT = Datastore.name


def find(name: str) -> str | None:
    """Returns the path of a tool's program, or None if it is not installed."""
    tool = TOOLS[name]
    if given := os.environ.get(tool.variable):
        return shutil.which(given)
    beside = os.path.dirname(sys.executable)
    return shutil.which(tool.executable, path=beside) or shutil.which(tool.executable)
